// Checked parameters of a Gram matrix, and coefficients in the padded layout of the kernels.
#pragma once

#include "ops/check.hpp"

namespace dcharge {

constexpr int64_t padded_columns(int64_t m) { return (m + kPad - 1) / kPad * kPad; }

// Without coefficients: m columns of A with (l_max + 1)^2 components, axis and per_l as in ops/gram.py.
template <class T>
Contraction<T> make_contraction(int64_t m, int64_t l_max, const std::vector<int64_t>& axis, bool per_l) {
  require(static_cast<int64_t>(axis.size()) == (per_l ? l_max + 1 : 1), "axis: one number (joint) or one per degree");
  int64_t columns = 0;
  for (int64_t a : axis) {
    require(a >= 1 && a <= m, "axis: values must lie in 1..M");
    columns += a;
  }
  return {nullptr, nullptr, m, padded_columns(m), axis.data(), per_l, m * columns};
}

// src [rows, m] -> [rows, padded_columns(m)], zeros behind.
template <class T>
std::vector<T> pad_columns(const T* src, int64_t rows, int64_t m) {
  int64_t width = padded_columns(m);
  std::vector<T> out(rows * width, T(0));
  for (int64_t i = 0; i < rows; ++i) {
    std::copy_n(src + i * m, m, out.data() + i * width);
  }
  return out;
}

inline int64_t degree_of(int64_t n_comp) {
  for (int64_t l = 0; l <= 3; ++l) {
    if ((l + 1) * (l + 1) == n_comp) {
      return l;
    }
  }
  throw std::runtime_error("a: 1, 4, 9 or 16 components expected");
}

}  // namespace dcharge
