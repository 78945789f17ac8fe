// Moments of one group of points, one point per lane: the inner loop of radial_moments and se_e2_a.
//
// Atoms within reach of the group's bounding box are streamed through a small buffer. For every buffered atom the pair
// quantities (weight times harmonics, 2x) are computed once for all lanes and stay in the L1 cache; then blocks of
// Chebyshev functions run over the buffer with their sums in registers, the recurrence picking up where the last block
// left it. Near a nucleus x is close to 1, where T_b(x) changes as fast as b^2: there 1 - x is computed without
// cancellation and the recurrence runs on differences (Reinsch's form), which keeps float32 accurate to its last
// digits.
#pragma once

#include "core/bases.hpp"
#include "cpu/kernels/stream.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

template <class T>
struct PairConstants {
  T rcut, rcut2, reach2, rcut_smth, per_width, soft, soft2;
  T slope, intercept;  // x = slope / r~ - intercept
  T near2;             // squared distance below which x > 1/2
  explicit PairConstants(const Radial& r) {
    double inverse_soft = 1 / r.soft, low = 1 / __builtin_sqrt(r.rcut * r.rcut + r.soft * r.soft);
    rcut = static_cast<T>(r.rcut);
    rcut2 = static_cast<T>(r.rcut * r.rcut);
    reach2 = static_cast<T>(r.rcut * r.rcut * (1 + 1e-5));
    rcut_smth = static_cast<T>(r.rcut_smth);
    per_width = static_cast<T>(1 / (r.rcut - r.rcut_smth));
    soft = static_cast<T>(r.soft);
    soft2 = static_cast<T>(r.soft * r.soft);
    double inverse_near = low + 0.75 * (inverse_soft - low);
    near2 = static_cast<T>(1 / (inverse_near * inverse_near) - r.soft * r.soft);
    slope = static_cast<T>(2 / (inverse_soft - low));
    intercept = static_cast<T>(2 * low / (inverse_soft - low) + 1);
  }
};

// Pair quantities of a buffer of atoms. Far ones fill it from the front, near ones from the back.
template <class T, int L>
struct PairBuffer {
  int n_far, first_near;
  Vec<T> step[kBuffer];  // 2x, or 2(1 - x) where near
  Vec<T> t0[kBuffer];    // T_b
  Vec<T> t1[kBuffer];    // T_{b+1}, or T_{b+1} - T_b where near
  Vec<T> r[n_components(L)][kBuffer];
};

template <class T, int L>
DCHARGE_INLINE void pair_terms(const PairConstants<T>& c, const Group<T>& g, const Buffer<T>& atoms, int n,
                               PairBuffer<T, L>& out) {
  using V = Vec<T>;
  out.n_far = 0;
  out.first_near = kBuffer;
  for (int i = 0; i < n; ++i) {
    V dx = atoms.x[i] - g.x, dy = atoms.y[i] - g.y, dz = atoms.z[i] - g.z;
    V r2 = dx * dx + dy * dy + dz * dz;
    V r = r2 * rsqrt(vmax(r2, set1(T(1e-30))));
    V inverse = rsqrt(r2 + c.soft2);
    V v = vmin(vmax((c.rcut - r) * c.per_width, V{}), set1(T(1)));
    V w = v * v * v * ((T(6) * v - T(15)) * v + T(10));  // the switch in v = 1 - u: vanishes without cancellation
    V s = r2 < c.rcut2 ? w * inverse : V{};
    V Y[n_components(L)];
    solid_harmonics<L, T>(dx * inverse, dy * inverse, dz * inverse, Y);
    int to;
    if (atoms.d2[i] < c.near2) {
      to = --out.first_near;
      // 1/soft - 1/r~ = r^2 / (soft r~ (soft + r~)), without cancellation
      V gap = c.slope * r2 * inverse / (c.soft * (c.soft + (r2 + c.soft2) * inverse));
      out.step[to] = T(2) * vmin(gap, set1(T(2)));
    } else {
      to = out.n_far++;
      out.step[to] = T(2) * vmax(c.slope * inverse - c.intercept, set1(T(-1)));
    }
    for (int k = 0; k < n_components(L); ++k) {
      out.r[k][to] = s * Y[k];
    }
  }
}

