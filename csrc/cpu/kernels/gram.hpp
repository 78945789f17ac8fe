// Gram matrix of one point: rows of A [n_comp][stride], zero-padded to `stride`, in the L1 cache.
#pragma once

#include "cpu/kernels.hpp"
#include "cpu/kernels/vec.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// Stride of the rows of A in scratch: a vector may be read from any column.
constexpr int64_t gram_stride(int64_t m) { return (m + kPad - 1) / kPad * kPad + kPad; }

// Calls block(first component, last component + 1, axis columns, offset in a row of D).
template <class T, class F>
DCHARGE_INLINE void for_blocks(const Contraction<T>& c, int64_t n_comp, F block) {
  if (!c.per_l) {
    block(int64_t(0), n_comp, c.axis[0], int64_t(0));
    return;
  }
  int64_t offset = 0;
  for (int64_t l = 0; l * l < n_comp; ++l) {
    block(l * l, (l + 1) * (l + 1), c.axis[l], offset);
    offset += c.m * c.axis[l];
  }
}

// d[m * axis + i] = sum_k a[k][m] a[k][i] for B values of m from `m` on, i in one vector from `i` on.
template <class T, int B>
DCHARGE_INLINE void gram_rows(const T* a, int64_t stride, int64_t first, int64_t last, int64_t m, int64_t i,
                              Vec<T>* sum) {
  Vec<T> d[B];  // indexed by constants only, so that it lives in registers
#pragma GCC unroll 8
  for (int j = 0; j < B; ++j) {
    d[j] = Vec<T>{};
  }
  for (int64_t k = first; k < last; ++k) {
    Vec<T> axis = load<T>(a + k * stride + i);
#pragma GCC unroll 8
    for (int j = 0; j < B; ++j) {
      d[j] += a[k * stride + m + j] * axis;
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < B; ++j) {
    sum[j] = d[j];
  }
}

template <class T>
DCHARGE_INLINE void gram_point(const Contraction<T>& c, int64_t n_comp, const T* a, int64_t stride, T* out) {
  constexpr int W = kLanes<T>, B = 8;
  for_blocks(c, n_comp, [&](int64_t first, int64_t last, int64_t axis, int64_t offset) {
    T* d = out + offset;
    int64_t length = c.m * axis;
    for (int64_t i = 0; i < axis; i += W) {
      int64_t count = axis - i < W ? axis - i : W;
      // A short row may be written as a whole vector where the next row, written later, covers the excess.
      bool spill = axis < W;
      for (int64_t m = 0; m < c.m; m += B) {
        Vec<T> sum[B];
        gram_rows<T, B>(a, stride, first, last, m, i, sum);  // columns from c.m on are zero padding
        for (int j = 0; j < B && m + j < c.m; ++j) {
          int64_t at = (m + j) * axis + i;
          if (count == W || (spill && at + W <= length)) {
            store<T>(d + at, sum[j]);
          } else {
            __builtin_memcpy(d + at, &sum[j], count * sizeof(T));
          }
        }
      }
    }
  });
}

// d_a[k][.] += adjoint of gram_point for the row `grad` of dD.
template <class T>
DCHARGE_INLINE void gram_point_backward(const Contraction<T>& c, int64_t n_comp, const T* grad, const T* a,
                                        int64_t stride, T* d_a) {
  constexpr int W = kLanes<T>;
  for_blocks(c, n_comp, [&](int64_t first, int64_t last, int64_t axis, int64_t offset) {
    for (int64_t i = 0; i < axis; i += W) {
      int64_t count = axis - i < W ? axis - i : W;
      for (int64_t m = 0; m < c.m; m += W) {
        Vec<T> r[W];
        for (int j = 0; j < W; ++j) {
          const T* from = grad + offset + (m + j) * axis + i;
          r[j] = Vec<T>{};
          if (m + j < c.m) {
            if (count == W) {
              r[j] = load<T>(from);
            } else {
              __builtin_memcpy(&r[j], from, count * sizeof(T));
            }
          }
        }
        for (int64_t k = first; k < last; ++k) {
          Vec<T> sum = load<T>(d_a + k * stride + i);
#pragma GCC unroll 16
          for (int j = 0; j < W; ++j) {
            sum += a[k * stride + m + j] * r[j];
          }
          store<T>(d_a + k * stride + i, sum);
        }
        transpose<T>(r);
        for (int64_t k = first; k < last; ++k) {
          Vec<T> sum = load<T>(d_a + k * stride + m);
#pragma GCC unroll 16
          for (int j = 0; j < W; ++j) {
            sum += a[k * stride + i + j] * r[j];
          }
          store<T>(d_a + k * stride + m, sum);
        }
      }
    }
  });
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
