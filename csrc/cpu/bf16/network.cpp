// The tail of se_e2_a models with the bfloat16 instructions of AVX512-BF16: two multiply-adds per lane and instruction.
#include "cpu/kernels/network.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// Weights in pairs of inputs, [panel][input / 2][16][2].
struct Pairs {
  using In = uint16_t;
  using Weight = uint16_t;
  static constexpr int step = 2;
  DCHARGE_INLINE __m512bh spread(const In* x) {
    int32_t two;
    __builtin_memcpy(&two, x, 4);
    return (__m512bh)_mm512_set1_epi32(two);
  }
  DCHARGE_INLINE __m512bh weights(const Weight* w) { return (__m512bh)_mm512_loadu_si512(w); }
  DCHARGE_INLINE void add(Vf& sum, __m512bh x, __m512bh w) {
    sum = (Vf)_mm512_dpbf16_ps((__m512)sum, x, w);
  }
  DCHARGE_INLINE void convert(const float* from, int64_t n, In* to) {
    for (int64_t i = 0; i < n; i += 16) {
      __m256i packed = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), packed);
    }
  }
};

}  // namespace

void network(const Network<float>& n, const float* moments, int64_t n_points, float* out, void* scratch) {
  network_of<float, Pairs>(n, moments, n_points, out, scratch);
}

}  // namespace DCHARGE_ISA
}  // namespace dcharge
