// Orbital sums of one group of points, one point per lane: the inner loop of orbital_sums and ead.
//
// For every buffered atom what depends on the distance and direction alone is computed once for all lanes and stays in
// the L1 cache; then blocks of waves run over the buffer with their sums in registers.
#pragma once

#include "core/orbitals.hpp"
#include "cpu/kernels/exp2.hpp"
#include "cpu/kernels/stream.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

template <class T>
struct OrbitalConstants {
  T reach2, per_rcut2, soft2;
  bool unit;
  explicit OrbitalConstants(const Orbitals& o) {
    reach2 = static_cast<T>(o.rcut * o.rcut * (1 + 1e-5));
    per_rcut2 = static_cast<T>(1 / (o.rcut * o.rcut));
    soft2 = static_cast<T>(o.soft * o.soft);
    unit = o.unit;
  }
};

// A group, and which atoms its points are.
template <class T>
struct OrbitalGroup : Group<T> {
  int64_t atom[kLanes<T>];  // -1: none
  bool has_atoms = false;

  OrbitalGroup(const Group<T>& g, const OrbitalTables<T>& tables, const TilePoints& points, int64_t start)
      : Group<T>(g) {
    for (int i = 0; i < kLanes<T>; ++i) {
      atom[i] = tables.point_atom && i < g.n ? tables.point_atom[points.row[start + i]] : -1;
      has_atoms |= atom[i] >= 0;
    }
  }
};

// f_c^(1/4), or 0 in the lanes whose point is this very atom.
template <class T>
DCHARGE_INLINE Vec<T> without_self(const OrbitalGroup<T>& g, int64_t source, Vec<T> r2, Vec<T> root) {
  for (int i = 0; i < kLanes<T>; ++i) {
    if (g.atom[i] == source && r2[i] < T(kSelfDistance2)) {
      root[i] = 0;
    }
  }
  return root;
}

// Geometry of one atom and all lanes.
template <class T>
struct OrbitalPair {
  Vec<T> dx, dy, dz, inverse, r;  // vec, 1/r~, r~
  Vec<T> u, root;                 // r^2/rcut^2 up to 1, f_c^(1/4)
  Vec<T> cutoff;                  // f_c
};

template <class T>
DCHARGE_INLINE OrbitalPair<T> orbital_pair(const OrbitalConstants<T>& c, const OrbitalGroup<T>& g,
                                           const Buffer<T>& atoms, int i, const Candidates& candidates) {
  OrbitalPair<T> p;
  p.dx = atoms.x[i] - g.x;
  p.dy = atoms.y[i] - g.y;
  p.dz = atoms.z[i] - g.z;
  Vec<T> r2 = p.dx * p.dx + p.dy * p.dy + p.dz * p.dz, soft2 = r2 + c.soft2;
  p.inverse = rsqrt(vmax(soft2, set1(T(1e-30))));
  p.r = soft2 * p.inverse;
  p.u = vmin(r2 * c.per_rcut2, set1(T(1)));
  p.root = cutoff_root<T>(p.u);
  if (g.has_atoms && atoms.d2[i] < T(kSelfDistance2)) {
    p.root = without_self<T>(g, candidates.source[atoms.which[i]], r2, p.root);
  }
  p.cutoff = p.root * p.root * (p.root * p.root);
  return p;
}

template <class T, int L>
DCHARGE_INLINE void orbital_monomials(const OrbitalConstants<T>& c, const OrbitalPair<T>& p, Vec<T>* A) {
  if (c.unit) {
    cartesian_monomials<L, T>(p.dx * p.inverse, p.dy * p.inverse, p.dz * p.inverse, A);
  } else {
    cartesian_monomials<L, T>(p.dx, p.dy, p.dz, A);
  }
}

