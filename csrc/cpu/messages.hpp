// What the kernels of pair_messages work on. Plain data, like cpu/kernels.hpp.
#pragma once

#include <cstdint>

namespace dcharge {

// Arguments of pair_messages. Columns are padded with zeros to whole panels of C = 2 width: `hidden` and `features`
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
  const T *weight, *weight_turned;  // panels [features / C][n_hidden][C], [hidden / C][n_features][C]
};

// Gradients of pair_messages, rows as above, added to; weight [features][hidden].
template <class T>
struct MessageGradients {
  T *sent, *received, *weight, *bias, *table;
};

}  // namespace dcharge
