// probe_messages and its adjoint on the CPU: one slice of features of one layer at a time, so that its part of the
// filters stays in the second-level cache while the pairs of many points pass, and the sums of a point in registers.
#include "core/probe.hpp"

#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/vec.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// Features of one slice: layer and first feature, and where its packed rows begin.
template <class T, int V>
struct Slice {
  static constexpr int W = kLanes<T>, C = V * W;
  int64_t layer, feature, width;  // width: features that are not padding
  int64_t states, table;          // offsets

  Slice(const Probe& p, const ProbeTables<T>& tables, int64_t index) {
    int64_t n = (p.n_features + C - 1) / C;
    layer = index / n;
    feature = index % n * C;
    width = p.n_features - feature < C ? p.n_features - feature : C;
    states = index * tables.n_atoms * kStates * C;
    table = index * p.n_knots * kFilters * C;
  }
};

// Offsets of a pair's rows in a slice of C features.
template <class T>
DCHARGE_INLINE int64_t knots_at(const ProbePair<T>& pair, int C) {
  return static_cast<int64_t>(pair.knot) * (kFilters * C);
}

template <class T>
DCHARGE_INLINE int64_t state_at(const ProbePair<T>& pair, int C) {
  return static_cast<int64_t>(pair.atom) * (kStates * C);
}

template <class T, int V>
int64_t n_slices(const Probe& p) {
  constexpr int C = V * kLanes<T>;
  return p.n_layers * ((p.n_features + C - 1) / C);
}

// Filter q of vector v from the rows of four knots, weighted.
template <class T, int V>
DCHARGE_INLINE Vec<T> filter(const T* knots, const Vec<T>* weight, int q, int v) {
  constexpr int W = kLanes<T>, C = V * W;
  Vec<T> sum = weight[0] * load<T>(knots + q * C + v * W);
#pragma GCC unroll 4
  for (int i = 1; i < 4; ++i) {
    sum += weight[i] * load<T>(knots + (i * kFilters + q) * C + v * W);
  }
  return sum;
}

template <class T, int V>
void sums_of(const Probe& p, const ProbeTables<T>& tables, const ProbePairs<T>& pairs, T* out) {
  constexpr int W = kLanes<T>, C = V * W;
  // a slice of a row of the result is far from the next: stored past the caches it is not read before
  bool aligned = reinterpret_cast<uintptr_t>(out) % kBytes == 0 && p.n_features % W == 0;
  for (int64_t index = 0; index < n_slices<T, V>(p); ++index) {
    Slice<T, V> slice(p, tables, index);
    const T *states = tables.states + slice.states, *table = tables.table + slice.table;
    for (int64_t i = 0; i < pairs.n_points; ++i) {
      Vec<T> sum[kComponents][V];
#pragma GCC unroll 16
      for (int k = 0; k < kComponents * V; ++k) {
        sum[k / V][k % V] = Vec<T>{};
      }
      for (int64_t e = pairs.first[i]; e < pairs.first[i + 1]; ++e) {
        const ProbePair<T>& pair = pairs.pair[e];
        const T *knots = table + knots_at(pair, C), *state = states + state_at(pair, C);
        Vec<T> weight[4], u[3];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          weight[k] = set1(pair.weight[k]);
        }
#pragma GCC unroll 3
        for (int x = 0; x < 3; ++x) {
          u[x] = set1(pair.u[x]);
        }
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const T* of = state + v * W;
          sum[0][v] += filter<T, V>(knots, weight, 0, v) * load<T>(of);
          Vec<T> along = filter<T, V>(knots, weight, 2, v) * load<T>(of + C);
          Vec<T> vector = filter<T, V>(knots, weight, 1, v);
#pragma GCC unroll 3
          for (int x = 0; x < 3; ++x) {
            sum[1 + x][v] += vector * load<T>(of + (2 + x) * C);
            sum[1 + x][v] += along * u[x];
          }
        }
      }
      T* to = out + (pairs.row[i] * p.n_layers + slice.layer) * kComponents * p.n_features + slice.feature;
      if (aligned && slice.width == C) {
#pragma GCC unroll 16
        for (int k = 0; k < kComponents * V; ++k) {
          stream_store<T>(to + k / V * p.n_features + k % V * W, sum[k / V][k % V]);
        }
      } else {
        T padded[kComponents * C];  // sums stay in registers where their addresses are not taken
#pragma GCC unroll 16
        for (int k = 0; k < kComponents * V; ++k) {
          store<T>(padded + k * W, sum[k / V][k % V]);
        }
        for (int k = 0; k < kComponents; ++k) {
          __builtin_memcpy(to + k * p.n_features, padded + k * C, slice.width * sizeof(T));
        }
      }
    }
  }
  stream_end();
}

