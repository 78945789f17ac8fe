// One point and one atom, in scalars: switch, Chebyshev argument and angular functions for the blocks of a GPU.
// Formulas and symbols: docs/architecture.md, "Radial moments".
#pragma once

#include <cmath>

#include "core/arguments.hpp"
#include "core/bases.hpp"

namespace dcharge {

template <class T>
struct PairConstants {
  T rcut, rcut2, rcut_smth, per_width, soft, soft2;
  T slope, intercept;  // x = slope / r~ - intercept
  T near2;             // squared distance below which x > 1/2
};

template <class T>
inline PairConstants<T> make_pair_constants(const Radial& r) {
  double inverse_soft = 1 / r.soft, low = 1 / std::sqrt(r.rcut * r.rcut + r.soft * r.soft);
  double inverse_near = low + 0.75 * (inverse_soft - low);
  PairConstants<T> c;
  c.rcut = static_cast<T>(r.rcut);
  c.rcut2 = static_cast<T>(r.rcut * r.rcut);
  c.rcut_smth = static_cast<T>(r.rcut_smth);
  c.per_width = static_cast<T>(1 / (r.rcut - r.rcut_smth));
  c.soft = static_cast<T>(r.soft);
  c.soft2 = static_cast<T>(r.soft * r.soft);
  c.slope = static_cast<T>(2 / (inverse_soft - low));
  c.intercept = static_cast<T>(2 * low / (inverse_soft - low) + 1);
  c.near2 = static_cast<T>(1 / (inverse_near * inverse_near) - r.soft * r.soft);
  return c;
}

DCHARGE_INLINE float inverse_sqrt(float x) {
#ifdef __CUDA_ARCH__
  float y = rsqrtf(x), error = fmaf(-x * y, y, 1.0f);  // one Newton step: T_b(x) magnifies the last digit of 1/r~
  return fmaf(0.5f * y, error, y);
#else
  return 1 / std::sqrt(x);
#endif
}

DCHARGE_INLINE double inverse_sqrt(double x) {
#ifdef __CUDA_ARCH__
  return rsqrt(x);
#else
  return 1 / std::sqrt(x);
#endif
}

template <class T>
DCHARGE_INLINE T limit(T x, T low, T high) {
  return x < low ? low : x > high ? high : x;
}

// vec = atom - point.
template <class T>
struct Pair {
  T dx, dy, dz, r2, per_r, inverse, weight;  // 1/r, 1/r~, w(r)
};

template <class T>
DCHARGE_INLINE Pair<T> make_pair(const PairConstants<T>& c, T dx, T dy, T dz, T r2) {
  Pair<T> p;
  p.dx = dx;
  p.dy = dy;
  p.dz = dz;
  p.r2 = r2;
  p.per_r = inverse_sqrt(r2 > T(1e-30) ? r2 : T(1e-30));
  p.inverse = inverse_sqrt(r2 + c.soft2);
  // the switch in v = 1 - u: vanishes without cancellation
  T v = limit((c.rcut - r2 * p.per_r) * c.per_width, T(0), T(1));
  p.weight = r2 < c.rcut2 ? v * v * v * ((T(6) * v - T(15)) * v + T(10)) : T(0);
  return p;
}

// 2x, x = slope / r~ - intercept.
template <class T>
DCHARGE_INLINE T twice_x(const PairConstants<T>& c, const Pair<T>& p) {
  T x = c.slope * p.inverse - c.intercept;
  return T(2) * (x > T(-1) ? x : T(-1));
}

// 2(1 - x), without cancellation where x is close to 1: 1/soft - 1/r~ = r^2 / (soft r~ (soft + r~)).
template <class T>
DCHARGE_INLINE T twice_gap(const PairConstants<T>& c, const Pair<T>& p) {
  T gap = c.slope * p.r2 * p.inverse / (c.soft * (c.soft + (p.r2 + c.soft2) * p.inverse));
  return T(2) * (gap < T(2) ? gap : T(2));
}

template <class T, int L>
DCHARGE_INLINE void angular(const Pair<T>& p, T* Y) {
  solid_harmonics<L, T>(p.dx * p.inverse, p.dy * p.inverse, p.dz * p.inverse, Y);
}

// Gradient with respect to vec of sum_k w/r~ Y_k(vec/r~) q_k(x), given q and dq = dq/dx.
template <class T, int L>
DCHARGE_INLINE void pair_gradient(const PairConstants<T>& c, const Pair<T>& p, const T* q, const T* dq, T* gradient) {
  T Y[n_components(L)], vx, vy, vz;
  T ux = p.dx * p.inverse, uy = p.dy * p.inverse, uz = p.dz * p.inverse;
  solid_harmonics<L, T>(ux, uy, uz, Y);
  solid_harmonics_gradient<L, T>(ux, uy, uz, q, vx, vy, vz);
  T value = 0, slope = 0;
#pragma unroll
  for (int k = 0; k < n_components(L); ++k) {
    value += q[k] * Y[k];
    slope += dq[k] * Y[k];
  }
  T r = p.r2 * p.per_r;
  T u = limit((r - c.rcut_smth) * c.per_width, T(0), T(1)), v = limit((c.rcut - r) * c.per_width, T(0), T(1));
  T dw = p.r2 < c.rcut2 ? T(-30) * c.per_width * u * u * v * v * p.per_r : T(0);  // w'(r)/r, 0 on the nucleus
  T along = ux * vx + uy * vy + uz * vz, inverse2 = p.inverse * p.inverse;
  T radial_part =
      dw * p.inverse * value - p.weight * inverse2 * p.inverse * (value + along + c.slope * p.inverse * slope);
  T angular_part = p.weight * inverse2;
  gradient[0] = radial_part * p.dx + angular_part * vx;
  gradient[1] = radial_part * p.dy + angular_part * vy;
  gradient[2] = radial_part * p.dz + angular_part * vz;
}

}  // namespace dcharge
