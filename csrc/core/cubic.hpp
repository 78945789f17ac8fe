// Interpolation on uniform knots: the cubic through the four nearest (one-sided in the first and last interval).
#pragma once

#include <cstdint>

#include "core/macros.hpp"

namespace dcharge {

constexpr int kFewestKnots = 4;

// First of the four knots around x >= 0, in units of their distance; s: place between them, 0..3.
DCHARGE_INLINE int32_t first_knot(double x, int64_t n_knots, double* s) {
  int64_t knot = static_cast<int64_t>(x) - 1;
  knot = knot < 0 ? 0 : knot > n_knots - 4 ? n_knots - 4 : knot;
  *s = x - static_cast<double>(knot);
  return static_cast<int32_t>(knot);
}

// Weights of the cubic through the values at 0, 1, 2, 3.
template <class T>
DCHARGE_INLINE void cubic_weights(T s, T* weight) {
  T a = s - T(1), b = s - T(2), c = s - T(3);
  weight[0] = a * b * c * T(-1.0 / 6);
  weight[1] = s * b * c * T(0.5);
  weight[2] = s * a * c * T(-0.5);
  weight[3] = s * a * b * T(1.0 / 6);
}

// Their derivatives.
template <class T>
DCHARGE_INLINE void cubic_slopes(T s, T* slope) {
  T a = s - T(1), b = s - T(2), c = s - T(3);
  slope[0] = (b * c + a * c + a * b) * T(-1.0 / 6);
  slope[1] = (b * c + s * c + s * b) * T(0.5);
  slope[2] = (a * c + s * c + s * a) * T(-0.5);
  slope[3] = (a * b + s * b + s * a) * T(1.0 / 6);
}

}  // namespace dcharge
