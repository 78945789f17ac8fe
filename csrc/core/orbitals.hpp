// Cartesian monomials and the cutoff function of orbital sums (docs/architecture.md, "Orbital sums"). V is a scalar or
// a vector of lanes, T the type of its elements.
#pragma once

#include "core/macros.hpp"

namespace dcharge {

constexpr int kMostDegree = 2;           // of the compiled kernels
constexpr double kSelfDistance2 = 1e-6;  // squared Angstrom: an atom's image this close to the point it is

// Of degree 0..l_max: 1, 4, 10, 20.
DCHARGE_HD constexpr int n_monomials(int l_max) { return (l_max + 1) * (l_max + 2) * (l_max + 3) / 6; }

// Ordered Cartesian products that equal monomial k, up to degree 2.
DCHARGE_HD constexpr int monomial_weight(int k) { return k < 7 ? 1 : 2; }

// 1 - x, y, z - xx, yy, zz, xy, xz, yz.
template <int L, class T, class V>
DCHARGE_INLINE void cartesian_monomials(V x, V y, V z, V* A) {
  A[0] = V{} + T(1);
  if constexpr (L >= 1) {
    A[1] = x;
    A[2] = y;
    A[3] = z;
  }
  if constexpr (L >= 2) {
    A[4] = x * x;
    A[5] = y * y;
    A[6] = z * z;
    A[7] = x * y;
    A[8] = x * z;
    A[9] = y * z;
  }
}

// gx, gy, gz = sum_k q[k] dA_k/d(x, y, z).
template <int L, class T, class V>
DCHARGE_INLINE void cartesian_monomials_gradient(V x, V y, V z, const V* q, V& gx, V& gy, V& gz) {
  gx = gy = gz = V{};
  if constexpr (L >= 1) {
    gx = q[1];
    gy = q[2];
    gz = q[3];
  }
  if constexpr (L >= 2) {
    gx += T(2) * q[4] * x + q[7] * y + q[8] * z;
    gy += T(2) * q[5] * y + q[7] * x + q[9] * z;
    gz += T(2) * q[6] * z + q[8] * x + q[9] * y;
  }
}

// c[0] + c[1] x + ...
template <int N, class V, class T>
DCHARGE_INLINE V polynomial(const T (&c)[N], V x) {
  V sum = V{} + c[N - 1];
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) {
    sum = sum * x + c[i];
  }
  return sum;
}

// cos(pi r/(2 rcut)) = f_c^(1/4) of u = r^2/rcut^2 in [0, 1]: (1 - u) q(u), which vanishes without cancellation. q is
// entire; the polynomials are its Chebyshev fits to 1e-9 (float) and 2e-17.
template <class T, class V>
DCHARGE_INLINE V cutoff_root(V u) {
  if constexpr (sizeof(T) == 4) {
    constexpr T q[] = {0.99999999912260921f, -0.23370050625459747f, 0.019968606206800278f, -0.00089353550146327378f,
                       2.3600689581301924e-5f};
    return (T(1) - u) * polynomial(q, u);
  } else {
    constexpr T q[] = {0.99999999999999998,   -0.23370055013616783,   0.019968957764836131,  -0.00089452299813816203,
                       2.4737275041126401e-5, -4.6476318093539006e-7, 6.3181196706228311e-9, -6.3061695616568301e-11};
    return (T(1) - u) * polynomial(q, u);
  }
}

// -d cutoff_root/du = pi/4 sin(pi/2 sqrt(u))/sqrt(u), to 5e-9 (float) and 2e-16.
template <class T, class V>
DCHARGE_INLINE V cutoff_root_slope(V u) {
  if constexpr (sizeof(T) == 4) {
    constexpr T h[] = {1.2337005448297881f, -0.50733875039822262f, 0.062588315496911634f, -0.003671063985939906f,
                       0.00011912267749713799f};
    return polynomial(h, u);
  } else {
    constexpr T h[] = {1.2337005501361697,     -0.50733901580207794,   0.062590442289679,     -0.0036770410963169387,
                       0.00012601019990820227, -2.8264993191538376e-6, 4.4675945603001052e-8, -5.0654028650599615e-10};
    return polynomial(h, u);
  }
}

}  // namespace dcharge
