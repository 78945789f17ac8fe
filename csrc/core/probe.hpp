// One pair of probe messages: distance, direction, the four knots around it (docs/architecture.md, "Probe messages").
#pragma once

#include <cmath>
#include <cstdint>

#include "core/arguments.hpp"
#include "core/cubic.hpp"

namespace dcharge {

constexpr int kComponents = 4, kStates = 5, kFilters = 3;
constexpr double kOnNucleus2 = 1e-12;  // squared Angstrom: r and u are zero there, as are their derivatives

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
  g.knot = first_knot(r * p.per_knot, p.n_knots, &g.s);
  return g;
}

}  // namespace dcharge
