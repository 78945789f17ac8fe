// What the kernels of crystal-graph networks work on. Plain data, like cpu/kernels.hpp.
#pragma once

#include <cstdint>

namespace dcharge {

// Arguments of crystal_convolution. Rows of center, neighbor and table are gate, then core [2 n_features].
template <class T>
struct CrystalGraph {
  int64_t n_nodes, n_features, n_knots;
  double per_knot;  // knots per Angstrom
  const T *center, *neighbor, *table;
  int64_t center_stride, neighbor_stride;  // from row to row
  const int64_t *edge_offset, *edge_target;
  const double* edge_distance;
};

// Gradients of crystal_convolution, rows of 2 n_features, added to.
template <class T>
struct CrystalGradients {
  T *center, *neighbor, *table;
};

constexpr int64_t kMostCrystalFeatures = 1024;  // of crystal_network, padded

// The layers of crystal_network. Features are padded to whole vectors of kPad, F of them; what enters gate and core is
// in units of ln 2, so that exponentials are powers of two, and the gate has the other sign.
template <class T>
struct CrystalNetwork {
  int64_t n_layers, n_features, padded, n_knots;  // padded: F
  double per_knot;
  bool all_layers;             // whether the means of all layers' states are asked for, or those of the last
  const T* state;              // [n_species + 1, F], the last one the probe's
  const T *center, *neighbor;  // [n_species + 1, 2 F] of the first layer
  const T* weights;            // [n_layers - 1][4 F / 16][n_features][16]: center, neighbor
  const T* bias;               // [n_layers - 1][4 F]
  const T* table;              // [n_layers][n_knots][2 F]
  const T *scale, *shift;      // [n_layers][F]: x <- softplus(x + scale sum + shift), scale with ln 2
};

// Edges between two atoms: what does not depend on the probe, computed once for many points.
template <class T>
struct CrystalPairs {
  T* message;       // [n_pairs, F] of the first layer, whose states depend on the species alone
  T* const* terms;  // [n_layers - 1] of [n_pairs, 2 F]: the table at the pair's distance
};

// Graphs of some points. Node 0 of every point is the probe.
struct CrystalBatch {
  int64_t n_points, n_nodes;
  const int32_t* node_offset;                       // [n_points + 1]
  const int32_t* species;                           // [n_nodes]
  const double* distance;                           // [n_nodes] from the probe, Angstrom
  const uint8_t* near;                              // [n_nodes] whether an edge joins an atom and the probe
  const int32_t *pair_offset, *pair_target, *pair;  // edges between atoms: [n_nodes + 1], target node, CrystalPairs
  const int32_t *probe_offset, *probe_target;       // edges from and to probes: [n_nodes + 1], target node
};

}  // namespace dcharge