// Gradient of the result at one point, zeros in the padding.
template <class T, int V>
DCHARGE_INLINE void load_grad(const Probe& p, const Slice<T, V>& slice, const T* grad, int64_t row, Vec<T> (*g)[V]) {
  constexpr int W = kLanes<T>, C = V * W;
  const T* from = grad + (row * p.n_layers + slice.layer) * kComponents * p.n_features + slice.feature;
  for (int k = 0; k < kComponents; ++k) {
    T padded[C] = {};
    const T* of = from + k * p.n_features;
    if (slice.width < C) {
      __builtin_memcpy(padded, of, slice.width * sizeof(T));
      of = padded;
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      g[k][v] = load<T>(of + v * W);
    }
  }
}

template <class T>
DCHARGE_INLINE void add_to(T* p, Vec<T> v) {
  store<T>(p, load<T>(p) + v);
}

template <class T, int V>
void parameters_of(const Probe& p, const ProbeTables<T>& tables, const ProbePairs<T>& pairs, int64_t index,
                   const T* grad, T* d_states, T* d_table) {
  constexpr int W = kLanes<T>, C = V * W;
  using Vector = Vec<T>;
  Slice<T, V> slice(p, tables, index);
  for (int64_t i = 0; i < pairs.n_points; ++i) {
    if (pairs.first[i] == pairs.first[i + 1]) {
      continue;
    }
    Vector g[kComponents][V];
    load_grad<T, V>(p, slice, grad, pairs.row[i], g);
    for (int64_t e = pairs.first[i]; e < pairs.first[i + 1]; ++e) {
      const ProbePair<T>& pair = pairs.pair[e];
      int64_t at_knots = slice.table + knots_at(pair, C), at_state = slice.states + state_at(pair, C);
      const T *knots = tables.table + at_knots, *state = tables.states + at_state;
      Vector weight[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        weight[k] = set1(pair.weight[k]);
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const T* of = state + v * W;
        T* to = d_states + at_state + v * W;
        Vector along = pair.u[0] * g[1][v] + pair.u[1] * g[2][v] + pair.u[2] * g[3][v];
        Vector vector = filter<T, V>(knots, weight, 1, v);
        add_to<T>(to, filter<T, V>(knots, weight, 0, v) * g[0][v]);
        add_to<T>(to + C, filter<T, V>(knots, weight, 2, v) * along);
        Vector d[kFilters] = {load<T>(of) * g[0][v], Vector{}, load<T>(of + C) * along};
#pragma GCC unroll 3
        for (int x = 0; x < 3; ++x) {
          add_to<T>(to + (2 + x) * C, vector * g[1 + x][v]);
          d[1] += load<T>(of + (2 + x) * C) * g[1 + x][v];
        }
#pragma GCC unroll 12
        for (int k = 0; k < 4 * kFilters; ++k) {
          add_to<T>(d_table + at_knots + k * C + v * W, weight[k / kFilters] * d[k % kFilters]);
        }
      }
    }
  }
}

