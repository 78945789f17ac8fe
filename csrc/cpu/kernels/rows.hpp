// Between vectors of lanes and rows of memory, one row per lane.
#pragma once

#include "cpu/kernels/vec.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// Start of the block of W numbers after b; the last of several is moved back to end at n, so that it is whole.
template <int W>
DCHARGE_INLINE int64_t block_start(int64_t b, int64_t n) {
  return b + W > n && n >= W ? n - W : b;
}

// acc[i][lane] -> out[lane][i] for i < n, through square transposes in registers; acc is read up to padded(n).
template <class T>
void store_rows(const Vec<T>* acc, int64_t n, int n_lanes, T* const* out) {
  constexpr int W = kLanes<T>;
  for (int64_t next = 0; next < n; next += W) {
    int64_t b = block_start<W>(next, n);
    Vec<T> r[W];
    for (int i = 0; i < W; ++i) {
      r[i] = acc[b + i];
    }
    transpose<T>(r);
    if (n_lanes == W && b + W <= n) {
      for (int i = 0; i < W; ++i) {
        store<T>(out[i] + b, r[i]);
      }
    } else {
      int64_t count = n - b < W ? n - b : W;
      for (int i = 0; i < n_lanes; ++i) {
        __builtin_memcpy(out[i] + b, &r[i], count * sizeof(T));
      }
    }
  }
}

// rows[lane][i] -> acc[i][lane] for i < n, acc may be written up to padded(n); lanes that are not in use get zero.
template <class T>
void load_rows(const T* const* rows, int64_t n, int n_lanes, Vec<T>* acc) {
  constexpr int W = kLanes<T>;
  for (int64_t next = 0; next < n; next += W) {
    int64_t b = block_start<W>(next, n);
    Vec<T> r[W];
    if (n_lanes == W && b + W <= n) {
      for (int i = 0; i < W; ++i) {
        r[i] = load<T>(rows[i] + b);
      }
    } else {
      int64_t count = n - b < W ? n - b : W;
      for (int i = 0; i < W; ++i) {
        r[i] = Vec<T>{};
        if (i < n_lanes) {
          __builtin_memcpy(&r[i], rows[i] + b, count * sizeof(T));
        }
      }
    }
    transpose<T>(r);
    for (int i = 0; i < W; ++i) {
      acc[b + i] = r[i];
    }
  }
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
