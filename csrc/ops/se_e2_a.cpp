#include "ops/contraction.hpp"

namespace dcharge {
namespace {

template <class T>
Tensor run(const GeometryTensors& g, const Tensor& coefficients, const std::optional<Tensor>& offset,
           const Radial& radial, const std::vector<int64_t>& axis, bool per_l) {
  ScalarType dtype = coefficients.scalar_type();
  int64_t m = coefficients.size(3);
  Tensor c = take("coefficients", coefficients, dtype, {-1, -1, -1, -1});
  Contraction<T> contraction = make_contraction<T>(m, radial.l_max, axis, per_l);
  std::vector<T> weights = pad_columns(data<T>(c), radial.n_types * (radial.l_max + 1) * radial.n_radial, m), shift;
  contraction.c = weights.data();
  if (offset) {
    shift = pad_columns(data<T>(take("offset", *offset, dtype, {m})), 1, m);
    contraction.offset = shift.data();
  }
  Tensor out = new_output(c, {g.points.size(0), contraction.row_length}, dtype);
  T* to = mutable_data<T>(out);
  const KernelsOf<T>& kernel = kernels_of<T>();
  Plan plan(g.view(), radial.rcut, radial.n_types, torch_parallel);
  for_each_dynamic(
      plan.n_tiles(), [&] { return TileState{{}, make_scratch(kernel.scratch(radial, contraction.m_padded))}; },
      [&](int64_t i, TileState& s) {
        plan.load(i, kernel.width, s.tile);
        kernel.se_e2_a(radial, s.tile.points, s.tile.atoms, contraction, to, s.scratch.get());
      });
  return out;
}

Tensor se_e2_a(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
               const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, const Tensor& coefficients,
               const std::optional<Tensor>& offset, double rcut, double rcut_smth, double soft,
               const std::vector<int64_t>& axis, bool per_l) {
  GeometryTensors g(points, point_frame, atoms, atom_type, atom_frame, cell, pbc);
  require(coefficients.dim() == 4, "coefficients: wrong shape");
  Radial radial =
      make_radial(rcut, rcut_smth, soft, coefficients.size(2), coefficients.size(1) - 1, coefficients.size(0));
  ScalarType dtype = coefficients.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "coefficients: float32 or float64 expected");
  return (dtype == ScalarType::Float ? run<float> : run<double>)(g, coefficients, offset, radial, axis, per_l);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) { m.impl("se_e2_a", TORCH_BOX(&dcharge::se_e2_a)); }
