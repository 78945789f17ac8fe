// crystal_convolution and its adjoint on the CPU: one node after the other, vectors of features as lanes. The rows of
// a table at a pair's distance are one stretch of memory, because four knots follow each other.
#include "cpu/crystal.hpp"

#include "core/cubic.hpp"
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/gate.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr int kEdgesAtOnce = 32;                    // of a node, whose places in the table are held
constexpr int kVectors = kRegisters >= 32 ? 4 : 2;  // of features that are summed at once

// An edge: weights of four rows of the table, and the neighbour.
template <class T>
struct Edge {
  T weight[4];
  int64_t row;
  int64_t target;
};

template <class T>
DCHARGE_INLINE Edge<T> make_edge(const CrystalGraph<T>& g, int64_t e, double unit) {
  Edge<T> edge;
  double s, weight[4];
  edge.row = first_knot(g.edge_distance[e] * g.per_knot, g.n_knots, &s) * (2 * g.n_features);
  cubic_weights(s, weight);
  for (int k = 0; k < 4; ++k) {
    edge.weight[k] = static_cast<T>(weight[k] * unit);
  }
  edge.target = g.edge_target[e];
  return edge;
}

// A vector of a row; where it is not Whole only n numbers are there.
template <class T, bool Whole>
DCHARGE_INLINE Vec<T> load_of(const T* p, int64_t n) {
  if constexpr (Whole) {
    return load<T>(p);
  } else {
    T padded[kLanes<T>] = {};
    __builtin_memcpy(padded, p, n * sizeof(T));
    return load<T>(padded);
  }
}

template <class T, bool Whole>
DCHARGE_INLINE void store_to(T* p, Vec<T> v, int64_t n) {
  if constexpr (Whole) {
    store<T>(p, v);
  } else {
    T padded[kLanes<T>];
    store<T>(padded, v);
    __builtin_memcpy(p, padded, n * sizeof(T));
  }
}

// out[feature ..] (+)= messages of n edges to one node, V vectors of features.
template <class T, int V, bool Whole>
DCHARGE_INLINE void add_messages(const CrystalGraph<T>& g, const T* center, const Edge<T>* edges, int n,
                                 int64_t feature, bool first, T* out) {
  constexpr int W = kLanes<T>;
  int64_t F = g.n_features, rest = F - feature;
  Vec<T> closing[V], core[V], sum[V];  // closing: -gate
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    closing[v] = T(-kPerLn2) * load_of<T, Whole>(center + feature + v * W, rest);
    core[v] = T(kPerLn2) * load_of<T, Whole>(center + F + feature + v * W, rest);
    sum[v] = Vec<T>{};
  }
  for (int e = 0; e < n; ++e) {
    const T *row = g.table + edges[e].row + feature, *of = g.neighbor + edges[e].target * g.neighbor_stride + feature;
    Vec<T> weight[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      weight[k] = set1(edges[e].weight[k]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      Vec<T> a = closing[v] - T(kPerLn2) * load_of<T, Whole>(of + v * W, rest);
      Vec<T> b = core[v] + T(kPerLn2) * load_of<T, Whole>(of + F + v * W, rest);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        a -= weight[k] * load_of<T, Whole>(row + 2 * k * F + v * W, rest);
        b += weight[k] * load_of<T, Whole>(row + (2 * k + 1) * F + v * W, rest);
      }
      sum[v] += gated<T>(a, b);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    T* to = out + feature + v * W;
    Vec<T> message = T(kLn2) * sum[v];
    store_to<T, Whole>(to, first ? message : message + load_of<T, Whole>(to, rest), rest);
  }
}

