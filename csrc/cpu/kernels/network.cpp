// The whole tail of se_e2_a models for inference, exact or with operands rounded to bfloat16.
#include "cpu/kernels/network.hpp"

#include "cpu/kernels/entries.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// bfloat16 values in float32 registers, for machines without instructions for them: the same numbers, no gain.
struct Rounded : Plain<float> {
  DCHARGE_INLINE void convert(const float* from, int64_t n, float* to) {
    for (int64_t i = 0; i < n; ++i) {
      uint32_t u;
      __builtin_memcpy(&u, from + i, 4);
      uint32_t even = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
      u = (u & 0x7fffffffu) > 0x7f800000u ? u : even;  // nan stays nan
      __builtin_memcpy(to + i, &u, 4);
    }
  }
};

}  // namespace

template <class T>
void network(const Network<T>& n, const T* moments, int64_t n_points, T* out, void* scratch) {
  if constexpr (std::is_same_v<T, float>) {
    if (n.operands == NetworkOperands::rounded) {
      network_of<T, Rounded>(n, moments, n_points, out, scratch);
      return;
    }
  }
  network_of<T, Exact<T>>(n, moments, n_points, out, scratch);
}

template <class T>
size_t network_scratch(const Network<T>& n) {
  return network_scratch_of<T, Exact<T>>(n);
}

template void network<float>(const Network<float>&, const float*, int64_t, float*, void*);
template void network<double>(const Network<double>&, const double*, int64_t, double*, void*);
template size_t network_scratch<float>(const Network<float>&);
template size_t network_scratch<double>(const Network<double>&);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
