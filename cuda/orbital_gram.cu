// orbital_gram and its adjoint.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {
namespace {

template <class T>
struct GramElement {
  using Arguments = OrbitalGramArguments<T>;
  static constexpr int registers = 64;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { orbital_gram_element(a, i); }
};

template <class T>
struct GramBackwardElement {
  using Arguments = OrbitalGramArguments<T>;
  static constexpr int registers = 64;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { orbital_gram_backward_element(a, i); }
};

}  // namespace

template <class T>
int orbital_gram(const OrbitalGramArguments<T>& a, Stream stream) {
  return launch_elements<GramElement<T>>(a, a.n * (a.l_max + 1) * n_pairs(a.n_waves), stream);
}

template <class T>
int orbital_gram_backward(const OrbitalGramArguments<T>& a, Stream stream) {
  return launch_elements<GramBackwardElement<T>>(a, a.n * n_monomials(a.l_max) * a.n_waves, stream);
}

template int orbital_gram<float>(const OrbitalGramArguments<float>&, Stream);
template int orbital_gram<double>(const OrbitalGramArguments<double>&, Stream);
template int orbital_gram_backward<float>(const OrbitalGramArguments<float>&, Stream);
template int orbital_gram_backward<double>(const OrbitalGramArguments<double>&, Stream);

}  // namespace cuda
}  // namespace dcharge
