#include "ops/check.hpp"

namespace dcharge {
namespace {

template <class T>
void run_moments(const Geometry& geometry, const Radial& radial, T* out) {
  const KernelsOf<T>& kernel = kernels_of<T>();
  Plan plan(geometry, radial.rcut, radial.n_types, torch_parallel);
  for_each_dynamic(
      plan.n_tiles(), [&] { return TileState{{}, make_scratch(kernel.scratch(radial, 0))}; },
      [&](int64_t i, TileState& s) {
        plan.load(i, kernel.width, s.tile);
        kernel.moments(radial, s.tile.points, s.tile.atoms, out, s.scratch.get());
      });
}

template <class T>
void run_backward(const Geometry& geometry, const Radial& radial, const T* grad, double* d_points, double* d_atoms) {
  const KernelsOf<T>& kernel = kernels_of<T>();
  Plan plan(geometry, radial.rcut, radial.n_types, torch_parallel);
  // what every tile adds to its candidates is kept and summed in the order of the tiles: same bits for any threads
  std::vector<std::vector<double>> parts(plan.n_tiles());
  std::vector<std::vector<int64_t>> sources(plan.n_tiles());
  for_each_dynamic(
      plan.n_tiles(), [&] { return TileState{{}, make_scratch(kernel.scratch(radial, 0))}; },
      [&](int64_t i, TileState& s) {
        plan.load(i, kernel.width, s.tile);
        parts[i].assign(3 * s.tile.n_candidates, 0.0);
        sources[i] = s.tile.source;
        kernel.moments_backward(radial, s.tile.points, s.tile.atoms, grad, d_points, parts[i].data(), s.scratch.get());
      });
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t c = 0; c < sources[i].size(); ++c) {
      for (int a = 0; a < 3; ++a) {
        d_atoms[3 * sources[i][c] + a] += parts[i][3 * c + a];
      }
    }
  }
}

Tensor radial_moments(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
                      const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, double rcut, double rcut_smth,
                      double soft, int64_t n_radial, int64_t l_max, int64_t n_types, ScalarType dtype) {
  GeometryTensors g(points, point_frame, atoms, atom_type, atom_frame, cell, pbc);
  Radial radial = make_radial(rcut, rcut_smth, soft, n_radial, l_max, n_types);
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "dtype: float32 or float64 expected");
  int64_t n_comp = (l_max + 1) * (l_max + 1);
  Tensor out = new_output(g.points, {g.points.size(0), n_types, n_comp, n_radial}, dtype);
  if (dtype == ScalarType::Float) {
    run_moments<float>(g.view(), radial, mutable_data<float>(out));
  } else {
    run_moments<double>(g.view(), radial, mutable_data<double>(out));
  }
  return out;
}

std::tuple<Tensor, Tensor> radial_moments_backward(const Tensor& grad, const Tensor& points, const Tensor& point_frame,
                                                   const Tensor& atoms, const Tensor& atom_type,
                                                   const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc,
                                                   double rcut, double rcut_smth, double soft, int64_t n_radial,
                                                   int64_t l_max, int64_t n_types) {
  GeometryTensors g(points, point_frame, atoms, atom_type, atom_frame, cell, pbc);
  Radial radial = make_radial(rcut, rcut_smth, soft, n_radial, l_max, n_types);
  ScalarType dtype = grad.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "grad: float32 or float64 expected");
  Tensor d = take("grad", grad, dtype, {g.points.size(0), n_types, (l_max + 1) * (l_max + 1), n_radial});
  Tensor d_points = torch::stable::new_empty(g.points, {g.points.size(0), 3});
  Tensor d_atoms = torch::stable::new_zeros(g.atoms, {g.atoms.size(0), 3});
  if (dtype == ScalarType::Float) {
    run_backward<float>(g.view(), radial, data<float>(d), mutable_data<double>(d_points),
                        mutable_data<double>(d_atoms));
  } else {
    run_backward<double>(g.view(), radial, data<double>(d), mutable_data<double>(d_points),
                         mutable_data<double>(d_atoms));
  }
  return {d_points, d_atoms};
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) {
  m.impl("radial_moments", TORCH_BOX(&dcharge::radial_moments));
  m.impl("radial_moments_backward", TORCH_BOX(&dcharge::radial_moments_backward));
}
