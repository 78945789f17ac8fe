// Schemas of all ops.
#pragma once

#define DCHARGE_GEOMETRY \
  "Tensor points, Tensor point_frame, Tensor atoms, Tensor atom_type, Tensor atom_frame, Tensor cell, Tensor pbc"
#define DCHARGE_RADIAL "float rcut, float rcut_smth, float soft"
#define DCHARGE_ORBITALS "Tensor coefficients, Tensor center, Tensor exponent, Tensor? point_atom"
#define DCHARGE_ORBITAL_SHAPE "float rcut, float soft, int l_max, bool unit"
#define DCHARGE_PROBE                                                                                            \
  "Tensor points, Tensor point_frame, Tensor atoms, Tensor atom_frame, Tensor cell, Tensor pbc, Tensor states, " \
  "Tensor table, float rcut"
#define DCHARGE_UNTYPED "Tensor points, Tensor point_frame, Tensor atoms, Tensor atom_frame, Tensor cell, Tensor pbc"
#define DCHARGE_ENVIRONMENT "float rcut, int neighbors, float tie"
#define DCHARGE_CRYSTAL                                                                                   \
  "Tensor center, Tensor neighbor, Tensor edge_offset, Tensor edge_target, Tensor edge_distance, Tensor " \
  "table, float cutoff"
#define DCHARGE_MESSAGES                                                                             \
  "Tensor sent, Tensor received, Tensor pair_offset, Tensor pair_atom, Tensor distance, Tensor weight, " \
  "Tensor bias, Tensor table, float rcut"
#define DCHARGE_FILTERED \
  "Tensor sent, Tensor pair_offset, Tensor pair_atom, Tensor distance, Tensor table, float rcut"

namespace dcharge {

template <class Library>
void define_ops(Library& m) {
  m.def("radial_moments(" DCHARGE_GEOMETRY ", " DCHARGE_RADIAL
        ", int n_radial, int l_max, int n_types, ScalarType dtype) -> Tensor");
  m.def("radial_moments_backward(Tensor grad, " DCHARGE_GEOMETRY ", " DCHARGE_RADIAL
        ", int n_radial, int l_max, int n_types) -> (Tensor, Tensor)");
  m.def("se_e2_a(" DCHARGE_GEOMETRY ", Tensor coefficients, Tensor? offset, " DCHARGE_RADIAL
        ", int[] axis, bool per_l) -> Tensor");
  m.def("gram(Tensor a, int[] axis, bool per_l) -> Tensor");
  m.def("gram_backward(Tensor grad, Tensor a, int[] axis, bool per_l) -> Tensor");
  m.def(
      "moments_network(Tensor moments, Tensor coefficients, Tensor offset, int m, int[] axis, bool per_l, "
      "Tensor weights, Tensor vectors, int[] widths, int[] skips, int n_output, bool bf16) -> Tensor");
  m.def("orbital_sums(" DCHARGE_GEOMETRY ", " DCHARGE_ORBITALS ", " DCHARGE_ORBITAL_SHAPE ") -> Tensor");
  m.def("orbital_sums_backward(Tensor grad, " DCHARGE_GEOMETRY ", " DCHARGE_ORBITALS ", " DCHARGE_ORBITAL_SHAPE
        ", bool positions, bool parameters) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("orbital_gram(Tensor sums) -> Tensor");
  m.def("orbital_gram_backward(Tensor grad, Tensor sums) -> Tensor");
  m.def("ead(" DCHARGE_GEOMETRY ", " DCHARGE_ORBITALS ", Tensor? field_sum, " DCHARGE_ORBITAL_SHAPE ") -> Tensor");
  m.def("probe_messages(" DCHARGE_PROBE ") -> Tensor");
  m.def("probe_messages_backward(Tensor grad, " DCHARGE_PROBE
        ", bool positions, bool parameters) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("ead_network(" DCHARGE_GEOMETRY ", " DCHARGE_ORBITALS
        ", Tensor scale, Tensor constant, Tensor? vacuum, Tensor weights, Tensor vectors, int[] widths, int n_output, "
        "bool norm, bool tanh_like, " DCHARGE_ORBITAL_SHAPE ") -> Tensor");
  m.def("local_environments(" DCHARGE_UNTYPED ", " DCHARGE_ENVIRONMENT ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("crystal_convolution(" DCHARGE_CRYSTAL ") -> Tensor");
  m.def("crystal_convolution_backward(Tensor grad, " DCHARGE_CRYSTAL ") -> (Tensor, Tensor, Tensor)");
  m.def("pair_messages(" DCHARGE_MESSAGES ") -> Tensor");
  m.def("pair_messages_backward(Tensor grad, " DCHARGE_MESSAGES ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("filtered_sums(" DCHARGE_FILTERED ") -> Tensor");
  m.def(
      "message_network(Tensor first, Tensor sent, Tensor pair_offset, Tensor pair_atom, Tensor distance, Tensor table, "
      "Tensor weights, Tensor vectors, float rcut) -> Tensor");
  m.def("filtered_sums_backward(Tensor grad, " DCHARGE_FILTERED ") -> (Tensor, Tensor)");
  m.def("crystal_network(" DCHARGE_GEOMETRY
        ", Tensor state, Tensor center, Tensor neighbor, Tensor weights, Tensor bias, Tensor table, Tensor scale, "
        "Tensor shift, int n_features, bool all_layers, float cutoff, " DCHARGE_ENVIRONMENT ") -> (Tensor, Tensor)");
  m.def("neighbors(Tensor positions, Tensor cell, Tensor pbc, float cutoff, Tensor? targets) -> (Tensor, Tensor)");
}

}  // namespace dcharge
