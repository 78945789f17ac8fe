// The layers of a crystal-graph network on the graphs of some points, in the second-level cache.
//
// Edges between atoms bring their part of gate and core with them (crystal_pairs); in the first layer, whose states
// depend on the species alone, their whole message. What is left of a layer is one product per node, and per edge the
// sum of three rows and its sigmoid and softplus.
#include "core/cubic.hpp"
#include "cpu/crystal.hpp"
#include "cpu/kernels/dense.hpp"
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/gate.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr int kVectors = kRegisters >= 32 ? 4 : 2;  // of features that are summed at once

// visit(vectors, first feature) for all features of a padded row.
template <class T, class F>
DCHARGE_INLINE void for_feature_blocks(int64_t padded, F visit) {
  constexpr int W = kLanes<T>;
  int64_t feature = 0;
  for (; feature + kVectors * W <= padded; feature += kVectors * W) {
    visit(std::integral_constant<int, kVectors>{}, feature);
  }
  for (; feature < padded; feature += W) {
    visit(std::integral_constant<int, 1>{}, feature);
  }
}

// to[2 F] = the table at distance r.
template <class T>
DCHARGE_INLINE void interpolate(const CrystalNetwork<T>& n, const T* table, double r, T* to) {
  double s, w[4];
  int64_t row = 2 * n.padded;
  const T* knots = table + first_knot(r * n.per_knot, n.n_knots, &s) * row;
  cubic_weights(s, w);
  Vec<T> weight[4] = {set1(T(w[0])), set1(T(w[1])), set1(T(w[2])), set1(T(w[3]))};
  for (int64_t f = 0; f < row; f += kLanes<T>) {
    Vec<T> sum = weight[0] * load<T>(knots + f);
#pragma GCC unroll 3
    for (int k = 1; k < 4; ++k) {
      sum += weight[k] * load<T>(knots + k * row + f);
    }
    store<T>(to + f, sum);
  }
}

// Sum of the messages along edges e = begin .. end - 1, in units of ln 2: neighbor(e) and term(e) are rows of 2 F.
template <class T, int V, class Neighbor, class Term>
DCHARGE_INLINE void add_edges(const T* center, int64_t padded, int64_t feature, int32_t begin, int32_t end,
                              Neighbor neighbor, Term term, Vec<T> (&sum)[V]) {
  constexpr int W = kLanes<T>;
  for (int32_t e = begin; e < end; ++e) {
    const T *of = neighbor(e) + feature, *at = term(e) + feature;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      Vec<T> closing = load<T>(center + feature + v * W) + load<T>(of + v * W) + load<T>(at + v * W);
      Vec<T> core =
          load<T>(center + padded + feature + v * W) + load<T>(of + padded + v * W) + load<T>(at + padded + v * W);
      sum[v] += gated<T>(closing, core);
    }
  }
}

// x <- softplus(x + scale sum + shift), V vectors of features.
template <class T, int V>
DCHARGE_INLINE void update(const T* x, const T* scale, const T* shift, const Vec<T> (&sum)[V], T* to) {
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    int64_t f = v * kLanes<T>;
    Vec<T> y = load<T>(x + f) + load<T>(scale + f) * sum[v] + load<T>(shift + f);
    store<T>(to + f, T(kLn2) * softplus_of<T>(T(kPerLn2) * y));
  }
}

template <class T>
struct CrystalScratch {
  T *x, *both, *terms;  // [rows][F], [rows][4 F], [rows][2 F]
  int64_t bytes = 0;

  CrystalScratch(const CrystalNetwork<T>& n, int64_t n_nodes, void* memory) {
    auto* at = static_cast<char*>(memory);
    int64_t rows = whole_rows(n_nodes, kSumRows<T>);
    auto part = [&](T*& pointer, int64_t width) {
      pointer = reinterpret_cast<T*>(at + bytes);
      bytes += (rows * width * int64_t(sizeof(T)) + 63) / 64 * 64;
    };
    part(x, n.padded);
    part(both, 4 * n.padded);
    part(terms, 2 * n.padded);
  }
};

