// What the kernels of pair_messages work on. Plain data, like cpu/kernels.hpp.
#pragma once

#include <cstdint>

namespace dcharge {

// Arguments of pair_messages. Columns are padded with zeros to whole tiles of max(16, 2 width): `hidden` and `features`
// numbers instead of n_hidden and n_features. In filtered_sums `weight` is null and `sent` has rows of `features`; there is
// nothing of the hidden layer.
template <class T>
struct MessageGraph {
  int64_t n_hidden, n_features, hidden, features, n_knots;
  double per_knot;                  // knots per Angstrom
  const T *sent, *received;         // rows of `hidden`
  const int64_t *offset, *atom;     // the pairs of point i are offset[i] .. offset[i + 1] - 1
  const double* distance;           // Angstrom
  const T *table, *bias;            // rows of `features`
  const T *weight, *weight_turned;  // panels [features / 16][n_hidden][16], [hidden / 16][n_features][16]
};

// Gradients of pair_messages, rows as above, added to; weight [features][hidden].
template <class T>
struct MessageGradients {
  T *sent, *received, *weight, *bias, *table;
};

constexpr int64_t kMessagePoints = 96;  // that message_network takes at once, a multiple of kSumRows for all sets

// All layers of DeepDFT's invariant probe network. Columns are padded with zeros to multiples of 16.
template <class T>
struct MessageNetwork {
  int64_t n_layers, n_atoms, n_knots, features, hidden;
  double per_knot;
  const T* first;               // [n_atoms][features]: what atoms send in the first layer
  const T* sent;                // [n_layers - 1][n_atoms][hidden]
  const int64_t *offset, *atom; // as in MessageGraph
  const double* distance;
  const T* table;               // [n_layers][n_knots][features]
  // of the first layer: transition, first and second; of the others: receiver's part and the gate's first, node's second,
  // transition's first and second, gate's second; panels [columns / 16][inputs][16]
  const T* weights;
  // their biases, in the same order; after those of the first layer what its gate lets through
  const T* vectors;
};

}  // namespace dcharge
