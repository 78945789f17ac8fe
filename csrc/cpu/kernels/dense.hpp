// Dense layers of a block of rows: packed matrix product, tanh, time step, skip connection, in registers.
//
// Weights come in panels of 16 output columns, [panel][input][16], so that a step over one input reads one stretch of
// memory. The rows of a block stay in the second-level cache, a panel passes through it once for all of them.
#pragma once

#include <type_traits>

#include "cpu/kernels.hpp"
#include "cpu/kernels/vec.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr int kBlockRows = kNetworkRows;

// Vectors of a panel, rows and panels that are summed at once: as many sums as the registers hold.
template <class T>
constexpr int kPanelVectors = kPad / kLanes<T>;
template <class T>
constexpr int kSumPanels = kPanelVectors<T> == 1 ? 3 : 1;
template <class T>
constexpr int kSumRows = kRegisters >= 32          ? 8
                         : kPanelVectors<T> <= 2   ? 6
                         : kPanelVectors<T> <= 4   ? 2
                                                   : 1;

// Operands of the product in the type of the sums.
template <class T>
struct Plain {
  using In = T;
  using Weight = T;
  static constexpr int step = 1;  // inputs per multiply-add
  DCHARGE_INLINE Vec<T> spread(const In* x) { return set1(*x); }
  DCHARGE_INLINE Vec<T> weights(const Weight* w) { return load<T>(w); }
  DCHARGE_INLINE void add(Vec<T>& sum, Vec<T> x, Vec<T> w) { sum += x * w; }
};

// sum[r][v] += sum_k x[r][k] w[k][v] for ROWS rows and PANELS panels; k counts inputs, a multiple of Operand::step.
template <class T, class Operand, int ROWS, int PANELS>
DCHARGE_INLINE void multiply_add(const typename Operand::In* x, int64_t x_stride, const typename Operand::Weight* w,
                                 int64_t panel, int64_t k, Vec<T> (&sum)[ROWS][PANELS * kPanelVectors<T>]) {
  constexpr int V = kPanelVectors<T>, S = Operand::step;
  for (int64_t i = 0; i < k; i += S) {
    decltype(Operand::weights(w)) b[PANELS * V];
#pragma GCC unroll 8
    for (int p = 0; p < PANELS; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        b[p * V + v] = Operand::weights(w + p * panel + i * kPad + v * kLanes<T> * S);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      auto a = Operand::spread(x + r * x_stride + i);
#pragma GCC unroll 8
      for (int v = 0; v < PANELS * V; ++v) {
        Operand::add(sum[r][v], a, b[v]);
      }
    }
  }
}

// finish(row, column, vector) for every vector of the product of a block with n_panels panels.
template <class T, class Operand, int PANELS, class F>
DCHARGE_INLINE void product_of(const typename Operand::In* x, int64_t x_stride, const typename Operand::Weight* w,
                               int64_t k, int64_t n_segments, int64_t segment, int64_t first_panel, F finish) {
  constexpr int ROWS = kSumRows<T>, V = kPanelVectors<T>;
  int64_t panel = n_segments * k * kPad;
  w += first_panel * panel;
  for (int64_t row = 0; row < kBlockRows; row += ROWS) {
    Vec<T> sum[ROWS][PANELS * V];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < PANELS * V; ++v) {
        sum[r][v] = Vec<T>{};
      }
    }
    for (int64_t s = 0; s < n_segments; ++s) {
      multiply_add<T, Operand, ROWS, PANELS>(x + row * x_stride + s * segment, x_stride, w + s * k * kPad, panel, k,
                                             sum);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < PANELS * V; ++v) {
        finish(row + r, first_panel * kPad + v * kLanes<T>, sum[r][v]);
      }
    }
  }
}

