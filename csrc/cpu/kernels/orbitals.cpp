// orbital_sums and its adjoint on the CPU.
#include "cpu/kernels/orbitals.hpp"

#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/rows.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

template <class T, int L>
void sums_of(const Orbitals& o, const OrbitalTables<T>& tables, const TilePoints& points, const Candidates& atoms,
             T* out, void* scratch) {
  constexpr int W = kLanes<T>;
  OrbitalConstants<T> constants(o);
  int64_t n_sums = n_monomials(L) * o.n_waves;
  auto* acc = static_cast<Vec<T>*>(scratch);
  for (int64_t start = 0; start < points.n; start += W) {
    OrbitalGroup<T> group(load_group<T>(points, start), tables, points, start);
    T* rows[W];
    for (int i = 0; i < group.n; ++i) {
      rows[i] = out + points.row[start + i] * n_sums;
    }
    if (group_sums<T, L>(o, constants, tables, group, atoms, acc)) {
      store_rows<T>(acc, n_sums, group.n, rows);
    } else {
      for (int i = 0; i < group.n; ++i) {
        __builtin_memset(rows[i], 0, n_sums * sizeof(T));
      }
    }
  }
}

// What the waves need of a buffer of atoms, and what they leave for the gradient of positions.
template <class T, int L>
struct BackwardBuffer {
  OrbitalPair<T> pair[kBuffer];
  Vec<T> a[n_monomials(L)][kBuffer];  // A_k
  const T *c[kBuffer], *center[kBuffer], *exponent[kBuffer];
  T* lanes[kBuffer];                      // sums of the candidate
  Vec<T> value[kBuffer], slope[kBuffer];  // sum_m c e q and f_c sum_m c de/dr~ q
};

template <class T>
DCHARGE_INLINE void add_to(T* p, Vec<T> v) {
  store<T>(p, load<T>(p) + v);
}

// B waves from m on: e = exp(alpha d^2), d = r~ - r_s, q = sum_k grad[k] A_k. weight[m][i] = c e where positions are
// wanted.
template <class T, int L, int B, bool Positions, bool Parameters>
DCHARGE_INLINE void backward_waves(BackwardBuffer<T, L>& p, int n, int64_t m, int64_t n_waves, const Vec<T>* grad,
                                   const T* first_center, T* type_lanes, Vec<T>* weight) {
  constexpr int W = kLanes<T>, n_comp = n_monomials(L);
  using V = Vec<T>;
  V g[n_comp][B];
#pragma GCC unroll 16
  for (int k = 0; k < n_comp; ++k) {
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      g[k][b] = grad[k * n_waves + m + b];
    }
  }
  for (int i = 0; i < n;) {
    const T* center = p.center[i];  // atoms of one type follow each other
    V first[B], second[B];
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      first[b] = second[b] = V{};
    }
    for (; i < n && p.center[i] == center; ++i) {
      V q[B];
#pragma GCC unroll 16
      for (int b = 0; b < B; ++b) {
        q[b] = p.a[0][i] * g[0][b];
      }
#pragma GCC unroll 16
      for (int k = 1; k < n_comp; ++k) {
        V a = p.a[k][i];
#pragma GCC unroll 16
        for (int b = 0; b < B; ++b) {
          q[b] += a * g[k][b];
        }
      }
#pragma GCC unroll 16
      for (int b = 0; b < B; ++b) {
        V d = p.pair[i].r - center[m + b];
        V t = p.exponent[i][m + b] * d, e = exp2_nonpositive<T>(t * d), qe = q[b] * e, u = qe * p.pair[i].cutoff;
        V cu = p.c[i][m + b] * u;
        if constexpr (Parameters) {
          add_to<T>(p.lanes[i] + (m + b) * W, u);
          V cud = cu * d;
          first[b] += cud;
          second[b] += cud * d;
        }
        if constexpr (Positions) {
          weight[(m + b) * kBuffer + i] = p.c[i][m + b] * e;
          p.value[i] += p.c[i][m + b] * qe;
          p.slope[i] += t * cu;
        }
      }
    }
    if constexpr (Parameters) {
      T* to = type_lanes + 2 * (center - first_center) * W;
#pragma GCC unroll 16
      for (int b = 0; b < B; ++b) {
        add_to<T>(to + (m + b) * W, first[b]);
        add_to<T>(to + (n_waves + m + b) * W, second[b]);
      }
    }
  }
}