// both[row] = bias + W x[row] for whole groups of rows.
template <class T>
void multiply(const CrystalNetwork<T>& n, int64_t layer, int64_t n_rows, const T* x, T* both) {
  int64_t F = n.padded, n_panels = 4 * F / kPad;
  const T* bias = n.bias + (layer - 1) * 4 * F;
  rows_by_panels<T>(
      x, F, n_rows, n.weights + (layer - 1) * n_panels * n.n_features * kPad, n_panels, n.n_features,
      [&](int64_t c) { return load<T>(bias + c); },
      [&](int64_t r, int64_t c, Vec<T> v) { store<T>(both + r * 4 * F + c, v); });
}

// The table at the distances of atoms from their probe, where an edge joins them.
template <class T>
void probe_terms(const CrystalNetwork<T>& n, const CrystalBatch& batch, int64_t layer, T* terms) {
  const T* table = n.table + layer * n.n_knots * 2 * n.padded;
  for (int64_t p = 0; p < batch.n_points; ++p) {
    int32_t probe = batch.node_offset[p], end = batch.node_offset[p + 1];
    for (int32_t node = probe + 1; node < end; ++node) {
      if (batch.near[node]) {
        interpolate(n, table, batch.distance[node], terms + node * 2 * n.padded);
      }
    }
  }
}

// The states of all nodes after the first layer. An edge from or to a probe has the term of its atom.
template <class T>
void first_layer(const CrystalNetwork<T>& n, const CrystalPairs<T>& pairs, const CrystalBatch& batch, const T* terms,
                 T* x) {
  int64_t F = n.padded;
  for (int64_t p = 0; p < batch.n_points; ++p) {
    int32_t probe = batch.node_offset[p];
    for (int32_t node = probe; node < batch.node_offset[p + 1]; ++node) {
      int64_t species = batch.species[node];
      for_feature_blocks<T>(F, [&](auto vectors, int64_t f) {
        constexpr int V = decltype(vectors)::value, W = kLanes<T>;
        Vec<T> sum[V] = {};
        for (int32_t e = batch.pair_offset[node]; e < batch.pair_offset[node + 1]; ++e) {
          const T* message = pairs.message + int64_t(batch.pair[e]) * F + f;
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            sum[v] += load<T>(message + v * W);
          }
        }
        add_edges<T, V>(
            n.center + species * 2 * F, F, f, batch.probe_offset[node], batch.probe_offset[node + 1],
            [&](int32_t e) { return n.neighbor + int64_t(batch.species[batch.probe_target[e]]) * 2 * F; },
            [&](int32_t e) { return terms + int64_t(node == probe ? batch.probe_target[e] : node) * 2 * F; }, sum);
        update<T, V>(n.state + species * F + f, n.scale + f, n.shift + f, sum, x + node * F + f);
      });
    }
  }
}

template <class T>
void further_layer(const CrystalNetwork<T>& n, const T* pair_terms, const CrystalBatch& batch, int64_t layer,
                   const T* terms, const T* both, T* x) {
  int64_t F = n.padded;
  const T *scale = n.scale + layer * F, *shift = n.shift + layer * F;
  for (int64_t p = 0; p < batch.n_points; ++p) {
    int32_t probe = batch.node_offset[p];
    for (int32_t node = probe; node < batch.node_offset[p + 1]; ++node) {
      const T* center = both + int64_t(node) * 4 * F;
      for_feature_blocks<T>(F, [&](auto vectors, int64_t f) {
        constexpr int V = decltype(vectors)::value;
        Vec<T> sum[V] = {};
        add_edges<T, V>(
            center, F, f, batch.pair_offset[node], batch.pair_offset[node + 1],
            [&](int32_t e) { return both + (int64_t(batch.pair_target[e]) * 4 + 2) * F; },
            [&](int32_t e) { return pair_terms + int64_t(batch.pair[e]) * 2 * F; }, sum);
        add_edges<T, V>(
            center, F, f, batch.probe_offset[node], batch.probe_offset[node + 1],
            [&](int32_t e) { return both + (int64_t(batch.probe_target[e]) * 4 + 2) * F; },
            [&](int32_t e) { return terms + int64_t(node == probe ? batch.probe_target[e] : node) * 2 * F; }, sum);
        update<T, V>(x + node * F + f, scale + f, shift + f, sum, x + node * F + f);
      });
    }
  }
}

