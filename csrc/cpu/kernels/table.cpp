// The table of kernels of the instruction set this file is compiled for.
#include "core/bases.hpp"
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/gram.hpp"
#include "cpu/kernels/vec.hpp"

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
constexpr KernelsOf<T> kernels_of() {
  return {kLanes<T>, scratch<T>,          moments<T>, moments_backward<T>, se_e2_a<T>,
          gram<T>,   gram_backward<T>, network<T>, network_scratch<T>};
}

}  // namespace

#define DCHARGE_TEXT(x) #x
#define DCHARGE_NAME(x) DCHARGE_TEXT(x)
extern const Kernels kernels;
const Kernels kernels = {DCHARGE_NAME(DCHARGE_ISA), kernels_of<float>(), kernels_of<double>()};

}  // namespace DCHARGE_ISA
}  // namespace dcharge
