// One pair of probe messages: distance, direction, the four knots around it (docs/architecture.md, "Probe messages").
#pragma once

#include <cmath>
#include <cstdint>

#include "core/arguments.hpp"
#include "core/macros.hpp"

namespace dcharge {

constexpr int kComponents = 4, kStates = 5, kFilters = 3, kFewestKnots = 4;
constexpr double kOnNucleus2 = 1e-12;  // squared Angstrom: r and u are zero there, as are their derivatives

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

// Geometry of a pair, in float64 for every precision: a float32 r would cost digits of steep filters.
struct ProbeGeometry {
  double u[3], per_r;  // (probe - atom)/r and 1/r, zeros on a nucleus
  double s;            // place between the four knots, 0..3
  int32_t knot;        // first of the four
};

DCHARGE_INLINE ProbeGeometry probe_geometry(const Probe& p, double dx, double dy, double dz, double r2) {
  ProbeGeometry g;
  bool apart = r2 > kOnNucleus2;
  double r = apart ? sqrt(r2) : 0;
  g.per_r = apart ? 1 / r : 0;
  g.u[0] = dx * g.per_r;
  g.u[1] = dy * g.per_r;
  g.u[2] = dz * g.per_r;
  double x = r * p.per_knot;
  int64_t knot = static_cast<int64_t>(x) - 1;
  knot = knot < 0 ? 0 : knot > p.n_knots - 4 ? p.n_knots - 4 : knot;
  g.s = x - static_cast<double>(knot);
  g.knot = static_cast<int32_t>(knot);
  return g;
}

}  // namespace dcharge