// Means of the states over the nodes of every point; out rows are `stride` apart.
template <class T>
void pool(const CrystalNetwork<T>& n, const CrystalBatch& batch, const T* x, int64_t stride, T* out) {
  constexpr int W = kLanes<T>;
  for (int64_t p = 0; p < batch.n_points; ++p) {
    int32_t begin = batch.node_offset[p], end = batch.node_offset[p + 1];
    T share = T(1) / T(end - begin);
    for (int64_t f = 0; f < n.n_features; f += W) {
      Vec<T> sum{};
      for (int32_t node = begin; node < end; ++node) {
        sum += load<T>(x + int64_t(node) * n.padded + f);
      }
      sum = sum * set1(share);
      int64_t count = n.n_features - f < W ? n.n_features - f : W;
      __builtin_memcpy(out + p * stride + f, &sum, count * sizeof(T));
    }
  }
}

}  // namespace

template <class T>
void crystal_pairs(const CrystalNetwork<T>& n, int64_t first, int64_t n_pairs, const double* distance,
                   const int32_t* species, const CrystalPairs<T>& pairs) {
  int64_t F = n.padded;
  T terms[2 * kMostCrystalFeatures];
  for (int64_t i = 0; i < n_pairs; ++i) {
    interpolate(n, n.table, distance[i], terms);
    for_feature_blocks<T>(F, [&](auto vectors, int64_t f) {
      constexpr int V = decltype(vectors)::value, W = kLanes<T>;
      Vec<T> sum[V] = {};
      add_edges<T, V>(
          n.center + int64_t(species[2 * i]) * 2 * F, F, f, 0, 1,
          [&](int32_t) { return n.neighbor + int64_t(species[2 * i + 1]) * 2 * F; }, [&](int32_t) { return terms; },
          sum);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        store<T>(pairs.message + (first + i) * F + f + v * W, sum[v]);
      }
    });
    for (int64_t layer = 1; layer < n.n_layers; ++layer) {
      interpolate(n, n.table + layer * n.n_knots * 2 * F, distance[i], pairs.terms[layer - 1] + (first + i) * 2 * F);
    }
  }
}

template <class T>
void crystal_network(const CrystalNetwork<T>& n, const CrystalPairs<T>& pairs, const CrystalBatch& batch, T* out,
                     void* scratch) {
  CrystalScratch<T> s(n, batch.n_nodes, scratch);
  int64_t rows = whole_rows(batch.n_nodes, kSumRows<T>), stride = n.n_features;
  if (n.all_layers) {
    stride *= n.n_layers + 1;
    for (int64_t node = 0; node < batch.n_nodes; ++node) {
      __builtin_memcpy(s.x + node * n.padded, n.state + batch.species[node] * n.padded, n.padded * sizeof(T));
    }
    pool(n, batch, s.x, stride, out);
  }
  __builtin_memset(s.x + batch.n_nodes * n.padded, 0, (rows - batch.n_nodes) * n.padded * sizeof(T));
  for (int64_t layer = 0; layer < n.n_layers; ++layer) {
    probe_terms(n, batch, layer, s.terms);
    if (layer == 0) {
      first_layer(n, pairs, batch, s.terms, s.x);
    } else {
      multiply(n, layer, rows, s.x, s.both);
      further_layer(n, pairs.terms[layer - 1], batch, layer, s.terms, s.both, s.x);
    }
    if (n.all_layers || layer + 1 == n.n_layers) {
      pool(n, batch, s.x, stride, out + (n.all_layers ? (layer + 1) * n.n_features : 0));
    }
  }
}

template <class T>
size_t crystal_network_scratch(const CrystalNetwork<T>& n, int64_t n_nodes) {
  return CrystalScratch<T>(n, n_nodes, nullptr).bytes;
}

#define DCHARGE_CRYSTAL_NETWORK(T)                                                                                    \
  template void crystal_pairs<T>(const CrystalNetwork<T>&, int64_t, int64_t, const double*, const int32_t*,           \
                                 const CrystalPairs<T>&);                                                             \
  template void crystal_network<T>(const CrystalNetwork<T>&, const CrystalPairs<T>&, const CrystalBatch&, T*, void*); \
  template size_t crystal_network_scratch<T>(const CrystalNetwork<T>&, int64_t);
DCHARGE_CRYSTAL_NETWORK(float)
DCHARGE_CRYSTAL_NETWORK(double)

}  // namespace DCHARGE_ISA
}  // namespace dcharge