// Rows x [kBlockRows][x_stride] by weights [n_panels][n_segments * k][16]; a row's inputs lie in n_segments stretches
// of k, `segment` apart.
template <class T, class Operand, class F>
DCHARGE_INLINE void product(const typename Operand::In* x, int64_t x_stride, const typename Operand::Weight* w,
                            int64_t n_panels, int64_t k, int64_t n_segments, int64_t segment, F finish) {
  constexpr int P = kSumPanels<T>;
  int64_t panel = 0;
  for (; panel + P <= n_panels; panel += P) {
    product_of<T, Operand, P>(x, x_stride, w, k, n_segments, segment, panel, finish);
  }
  if constexpr (P > 2) {
    if (panel + 2 <= n_panels) {
      product_of<T, Operand, 2>(x, x_stride, w, k, n_segments, segment, panel, finish);
      panel += 2;
    }
  }
  if constexpr (P > 1) {
    if (panel < n_panels) {
      product_of<T, Operand, 1>(x, x_stride, w, k, n_segments, segment, panel, finish);
    }
  }
}

// finish(row, column, vector of start(column) + x . w), PANELS panels from `panel` on.
template <class T, int PANELS, class Start, class Finish>
DCHARGE_INLINE void rows_by_panels_of(const T* x, int64_t x_row, int64_t n_rows, const T* w, int64_t panel, int64_t k,
                                      Start start, Finish finish) {
  constexpr int ROWS = kSumRows<T>, V = kPanelVectors<T>;
  for (int64_t row = 0; row < n_rows; row += ROWS) {
    Vec<T> sum[ROWS][PANELS * V];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < PANELS * V; ++v) {
        sum[r][v] = start(panel * kPad + v * kLanes<T>);
      }
    }
    multiply_add<T, Plain<T>, ROWS, PANELS>(x + row * x_row, x_row, w + panel * k * kPad, k * kPad, k, sum);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < PANELS * V; ++v) {
        finish(row + r, panel * kPad + v * kLanes<T>, sum[r][v]);
      }
    }
  }
}

// finish(row, column, vector of start(column) + x . w) for x [n_rows][k], n_rows a multiple of kSumRows, and w in panels
// [n_panels][k][16].
template <class T, class Start, class Finish>
DCHARGE_INLINE void rows_by_panels(const T* x, int64_t x_row, int64_t n_rows, const T* w, int64_t n_panels, int64_t k,
                                   Start start, Finish finish) {
  constexpr int P = kSumPanels<T>;
  int64_t panel = 0;
  for (; panel + P <= n_panels; panel += P) {
    rows_by_panels_of<T, P>(x, x_row, n_rows, w, panel, k, start, finish);
  }
  if constexpr (P > 2) {
    if (panel + 2 <= n_panels) {
      rows_by_panels_of<T, 2>(x, x_row, n_rows, w, panel, k, start, finish);
      panel += 2;
    }
  }
  if constexpr (P > 1) {
    if (panel < n_panels) {
      rows_by_panels_of<T, 1>(x, x_row, n_rows, w, panel, k, start, finish);
    }
  }
}

constexpr int64_t whole_rows(int64_t n, int64_t rows) { return (n + rows - 1) / rows * rows; }

// tanh to 3e-7 of its value: Eigen's quotient of polynomials, exact beyond the range where float32 rounds to 1. nan stays.
DCHARGE_INLINE Vf tanh(Vf x) {
  Vf high = set1(7.90531110763549805f);
  x = x > high ? high : x;
  x = x < -high ? -high : x;
  Vf y = x * x;
  Vf p = y * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * y - 8.60467152213735e-11f;
  p = p * y + 5.12229709037114e-08f;
  p = p * y + 1.48572235717979e-05f;
  p = p * y + 6.37261928875436e-04f;
  p = p * y + 4.89352455891786e-03f;
  Vf q = y * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * y + 2.26843463243900e-03f;
  q = q * y + 4.89352518554385e-03f;
  return x * p / q;
}

DCHARGE_INLINE Vd tanh(Vd x) {
  for (int i = 0; i < kLanes<double>; ++i) {
    x[i] = __builtin_tanh(x[i]);
  }
  return x;
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