// Gradient with respect to vec of atom i of the buffer.
template <class T, int L>
DCHARGE_INLINE void vector_gradient(const OrbitalConstants<T>& c, const BackwardBuffer<T, L>& p, int i, int64_t n_waves,
                                    const Vec<T>* grad, const Vec<T>* weight, Vec<T>* out) {
  constexpr int n_comp = n_monomials(L);
  constexpr T two_ln2 = T(1.3862943611198906188);  // the tables have exponents of two
  using V = Vec<T>;
  const OrbitalPair<T>& pair = p.pair[i];
  V h[n_comp];
#pragma GCC unroll 16
  for (int k = 0; k < n_comp; ++k) {
    h[k] = V{};
  }
  for (int64_t m = 0; m < n_waves; ++m) {
    V w = weight[m * kBuffer + i];
#pragma GCC unroll 16
    for (int k = 0; k < n_comp; ++k) {
      h[k] += w * grad[k * n_waves + m];
    }
  }
  V scale = c.unit ? pair.inverse : set1(T(1)), vx = pair.dx * scale, vy = pair.dy * scale, vz = pair.dz * scale;
  V gx, gy, gz;
  cartesian_monomials_gradient<L, T>(vx, vy, vz, h, gx, gy, gz);
  if (c.unit) {  // v = vec/r~
    V along = gx * vx + gy * vy + gz * vz;
    gx = (gx - along * vx) * pair.inverse;
    gy = (gy - along * vy) * pair.inverse;
    gz = (gz - along * vz) * pair.inverse;
  }
  V cutoff_slope = T(-8) * c.per_rcut2 * (pair.root * pair.root * pair.root) * cutoff_root_slope<T>(pair.u);
  V radial = cutoff_slope * p.value[i] + two_ln2 * p.slope[i] * pair.inverse;
  out[0] = pair.cutoff * gx + radial * pair.dx;
  out[1] = pair.cutoff * gy + radial * pair.dy;
  out[2] = pair.cutoff * gz + radial * pair.dz;
}

