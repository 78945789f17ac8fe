// Schemas of all ops, and the C entry points with which Python asks for the instruction set in use.
#include <torch/csrc/stable/library.h>

#include "cpu/dispatch.hpp"

#define DCHARGE_GEOMETRY \
  "Tensor points, Tensor point_frame, Tensor atoms, Tensor atom_type, Tensor atom_frame, Tensor cell, Tensor pbc"
#define DCHARGE_RADIAL "float rcut, float rcut_smth, float soft"

STABLE_TORCH_LIBRARY(dcharge, m) {
  m.def("radial_moments(" DCHARGE_GEOMETRY ", " DCHARGE_RADIAL
        ", int n_radial, int l_max, int n_types, ScalarType dtype) -> Tensor");
  m.def("radial_moments_backward(Tensor grad, " DCHARGE_GEOMETRY ", " DCHARGE_RADIAL
        ", int n_radial, int l_max, int n_types) -> (Tensor, Tensor)");
  m.def("se_e2_a(" DCHARGE_GEOMETRY ", Tensor coefficients, Tensor? offset, " DCHARGE_RADIAL
        ", int[] axis, bool per_l) -> Tensor");
  m.def("gram(Tensor a, int[] axis, bool per_l) -> Tensor");
  m.def("gram_backward(Tensor grad, Tensor a, int[] axis, bool per_l) -> Tensor");
  m.def("neighbors(Tensor positions, Tensor cell, Tensor pbc, float cutoff, Tensor? targets) -> (Tensor, Tensor)");
}

extern "C" {
__attribute__((visibility("default"))) const char* dcharge_isa() { return dcharge::kernels().name; }
__attribute__((visibility("default"))) int dcharge_select_isa(const char* name) {
  return dcharge::select_kernels(name) ? 1 : 0;
}
}