// acc[k][b] (+)= sum_i r[k][i] T_b(x_i) for G components and B functions b; t0, t1 advance by B.
template <class T, int G, int B, bool Near>
DCHARGE_INLINE void accumulate_block(const Vec<T>* step, Vec<T>* t0, Vec<T>* t1, const Vec<T>* r, int n, Vec<T>* acc,
                                     int64_t stride, bool fresh) {
  using V = Vec<T>;
  V sum[G][B];
#pragma GCC unroll 16
  for (int k = 0; k < G; ++k) {
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      sum[k][b] = fresh ? V{} : acc[k * stride + b];
    }
  }
  for (int i = 0; i < n; ++i) {
    V h = step[i], a = t0[i], c = t1[i];
#pragma GCC unroll 16
    for (int b = 0; b < B; b += 2) {
      V next = Near ? a + c : c;
#pragma GCC unroll 16
      for (int k = 0; k < G; ++k) {
        sum[k][b] += r[k * kBuffer + i] * a;
        sum[k][b + 1] += r[k * kBuffer + i] * next;
      }
      if constexpr (Near) {
        c = c - h * next;
        a = next + c;
        c = c - h * a;
      } else {
        a = h * c - a;
        c = h * a - c;
      }
    }
    t0[i] = a;
    t1[i] = c;
  }
#pragma GCC unroll 16
  for (int k = 0; k < G; ++k) {
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      acc[k * stride + b] = sum[k][b];
    }
  }
}

// Pairs [first, first + n) of a buffer. Components in groups of G, so that G * B sums fit the registers.
template <class T, int L, bool Near>
DCHARGE_INLINE void accumulate(PairBuffer<T, L>& p, int first, int n, int64_t n_radial, Vec<T>* acc, int64_t stride,
                               bool fresh) {
  constexpr int G = L == 0 ? 1 : L == 2 ? 3 : 4;
  constexpr int B = L == 0 ? 8 : kRegisters >= 32 ? 4 : 2;
  Vec<T>*step = p.step + first, *t0 = p.t0 + first, *t1 = p.t1 + first;
  for (int k = 0; k < n_components(L); k += G) {
    for (int i = 0; i < n; ++i) {
      t0[i] = set1(T(1));
      t1[i] = T(Near ? -0.5 : 0.5) * step[i];
    }
    for (int64_t b = 0; b < n_radial; b += B) {
      accumulate_block<T, G, B, Near>(step, t0, t1, p.r[k] + first, n, acc + k * stride + b, stride, fresh);
    }
  }
}

// Moments of a group among the atoms of one type: acc[k * stride + b]. Returns false (acc untouched) where none is
// near.
template <class T, int L>
bool group_moments(const PairConstants<T>& c, const Group<T>& g, const Candidates& atoms, int64_t type,
                   int64_t n_radial, Vec<T>* acc, int64_t stride) {
  Buffer<T> buffer;
  PairBuffer<T, L> pairs;
  bool fresh = true;
  stream<T>(atoms, atoms.first[type], atoms.first[type + 1], g, c.reach2, buffer, [&](int n) {
    pair_terms<T, L>(c, g, buffer, n, pairs);
    if (pairs.n_far) {
      accumulate<T, L, false>(pairs, 0, pairs.n_far, n_radial, acc, stride, fresh);
      fresh = false;
    }
    if (pairs.first_near < kBuffer) {
      accumulate<T, L, true>(pairs, pairs.first_near, kBuffer - pairs.first_near, n_radial, acc, stride, fresh);
      fresh = false;
    }
  });
  return !fresh;
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
