// Moments -> A = P.C + offset -> Gram matrix -> fitting net -> output, for blocks of points: nothing of a point but its
// moments and its output passes through memory.
//
// The block of D that is symmetric (both columns among the axis columns of a degree) is kept once; the weights of the
// first layer have it folded.
#pragma once

#include "cpu/kernels/dense.hpp"
#include "cpu/kernels/gram.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// Inputs of a layer as the operands are held: bfloat16 ones come in whole vectors.
template <class T>
DCHARGE_INLINE int64_t inputs_padded(const Network<T>& n, int64_t k) {
  return n.operands == NetworkOperands::bfloat16 ? (k + kPad - 1) / kPad * kPad : k;
}

template <class T>
DCHARGE_INLINE int64_t moments_row(const Network<T>& n) {
  return n.n_types * n.n_comp * n.n_radial;
}

// Where a block of rows is worked on; all arrays 64-byte aligned.
template <class T, class In>
struct NetworkScratch {
  T* moments;   // [kBlockRows][row of moments], the last, partly filled block
  T* a;         // [kBlockRows][n_comp][gram_stride(m)]
  T* row;       // [n_input_padded + kPad], one row of D
  In* d;        // [kBlockRows][n_input_padded]
  T *x, *y;     // [kBlockRows][width], layers
  In* rounded;  // [kBlockRows][width]
  int64_t width, bytes;

  NetworkScratch(const Network<T>& n, void* memory) {
    auto* at = static_cast<char*>(memory);
    bytes = 0;
    auto part = [&](auto*& pointer, int64_t count) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(at + bytes);
      bytes += (count * int64_t(sizeof(*pointer)) + 63) / 64 * 64;
    };
    width = kPad;
    for (int64_t i = 0; i < n.n_layers; ++i) {
      width = width > n.widths[i] + kPad ? width : n.widths[i] + kPad;
    }
    width = (width + kPad - 1) / kPad * kPad;
    part(moments, kBlockRows * moments_row(n));
    part(a, kBlockRows * n.n_comp * gram_stride(n.contraction.m));
    part(row, inputs_padded(n, n.n_input) + kPad);
    part(d, kBlockRows * inputs_padded(n, n.n_input));
    part(x, kBlockRows * width);
    part(y, kBlockRows * width);
    part(rounded, kBlockRows * width);
  }
};

// One row of D, the symmetric part of each degree as its lower triangle: D[m, i] for i <= min(m, axis - 1).
// Rows are written in order as whole vectors; what is too much of one is overwritten by the next.
template <class T>
DCHARGE_INLINE void gram_folded(const Contraction<T>& c, int64_t n_comp, const T* a, int64_t stride, T* out) {
  constexpr int W = kLanes<T>, B = 8;
  T* d = out;
  for_blocks(c, n_comp, [&](int64_t first, int64_t last, int64_t axis, int64_t) {
    for (int64_t m = 0; m < c.m; m += B) {
      T* begin = d;
      for (int64_t i = 0; i < axis; i += W) {
        Vec<T> sum[B];
        gram_rows<T, B>(a, stride, first, last, m, i, sum);
        d = begin;
        for (int j = 0; j < B && m + j < c.m; ++j) {
          int64_t count = m + j < axis ? m + j + 1 : axis;
          if (i < count) {
            // with several vectors a row, an earlier row's excess must not overwrite the start of a later one
            int64_t length = count - i < W ? count - i : W;
            if (axis <= W || length == W) {
              store<T>(d + i, sum[j]);
            } else {
              __builtin_memcpy(d + i, &sum[j], length * sizeof(T));
            }
          }
          d += count;
        }
      }
    }
  });
}

// How activations become operands of a product. `In` is T itself: nothing to do but for rounding.
template <class T>
struct Exact : Plain<T> {
  DCHARGE_INLINE void convert(const T* from, int64_t n, T* to) {
    if (from != to) {
      __builtin_memcpy(to, from, n * sizeof(T));
    }
  }
};