// What the waves need of a buffer of atoms.
template <class T, int L>
struct OrbitalBuffer {
  Vec<T> r[kBuffer];                                          // r~
  Vec<T> a[n_monomials(L)][kBuffer];                          // A_k f_c
  const T *c[kBuffer], *center[kBuffer], *exponent[kBuffer];  // rows of the tables
};

// Rows of the tables for a buffer of candidates, which are sorted by type.
template <class T, class Rows>
DCHARGE_INLINE void orbital_rows(const OrbitalTables<T>& tables, const Candidates& candidates, int64_t n_waves,
                                 const Buffer<T>& atoms, int n, Rows& out) {
  int64_t type = 0;
  for (int i = 0; i < n; ++i) {
    int64_t which = atoms.which[i];
    while (which >= candidates.first[type + 1]) {
      ++type;
    }
    out.c[i] = tables.coefficients + candidates.source[which] * n_waves;
    out.center[i] = tables.center + type * n_waves;
    out.exponent[i] = tables.exponent + type * n_waves;
  }
}

// acc[k * stride] += sum_i A_k f_c c exp(alpha (r~ - r_s)^2) for B waves from m on.
template <class T, int L, int B>
DCHARGE_INLINE void accumulate_waves(const OrbitalBuffer<T, L>& p, int n, int64_t m, Vec<T>* acc, int64_t stride) {
  constexpr int n_comp = n_monomials(L);
  Vec<T> sum[n_comp][B];
#pragma GCC unroll 16
  for (int k = 0; k < n_comp; ++k) {
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      sum[k][b] = acc[k * stride + b];
    }
  }
  for (int i = 0; i < n; ++i) {
    Vec<T> weight[B];
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      Vec<T> d = p.r[i] - p.center[i][m + b];
      weight[b] = p.c[i][m + b] * exp2_nonpositive<T>(p.exponent[i][m + b] * d * d);
    }
#pragma GCC unroll 16
    for (int k = 0; k < n_comp; ++k) {
      Vec<T> a = p.a[k][i];
#pragma GCC unroll 16
      for (int b = 0; b < B; ++b) {
        sum[k][b] += a * weight[b];
      }
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < n_comp; ++k) {
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      acc[k * stride + b] = sum[k][b];
    }
  }
}

// Sums of a group: acc[k * n_waves + m]. Returns false (acc untouched) where no atom is near.
template <class T, int L>
bool group_sums(const Orbitals& orbitals, const OrbitalConstants<T>& c, const OrbitalTables<T>& tables,
                const OrbitalGroup<T>& g, const Candidates& candidates, Vec<T>* acc) {
  constexpr int n_comp = n_monomials(L), B = (L == 0 ? 4 : L == 1 ? 2 : 1) * (kRegisters >= 32 ? 2 : 1);
  int64_t n_waves = orbitals.n_waves;
  Buffer<T> buffer;
  OrbitalBuffer<T, L> pairs;
  bool fresh = true;
  stream<T>(candidates, 0, candidates.first[orbitals.n_types], g, c.reach2, buffer, [&](int n) {
    if (fresh) {
      __builtin_memset(acc, 0, n_comp * n_waves * sizeof(Vec<T>));
      fresh = false;
    }
    orbital_rows(tables, candidates, n_waves, buffer, n, pairs);
    for (int i = 0; i < n; ++i) {
      OrbitalPair<T> p = orbital_pair<T>(c, g, buffer, i, candidates);
      Vec<T> A[n_comp];
      orbital_monomials<T, L>(c, p, A);
      pairs.r[i] = p.r;
      for (int k = 0; k < n_comp; ++k) {
        pairs.a[k][i] = A[k] * p.cutoff;
      }
    }
    int64_t m = 0;
    for (; m + B <= n_waves; m += B) {
      accumulate_waves<T, L, B>(pairs, n, m, acc + m, n_waves);
    }
    for (; m < n_waves; ++m) {
      accumulate_waves<T, L, 1>(pairs, n, m, acc + m, n_waves);
    }
  });
  return !fresh;
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
