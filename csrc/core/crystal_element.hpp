// crystal_convolution and its adjoint (docs/architecture.md, "Crystal convolution"), one node and feature per element:
// neighbouring elements read neighbouring numbers of all rows.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/atomic.hpp"
#include "core/cubic.hpp"

namespace dcharge {

template <class T>
struct CrystalArguments {
  int64_t n_nodes, n_features, n_knots, n_edges;
  double per_knot;             // knots per Angstrom
  const T *center, *neighbor;  // [n_nodes, 2 n_features]: gate, core; rows `stride`s apart
  int64_t center_stride, neighbor_stride;
  const T* table;  // [n_knots, 2 n_features]
  const int64_t *edge_offset, *edge_target;
  const double* edge_distance;
  T* out;  // [n_nodes, n_features]
  // adjoint only
  const T* grad;                            // like out
  double *d_center, *d_neighbor, *d_table;  // rows of 2 n_features; the last two are added to
};

DCHARGE_INLINE float exponential(float x) { return expf(x); }
DCHARGE_INLINE double exponential(double x) { return exp(x); }
DCHARGE_INLINE float log_one_plus(float x) { return log1pf(x); }
DCHARGE_INLINE double log_one_plus(double x) { return log1p(x); }

template <class T>
DCHARGE_INLINE T sigmoid(T x) {
  T e = exponential(x < 0 ? x : -x), part = T(1) / (T(1) + e);
  return x < 0 ? e * part : part;
}

template <class T>
DCHARGE_INLINE T softplus(T x) {
  return (x < 0 ? T(0) : x) + log_one_plus(exponential(x < 0 ? x : -x));
}

// One edge at one feature: gate and core, and what its table adds with.
template <class T>
struct CrystalEdge {
  int64_t target, row;
  T weight[4], gate, core;
};

// False for an edge that does not exist: arguments that were not checked.
template <class T>
DCHARGE_INLINE bool crystal_edge(const CrystalArguments<T>& a, int64_t node, int64_t f, int64_t e,
                                 CrystalEdge<T>& edge) {
  int64_t F = a.n_features;
  double place = e >= 0 && e < a.n_edges ? a.edge_distance[e] * a.per_knot : -1, s, weight[4];
  if (!(place >= 0 && place <= static_cast<double>(a.n_knots - 1) * (1 + 1e-9)) || a.edge_target[e] < 0 ||
      a.edge_target[e] >= a.n_nodes) {
    return false;
  }
  edge.target = a.edge_target[e];
  edge.row = first_knot(place, a.n_knots, &s) * 2 * F + f;
  cubic_weights(s, weight);
  const T *center = a.center + node * a.center_stride + f, *of = a.neighbor + edge.target * a.neighbor_stride + f;
  edge.gate = center[0] + of[0];
  edge.core = center[F] + of[F];
  for (int k = 0; k < 4; ++k) {
    edge.weight[k] = static_cast<T>(weight[k]);
    edge.gate += edge.weight[k] * a.table[edge.row + 2 * k * F];
    edge.core += edge.weight[k] * a.table[edge.row + (2 * k + 1) * F];
  }
  return true;
}

template <class T>
DCHARGE_INLINE void crystal_convolution_element(const CrystalArguments<T>& a, int64_t i) {
  int64_t node = i / a.n_features, f = i % a.n_features;
  T sum = 0;
  for (int64_t e = a.edge_offset[node]; e < a.edge_offset[node + 1]; ++e) {
    CrystalEdge<T> edge;
    if (!crystal_edge(a, node, f, e, edge)) {
      sum = static_cast<T>(NAN);
      break;
    }
    sum += sigmoid(edge.gate) * softplus(edge.core);
  }
  a.out[i] = sum;
}

template <class T>
DCHARGE_INLINE void crystal_convolution_backward_element(const CrystalArguments<T>& a, int64_t i) {
  int64_t F = a.n_features, node = i / F, f = i % F;
  T weight = a.grad[i], gate = 0, core = 0;
  for (int64_t e = a.edge_offset[node]; e < a.edge_offset[node + 1]; ++e) {
    CrystalEdge<T> edge;
    if (!crystal_edge(a, node, f, e, edge)) {
      gate = static_cast<T>(NAN);
      break;
    }
    T open = sigmoid(edge.gate), d_gate = weight * softplus(edge.core) * open * sigmoid(-edge.gate);
    T d_core = weight * open * sigmoid(edge.core);
    gate += d_gate;
    core += d_core;
    double* to = a.d_neighbor + edge.target * 2 * F + f;
    atomic_add(to, static_cast<double>(d_gate));
    atomic_add(to + F, static_cast<double>(d_core));
    for (int k = 0; k < 4; ++k) {
      atomic_add(a.d_table + edge.row + 2 * k * F, static_cast<double>(edge.weight[k] * d_gate));
      atomic_add(a.d_table + edge.row + (2 * k + 1) * F, static_cast<double>(edge.weight[k] * d_core));
    }
  }
  a.d_center[node * 2 * F + f] = static_cast<double>(gate);
  a.d_center[node * 2 * F + F + f] = static_cast<double>(core);
}

}  // namespace dcharge