template <class T, class Operand>
void network_of(const Network<T>& n, const T* moments, int64_t n_points, T* out, void* memory) {
  using In = typename Operand::In;
  constexpr bool same = std::is_same_v<Operand, Exact<T>>;
  NetworkScratch<T, In> s(n, memory);
  const Contraction<T>& c = n.contraction;
  int64_t stride = gram_stride(c.m), row = moments_row(n), k_first = inputs_padded(n, n.n_input);
  // columns behind the last of a layer meet weights of zero, which do not forgive a nan
  __builtin_memset(s.x, 0, kBlockRows * s.width * sizeof(T));
  __builtin_memset(s.y, 0, kBlockRows * s.width * sizeof(T));
  for (int64_t start = 0; start < n_points; start += kBlockRows) {
    int64_t count = n_points - start < kBlockRows ? n_points - start : kBlockRows;
    const T* p = moments + start * row;
    if (count < kBlockRows) {
      __builtin_memcpy(s.moments, p, count * row * sizeof(T));
      __builtin_memset(s.moments + count * row, 0, (kBlockRows - count) * row * sizeof(T));
      p = s.moments;
    }
    for (int64_t l = 0, k = 0; k < n.n_comp; ++l) {
      const T* weights = c.c + l * n.n_types * n.n_radial * c.m_padded;
      for (; k < (l + 1) * (l + 1); ++k) {
        T* a = s.a + k * stride;
        product<T, Plain<T>>(p + k * n.n_radial, row, weights, c.m_padded / kPad, n.n_radial, n.n_types,
                             n.n_comp * n.n_radial, [&](int64_t r, int64_t column, Vec<T> v) {
                               store<T>(a + r * n.n_comp * stride + column, k ? v : v + load<T>(c.offset + column));
                             });
      }
    }
    for (int64_t r = 0; r < kBlockRows; ++r) {
      In* d = s.d + r * k_first;
      T* to = s.row;
      gram_folded<T>(c, n.n_comp, s.a + r * n.n_comp * stride, stride, to);
      __builtin_memset(to + n.n_input, 0, (k_first - n.n_input) * sizeof(T));
      Operand::convert(to, k_first, d);
    }
    const In* x = s.d;
    int64_t x_stride = k_first, k = k_first;
    const auto* weights = static_cast<const typename Operand::Weight*>(n.weights);
    const T* vectors = n.vectors;
    for (int64_t i = 0; i < n.n_layers; ++i) {
      int64_t padded = (n.widths[i] + kPad - 1) / kPad * kPad, skip = n.skips[i];
      const T *bias = vectors, *dt = vectors + padded, *before = s.x;
      if (skip == 2) {  // [x, x]
        for (int64_t r = 0; r < kBlockRows; ++r) {
          T* from = s.x + r * s.width;
          __builtin_memcpy(from + n.widths[i - 1], from, n.widths[i - 1] * sizeof(T));
          __builtin_memset(from + n.widths[i], 0, (padded - n.widths[i]) * sizeof(T));
        }
      }
      product<T, Operand>(x, x_stride, weights, padded / kPad, k, 1, 0, [&](int64_t r, int64_t column, Vec<T> v) {
        v = tanh(v + load<T>(bias + column)) * load<T>(dt + column);
        int64_t at = r * s.width + column;
        store<T>(s.y + at, skip ? v + load<T>(before + at) : v);
      });
      T* done = s.y;
      s.y = s.x;
      s.x = done;
      weights += padded * k;
      vectors += 2 * padded;
      k = inputs_padded(n, n.widths[i]);
      x_stride = s.width;
      if constexpr (same) {
        x = s.x;
      } else {
        x = s.rounded;
        for (int64_t r = 0; r < kBlockRows; ++r) {
          Operand::convert(s.x + r * s.width, k, s.rounded + r * s.width);
        }
      }
    }
    int64_t last = n.widths[n.n_layers - 1], padded = (last + kPad - 1) / kPad * kPad;
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t o = 0; o < n.n_output; ++o) {
        Vec<T> total{};
        for (int64_t i = 0; i < padded; i += kLanes<T>) {
          total += load<T>(s.x + r * s.width + i) * load<T>(vectors + o * padded + i);
        }
        out[(start + r) * n.n_output + o] = sum<T>(total) + vectors[n.n_output * padded + o];
      }
    }
  }
}

template <class T, class Operand>
size_t network_scratch_of(const Network<T>& n) {
  return NetworkScratch<T, typename Operand::In>(n, nullptr).bytes;
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
