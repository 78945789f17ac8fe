// Matrix products of rows in the caches, tile by tile: the sums of some rows and one panel of columns in registers.
#pragma once

#include "cpu/kernels/vec.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr int kTileRows = kRegisters >= 32 ? 8 : 4, kTileVectors = 2;
template <class T>
constexpr int64_t kTileColumns = kTileVectors * kLanes<T>;
template <class T>
using Tile = Vec<T>[kTileRows][kTileVectors];

// visit(row, first column of the vector, vector) for all sums.
template <class T, class F>
DCHARGE_INLINE void each(Tile<T>& sum, F visit) {
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      visit(r, v * kLanes<T>, sum[r][v]);
    }
  }
}

// sum[r][c] += sum_i x[r x_row + i x_step] w[i w_step + c], i < k.
template <class T>
DCHARGE_INLINE void add_products(const T* x, int64_t x_row, int64_t x_step, const T* w, int64_t w_step, int64_t k,
                                 Tile<T>& sum) {
  for (int64_t i = 0; i < k; ++i) {
    Vec<T> columns[kTileVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      columns[v] = load<T>(w + i * w_step + v * kLanes<T>);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) {
      Vec<T> of = set1(x[r * x_row + i * x_step]);
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        sum[r][v] += of * columns[v];
      }
    }
  }
}

// out [x_columns][columns] += x^T . w for x [n_rows][x_columns] and w [n_rows][columns], whole tiles of columns.
template <class T>
DCHARGE_INLINE void add_columns_by_columns(const T* x, int64_t x_row, int64_t x_columns, const T* w, int64_t w_row,
                                           int64_t columns, int64_t n_rows, T* out) {
  for (int64_t column = 0; column < columns; column += kTileColumns<T>) {
    for (int64_t f = 0; f < x_columns; f += kTileRows) {
      T* to = out + f * columns + column;
      Tile<T> sum;
      each<T>(sum, [&](int r, int64_t c, Vec<T>& v) { v = load<T>(to + r * columns + c); });
      add_products<T>(x + f, 1, x_row, w + column, w_row, n_rows, sum);
      each<T>(sum, [&](int r, int64_t c, Vec<T>& v) { store<T>(to + r * columns + c, v); });
    }
  }
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