template <class T, int V>
void positions_of(const Probe& p, const ProbeTables<T>& tables, const ProbePairs<T>& pairs, const T* grad,
                  double* d_pairs) {
  constexpr int W = kLanes<T>, C = V * W;
  using Vector = Vec<T>;
  int64_t n_pairs = pairs.first[pairs.n_points];
  __builtin_memset(d_pairs, 0, n_pairs * 4 * sizeof(double));
  for (int64_t index = 0; index < n_slices<T, V>(p); ++index) {
    Slice<T, V> slice(p, tables, index);
    for (int64_t i = 0; i < pairs.n_points; ++i) {
      Vector g[kComponents][V];
      load_grad<T, V>(p, slice, grad, pairs.row[i], g);
      for (int64_t e = pairs.first[i]; e < pairs.first[i + 1]; ++e) {
        const ProbePair<T>& pair = pairs.pair[e];
        const T* knots = tables.table + slice.table + knots_at(pair, C);
        const T* state = tables.states + slice.states + state_at(pair, C);
        T slopes[4];
        cubic_slopes<T>(pair.s, slopes);
        Vector weight[4], slope[4], radial{}, b[3] = {};
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          weight[k] = set1(pair.weight[k]);
          slope[k] = set1(slopes[k]);
        }
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const T* of = state + v * W;
          Vector Q = load<T>(of + C), wQ = filter<T, V>(knots, weight, 2, v) * Q;
          Vector along = pair.u[0] * g[1][v] + pair.u[1] * g[2][v] + pair.u[2] * g[3][v];
          Vector vector{};
#pragma GCC unroll 3
          for (int x = 0; x < 3; ++x) {
            b[x] += wQ * g[1 + x][v];
            vector += load<T>(of + (2 + x) * C) * g[1 + x][v];
          }
          radial += filter<T, V>(knots, slope, 0, v) * load<T>(of) * g[0][v];
          radial += filter<T, V>(knots, slope, 1, v) * vector + filter<T, V>(knots, slope, 2, v) * Q * along;
        }
        double* to = d_pairs + 4 * e;
        to[0] += sum<T>(radial);
        for (int x = 0; x < 3; ++x) {
          to[1 + x] += sum<T>(b[x]);
        }
      }
    }
  }
  // with respect to d = r u: u dr + (1 - u u) b / r
  for (int64_t e = 0; e < n_pairs; ++e) {
    const ProbePair<T>& pair = pairs.pair[e];
    double* to = d_pairs + 4 * e;
    double radial = to[0] * p.per_knot, along = pair.u[0] * to[1] + pair.u[1] * to[2] + pair.u[2] * to[3];
    for (int x = 0; x < 3; ++x) {
      to[x] = pair.u[x] * radial + (to[1 + x] - along * pair.u[x]) * pair.per_r;
    }
  }
}

}  // namespace

template <class T>
int64_t probe_pairs(const Probe& p, const TilePoints& points, int64_t i, const Candidates& atoms, double* square,
                    ProbePair<T>* out) {
  int64_t n = atoms.first[1], n_pairs = 0;
  double x = points.x[i], y = points.y[i], z = points.z[i], rcut2 = p.rcut * p.rcut;
  for (int64_t c = 0; c < n; ++c) {
    double dx = x - atoms.x[c], dy = y - atoms.y[c], dz = z - atoms.z[c];
    square[c] = dx * dx + dy * dy + dz * dz;
  }
  for (int64_t c = 0; c < n; ++c) {  // the places of the near ones first, without a branch
    out[n_pairs].atom = static_cast<int32_t>(c);
    n_pairs += square[c] < rcut2;
  }
  for (int64_t e = 0; e < n_pairs; ++e) {
    int32_t c = out[e].atom;
    ProbeGeometry g = probe_geometry(p, x - atoms.x[c], y - atoms.y[c], z - atoms.z[c], square[c]);
    double weight[4];
    cubic_weights(g.s, weight);
    for (int k = 0; k < 4; ++k) {
      out[e].weight[k] = static_cast<T>(weight[k]);
    }
    for (int a = 0; a < 3; ++a) {
      out[e].u[a] = static_cast<T>(g.u[a]);
    }
    out[e].s = static_cast<T>(g.s);
    out[e].per_r = static_cast<T>(g.per_r);
    out[e].knot = g.knot;
    out[e].atom = static_cast<int32_t>(atoms.source[c]);
  }
  return n_pairs;
}

template <class T>
void probe_messages(const Probe& p, const ProbeTables<T>& tables, const ProbePairs<T>& pairs, T* out) {
  (tables.vectors == 1 ? sums_of<T, 1> : sums_of<T, 2>)(p, tables, pairs, out);
}

template <class T>
void probe_parameters(const Probe& p, const ProbeTables<T>& tables, const ProbePairs<T>& pairs, int64_t slice,
                      const T* grad, T* d_states, T* d_table) {
  (tables.vectors == 1 ? parameters_of<T, 1> : parameters_of<T, 2>)(p, tables, pairs, slice, grad, d_states, d_table);
}

template <class T>
void probe_positions(const Probe& p, const ProbeTables<T>& tables, const ProbePairs<T>& pairs, const T* grad,
                     double* d_pairs) {
  (tables.vectors == 1 ? positions_of<T, 1> : positions_of<T, 2>)(p, tables, pairs, grad, d_pairs);
}

#define DCHARGE_PROBE(T)                                                                                              \
  template int64_t probe_pairs<T>(const Probe&, const TilePoints&, int64_t, const Candidates&, double*,               \
                                  ProbePair<T>*);                                                                     \
  template void probe_messages<T>(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, T*);                     \
  template void probe_parameters<T>(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, int64_t, const T*, T*, \
                                    T*);                                                                              \
  template void probe_positions<T>(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, const T*, double*);
DCHARGE_PROBE(float)
DCHARGE_PROBE(double)

}  // namespace DCHARGE_ISA
}  // namespace dcharge
