// Angular functions of a pair and their gradients. V is a scalar or a vector of lanes, T the type of its elements.
#pragma once

#include "core/macros.hpp"

namespace dcharge {

DCHARGE_HD constexpr int n_components(int l_max) { return (l_max + 1) * (l_max + 1); }

constexpr double kSqrt3 = 1.7320508075688772935;
constexpr double kSqrt15 = 3.8729833462074168852;
constexpr double kSqrt5_8 = 0.79056941504209483300;
constexpr double kSqrt3_8 = 0.61237243569579452455;

// Real solid harmonics of degree 0..L of (x, y, z), Racah normalisation: sum_m Y_lm(u) Y_lm(v) = P_l(u.v).
// Order: l, then m = -l..l, except l = 1, which is (x, y, z).
template <int L, class T, class V>
DCHARGE_INLINE void solid_harmonics(V x, V y, V z, V* Y) {
  Y[0] = V{} + T(1);
  if constexpr (L >= 1) {
    Y[1] = x;
    Y[2] = y;
    Y[3] = z;
  }
  if constexpr (L >= 2) {
    Y[4] = T(kSqrt3) * x * y;
    Y[5] = T(kSqrt3) * y * z;
    Y[6] = z * z - T(0.5) * (x * x + y * y);
    Y[7] = T(kSqrt3) * x * z;
    Y[8] = T(0.5 * kSqrt3) * (x * x - y * y);
  }
  if constexpr (L >= 3) {
    V xx = x * x, yy = y * y, zz = z * z;
    V ring = T(kSqrt3_8) * (T(4) * zz - xx - yy);
    Y[9] = T(kSqrt5_8) * y * (T(3) * xx - yy);
    Y[10] = T(kSqrt15) * x * y * z;
    Y[11] = ring * y;
    Y[12] = z * (zz - T(1.5) * (xx + yy));
    Y[13] = ring * x;
    Y[14] = T(0.5 * kSqrt15) * z * (xx - yy);
    Y[15] = T(kSqrt5_8) * x * (xx - T(3) * yy);
  }
}

// gx, gy, gz = sum_k q[k] dY_k/d(x, y, z).
template <int L, class T, class V>
DCHARGE_INLINE void solid_harmonics_gradient(V x, V y, V z, const V* q, V& gx, V& gy, V& gz) {
  gx = gy = gz = V{};
  if constexpr (L >= 1) {
    gx = q[1];
    gy = q[2];
    gz = q[3];
  }
  if constexpr (L >= 2) {
    V a = T(kSqrt3) * q[4], b = T(kSqrt3) * q[5], c = q[6], d = T(kSqrt3) * q[7], e = T(kSqrt3) * q[8];
    gx += a * y + d * z + (e - c) * x;
    gy += a * x + b * z - (e + c) * y;
    gz += b * y + d * x + T(2) * c * z;
  }
  if constexpr (L >= 3) {
    V xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
    V a = T(kSqrt5_8) * q[9], b = T(kSqrt15) * q[10], c = T(kSqrt3_8) * q[11], d = q[12];
    V e = T(kSqrt3_8) * q[13], f = T(0.5 * kSqrt15) * q[14], g = T(kSqrt5_8) * q[15];
    gx += T(6) * a * xy + b * yz - T(2) * c * xy - T(3) * d * xz + e * (T(4) * zz - T(3) * xx - yy) + T(2) * f * xz +
          T(3) * g * (xx - yy);
    gy += T(3) * a * (xx - yy) + b * xz + c * (T(4) * zz - xx - T(3) * yy) - T(3) * d * yz - T(2) * e * xy -
          T(2) * f * yz - T(6) * g * xy;
    gz += b * xy + T(8) * c * yz + d * (T(3) * zz - T(1.5) * (xx + yy)) + T(8) * e * xz + f * (xx - yy);
  }
}

}  // namespace dcharge