template <class T>
DCHARGE_INLINE void node_messages(const CrystalGraph<T>& g, int64_t node, T* out) {
  constexpr int W = kLanes<T>;
  const T* center = g.center + node * g.center_stride;
  Edge<T> edges[kEdgesAtOnce];
  int64_t begin = g.edge_offset[node], end = g.edge_offset[node + 1], start = begin;
  do {
    int n = static_cast<int>(end - start < kEdgesAtOnce ? end - start : kEdgesAtOnce);
    for (int e = 0; e < n; ++e) {
      edges[e] = make_edge(g, start + e, kPerLn2);
    }
    bool first = start == begin;
    int64_t feature = 0;
    for (; feature + kVectors * W <= g.n_features; feature += kVectors * W) {
      add_messages<T, kVectors, true>(g, center, edges, n, feature, first, out);
    }
    for (; feature + W <= g.n_features; feature += W) {
      add_messages<T, 1, true>(g, center, edges, n, feature, first, out);
    }
    if (feature < g.n_features) {
      add_messages<T, 1, false>(g, center, edges, n, feature, first, out);
    }
    start += kEdgesAtOnce;
  } while (start < end);
}

// Gradients in one vector of features.
template <class T, bool Whole>
void backward_of(const CrystalGraph<T>& g, const T* grad, int64_t feature, const CrystalGradients<T>& d) {
  int64_t F = g.n_features, n = F - feature;
  auto add = [n](T* p, Vec<T> v) { store_to<T, Whole>(p, load_of<T, Whole>(p, n) + v, n); };
  for (int64_t node = 0; node < g.n_nodes; ++node) {
    const T* center = g.center + node * g.center_stride + feature;
    Vec<T> gate = load_of<T, Whole>(center, n), core = load_of<T, Whole>(center + F, n);
    Vec<T> weight = load_of<T, Whole>(grad + node * F + feature, n), d_gate{}, d_core{};
    for (int64_t e = g.edge_offset[node]; e < g.edge_offset[node + 1]; ++e) {
      Edge<T> edge = make_edge(g, e, 1.0);
      const T *row = g.table + edge.row + feature, *of = g.neighbor + edge.target * g.neighbor_stride + feature;
      Vec<T> a = gate + load_of<T, Whole>(of, n), b = core + load_of<T, Whole>(of + F, n);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        a += edge.weight[k] * load_of<T, Whole>(row + 2 * k * F, n);
        b += edge.weight[k] * load_of<T, Whole>(row + (2 * k + 1) * F, n);
      }
      Vec<T> d_a, d_b;
      gated_slopes<T>(T(-kPerLn2) * a, T(kPerLn2) * b, d_a, d_b);
      d_a *= weight;
      d_b *= weight;
      d_gate += d_a;
      d_core += d_b;
      T *to = d.neighbor + edge.target * 2 * F + feature, *knots = d.table + edge.row + feature;
      add(to, d_a);
      add(to + F, d_b);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        add(knots + 2 * k * F, edge.weight[k] * d_a);
        add(knots + (2 * k + 1) * F, edge.weight[k] * d_b);
      }
    }
    add(d.center + node * 2 * F + feature, d_gate);
    add(d.center + node * 2 * F + F + feature, d_core);
  }
}

}  // namespace

template <class T>
void crystal_convolution(const CrystalGraph<T>& g, int64_t begin, int64_t end, T* out) {
  for (int64_t node = begin; node < end; ++node) {
    node_messages(g, node, out + node * g.n_features);
  }
}

template <class T>
void crystal_convolution_backward(const CrystalGraph<T>& g, const T* grad, int64_t slice,
                                  const CrystalGradients<T>& d) {
  int64_t feature = slice * kLanes<T>;
  (feature + kLanes<T> <= g.n_features ? backward_of<T, true> : backward_of<T, false>)(g, grad, feature, d);
}

#define DCHARGE_CRYSTAL(T)                                                            \
  template void crystal_convolution<T>(const CrystalGraph<T>&, int64_t, int64_t, T*); \
  template void crystal_convolution_backward<T>(const CrystalGraph<T>&, const T*, int64_t, const CrystalGradients<T>&);
DCHARGE_CRYSTAL(float)
DCHARGE_CRYSTAL(double)

}  // namespace DCHARGE_ISA
}  // namespace dcharge
