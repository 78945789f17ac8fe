// gram and its adjoint for A in memory.
#include "cpu/kernels/gram.hpp"

#include "cpu/kernels/entries.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

template <class T>
void copy_padded(const T* a, int64_t n_comp, int64_t m, int64_t stride, T* out) {
  for (int64_t k = 0; k < n_comp; ++k) {
    __builtin_memcpy(out + k * stride, a + k * m, m * sizeof(T));
    __builtin_memset(out + k * stride + m, 0, (stride - m) * sizeof(T));
  }
}

}  // namespace

template <class T>
void gram(const Contraction<T>& c, int64_t n, int64_t n_comp, const T* a, T* d, void* scratch) {
  int64_t stride = gram_stride(c.m);
  T* row = static_cast<T*>(scratch);
  for (int64_t p = 0; p < n; ++p) {
    copy_padded(a + p * n_comp * c.m, n_comp, c.m, stride, row);
    gram_point<T>(c, n_comp, row, stride, d + p * c.row_length);
  }
}

template <class T>
void gram_backward(const Contraction<T>& c, int64_t n, int64_t n_comp, const T* grad, const T* a, T* d_a,
                   void* scratch) {
  int64_t stride = gram_stride(c.m);
  T* row = static_cast<T*>(scratch);
  T* d_row = row + n_comp * stride;
  for (int64_t p = 0; p < n; ++p) {
    copy_padded(a + p * n_comp * c.m, n_comp, c.m, stride, row);
    __builtin_memset(d_row, 0, n_comp * stride * sizeof(T));
    gram_point_backward<T>(c, n_comp, grad + p * c.row_length, row, stride, d_row);
    for (int64_t k = 0; k < n_comp; ++k) {
      __builtin_memcpy(d_a + (p * n_comp + k) * c.m, d_row + k * stride, c.m * sizeof(T));
    }
  }
}

template void gram<float>(const Contraction<float>&, int64_t, int64_t, const float*, float*, void*);
template void gram<double>(const Contraction<double>&, int64_t, int64_t, const double*, double*, void*);
template void gram_backward<float>(const Contraction<float>&, int64_t, int64_t, const float*, const float*, float*,
                                   void*);
template void gram_backward<double>(const Contraction<double>&, int64_t, int64_t, const double*, const double*, double*,
                                    void*);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
