// What every point op receives. Plain data: this header is also seen by code compiled for different instruction sets.
#pragma once

#include <cstdint>

namespace dcharge {

// Parameters of the radial moments (docs/architecture.md), Angstrom.
struct Radial {
  double rcut, rcut_smth, soft;
  int64_t n_radial, l_max, n_types;
};

// Parameters of orbital sums, Angstrom.
struct Orbitals {
  double rcut, soft;
  int64_t l_max, n_waves, n_types;
  bool unit;  // monomials of vec/r~ instead of vec
};

// Parameters of probe messages, Angstrom; per_knot: knots of the filters per Angstrom.
struct Probe {
  double rcut, per_knot;
  int64_t n_knots, n_layers, n_features;
};

// The seven tensors of every point op, contiguous, Angstrom; atom_type null: all atoms are of type 0.
struct Geometry {
  int64_t n_points, n_atoms, n_frames;
  const double* points;        // [n_points, 3]
  const int64_t* point_frame;  // [n_points]
  const double* atoms;         // [n_atoms, 3]
  const int64_t *atom_type, *atom_frame;
  const double* cell;  // [n_frames, 3, 3]
  const bool* pbc;     // [n_frames, 3]
};

}  // namespace dcharge
