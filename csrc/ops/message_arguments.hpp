// The pairs of points and atoms, as pair_messages, filtered_sums and message_network take them.
#pragma once

#include "ops/check.hpp"

namespace dcharge {

// Python checks the same with better words.
inline void check_pairs(const Tensor& offset, const Tensor& atom, const Tensor& distance, int64_t n_atoms, double rcut) {
  const int64_t *first = data<int64_t>(offset), *to = data<int64_t>(atom);
  const double* d = data<double>(distance);
  int64_t n_points = offset.size(0) - 1, n_pairs = atom.size(0);
  bool good = first[0] == 0 && first[n_points] == n_pairs, known = true, near = true;
  for (int64_t i = 0; i < n_points; ++i) {
    good &= first[i] <= first[i + 1];
  }
  for (int64_t e = 0; e < n_pairs; ++e) {
    known &= to[e] >= 0 && to[e] < n_atoms;
    near &= d[e] >= 0 && d[e] <= rcut;
  }
  require(rcut > 0, "rcut: a positive length expected");
  require(good, "pair_offset: values must grow from 0 to the number of pairs");
  require(known, "pair_atom: values must lie in 0.." + std::to_string(n_atoms - 1) + " (rows of sent)");
  require(near, "distance: values in 0..rcut expected");
}

}  // namespace dcharge
