// The table of kernels of the instruction set this file is compiled for.
#include "core/bases.hpp"
#include "core/orbitals.hpp"
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/gram.hpp"
#include "cpu/kernels/stream.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

template <class T>
size_t scratch(const Radial& r, int64_t m_padded) {
  int64_t n_comp = n_components(static_cast<int>(r.l_max));
  int64_t n_radial = (r.n_radial + kPad - 1) / kPad * kPad;
  int64_t vectors = n_comp * (2 * n_radial + m_padded);                                // moments twice (backward), A
  int64_t scalars = n_comp * gram_stride(m_padded) * (kLanes<T> > 2 ? kLanes<T> : 2);  // A by rows (gram: A and dA)
  return vectors * sizeof(Vec<T>) + scalars * sizeof(T);
}

template <class T>
size_t orbital_scratch(const Orbitals& o) {
  int64_t sums = n_monomials(static_cast<int>(o.l_max)) * o.n_waves;
  int64_t features = (o.l_max + 1) * o.n_waves * (o.n_waves + 1) / 2;
  // two sets of sums and one of features (Gram matrix, backward), weights of a buffer of atoms (backward)
  return (2 * (sums + kPad) + features + kPad + kBuffer * o.n_waves) * sizeof(Vec<T>);
}

template <class T>
constexpr KernelsOf<T> kernels_of() {
  return {kLanes<T>,
          scratch<T>,
          moments<T>,
          moments_backward<T>,
          se_e2_a<T>,
          gram<T>,
          gram_backward<T>,
          network<T>,
          network_scratch<T>,
          orbital_scratch<T>,
          orbital_sums<T>,
          ead<T>,
          ead_network<T>,
          ead_network_scratch<T>,
          orbital_sums_backward<T>,
          orbital_gram<T>,
          orbital_gram_backward<T>,
          probe_pairs<T>,
          probe_messages<T>,
          probe_parameters<T>,
          probe_positions<T>,
          crystal_convolution<T>,
          crystal_convolution_backward<T>,
          crystal_pairs<T>,
          crystal_network<T>,
          crystal_network_scratch<T>,
          pair_messages<T>,
          pair_messages_backward<T>,
          message_scratch<T>,
          message_network<T>,
          message_network_scratch<T>};
}

}  // namespace

#define DCHARGE_TEXT(x) #x
#define DCHARGE_NAME(x) DCHARGE_TEXT(x)
extern const Kernels kernels;
const Kernels kernels = {DCHARGE_NAME(DCHARGE_ISA), kernels_of<float>(), kernels_of<double>()};

}  // namespace DCHARGE_ISA
}  // namespace dcharge