template <class T, int L, bool Positions, bool Parameters>
void backward_of(const Orbitals& o, const OrbitalTables<T>& tables, const TilePoints& points, const Candidates& atoms,
                 const T* grad, const OrbitalGradients<T>& to, void* scratch) {
  using V = Vec<T>;
  constexpr int W = kLanes<T>, n_comp = n_monomials(L);
  constexpr int B = L == 0 ? 4 : L == 1 || kRegisters >= 32 ? 2 : 1;
  OrbitalConstants<T> constants(o);
  int64_t n_waves = o.n_waves, n_sums = n_comp * n_waves, n_candidates = atoms.first[o.n_types];
  int64_t columns = (Parameters ? n_waves : 0) + (Positions ? 3 : 0),
          n_types = Parameters ? 2 * o.n_types * n_waves : 0;
  T* type_lanes = to.lanes + n_candidates * columns * W;
  __builtin_memset(to.lanes, 0, (n_candidates * columns + n_types) * W * sizeof(T));
  auto* g = static_cast<V*>(scratch);
  V* weight = g + padded(n_sums);
  Buffer<T> buffer;
  BackwardBuffer<T, L> pairs;
  for (int64_t start = 0; start < points.n; start += W) {
    OrbitalGroup<T> group(load_group<T>(points, start), tables, points, start);
    V d_point[3] = {V{}, V{}, V{}};
    bool loaded = false;
    stream<T>(atoms, 0, n_candidates, group, constants.reach2, buffer, [&](int n) {
      if (!loaded) {
        loaded = true;
        const T* rows[W];
        for (int i = 0; i < group.n; ++i) {
          rows[i] = grad + points.row[start + i] * n_sums;
        }
        load_rows<T>(rows, n_sums, group.n, g);
      }
      orbital_rows(tables, atoms, n_waves, buffer, n, pairs);
      for (int i = 0; i < n; ++i) {
        pairs.pair[i] = orbital_pair<T>(constants, group, buffer, i, atoms);
        pairs.lanes[i] = to.lanes + buffer.which[i] * columns * W;
        pairs.value[i] = pairs.slope[i] = V{};
        V A[n_comp];
        orbital_monomials<T, L>(constants, pairs.pair[i], A);
        for (int k = 0; k < n_comp; ++k) {
          pairs.a[k][i] = A[k];
        }
      }
      int64_t m = 0;
      for (; m + B <= n_waves; m += B) {
        backward_waves<T, L, B, Positions, Parameters>(pairs, n, m, n_waves, g, tables.center, type_lanes, weight);
      }
      for (; m < n_waves; ++m) {
        backward_waves<T, L, 1, Positions, Parameters>(pairs, n, m, n_waves, g, tables.center, type_lanes, weight);
      }
      for (int i = 0; i < n && Positions; ++i) {
        V d[3];
        vector_gradient<T, L>(constants, pairs, i, n_waves, g, weight, d);
        for (int a = 0; a < 3; ++a) {
          d_point[a] -= d[a];
          add_to<T>(pairs.lanes[i] + (columns - 3 + a) * W, d[a]);
        }
      }
    });
    for (int i = 0; i < group.n && Positions; ++i) {
      for (int a = 0; a < 3; ++a) {
        to.d_points[3 * points.row[start + i] + a] = d_point[a][i];
      }
    }
  }
  for (int64_t i = 0; i < n_candidates * columns; ++i) {
    to.d_candidates[i] = sum<T>(load<T>(to.lanes + i * W));
  }
  for (int64_t i = 0; i < n_types; ++i) {
    to.d_types[i] = sum<T>(load<T>(type_lanes + i * W));
  }
}

template <class T, int L>
void backward_with(const Orbitals& o, const OrbitalTables<T>& tables, const TilePoints& points, const Candidates& atoms,
                   const T* grad, const OrbitalGradients<T>& to, void* scratch) {
  (!to.positions   ? backward_of<T, L, false, true>
   : to.parameters ? backward_of<T, L, true, true>
                   : backward_of<T, L, true, false>)(o, tables, points, atoms, grad, to, scratch);
}

}  // namespace

template <class T>
void orbital_sums(const Orbitals& o, const OrbitalTables<T>& tables, const TilePoints& points, const Candidates& atoms,
                  T* out, void* scratch) {
  (o.l_max == 0 ? sums_of<T, 0> : o.l_max == 1 ? sums_of<T, 1> : sums_of<T, 2>)(o, tables, points, atoms, out, scratch);
}

template <class T>
void orbital_sums_backward(const Orbitals& o, const OrbitalTables<T>& tables, const TilePoints& points,
                           const Candidates& atoms, const T* grad, const OrbitalGradients<T>& to, void* scratch) {
  (o.l_max == 0   ? backward_with<T, 0>
   : o.l_max == 1 ? backward_with<T, 1>
                  : backward_with<T, 2>)(o, tables, points, atoms, grad, to, scratch);
}

template void orbital_sums<float>(const Orbitals&, const OrbitalTables<float>&, const TilePoints&, const Candidates&,
                                  float*, void*);
template void orbital_sums<double>(const Orbitals&, const OrbitalTables<double>&, const TilePoints&, const Candidates&,
                                   double*, void*);
template void orbital_sums_backward<float>(const Orbitals&, const OrbitalTables<float>&, const TilePoints&,
                                           const Candidates&, const float*, const OrbitalGradients<float>&, void*);
template void orbital_sums_backward<double>(const Orbitals&, const OrbitalTables<double>&, const TilePoints&,
                                            const Candidates&, const double*, const OrbitalGradients<double>&, void*);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
