#include "ops/cuda/device.hpp"

namespace dcharge {
namespace {

Tensor radial_moments(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
                      const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, double rcut, double rcut_smth,
                      double soft, int64_t n_radial, int64_t l_max, int64_t n_types, ScalarType dtype) {
  Device device(points);
  GeometryTensors g(points, point_frame, atoms, atom_type, atom_frame, cell, pbc, points.get_device_index());
  Radial radial = make_radial(rcut, rcut_smth, soft, n_radial, l_max, n_types);
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "dtype: float32 or float64 expected");
  DevicePoints sorted(device, g, radial.n_types, radial.rcut);
  Tensor out = device_empty(g.points, {g.points.size(0), n_types, (l_max + 1) * (l_max + 1), n_radial}, dtype);
  require_launched(dtype == ScalarType::Float
                       ? cuda::moments(sorted.view(), radial, mutable_data<float>(out), device.stream())
                       : cuda::moments(sorted.view(), radial, mutable_data<double>(out), device.stream()));
  return out;
}

template <class T>
int run_backward(const Points& points, const Radial& radial, const Tensor& grad, const Tensor& d_points,
                 const Tensor& d_atoms, cuda::Stream stream) {
  return cuda::moments_backward(points, radial, data<T>(grad), mutable_data<double>(d_points),
                                mutable_data<double>(d_atoms), stream);
}

std::tuple<Tensor, Tensor> radial_moments_backward(const Tensor& grad, const Tensor& points, const Tensor& point_frame,
                                                   const Tensor& atoms, const Tensor& atom_type,
                                                   const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc,
                                                   double rcut, double rcut_smth, double soft, int64_t n_radial,
                                                   int64_t l_max, int64_t n_types) {
  Device device(points);
  GeometryTensors g(points, point_frame, atoms, atom_type, atom_frame, cell, pbc, points.get_device_index());
  Radial radial = make_radial(rcut, rcut_smth, soft, n_radial, l_max, n_types);
  ScalarType dtype = grad.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "grad: float32 or float64 expected");
  Tensor d =
      take_beside(g.points, "grad", grad, dtype, {g.points.size(0), n_types, (l_max + 1) * (l_max + 1), n_radial});
  DevicePoints sorted(device, g, radial.n_types, radial.rcut);
  Tensor d_points = device_empty(g.points, {g.points.size(0), 3}, ScalarType::Double);
  Tensor d_atoms = torch::stable::new_zeros(g.atoms, {g.atoms.size(0), 3});
  require_launched((dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(sorted.view(), radial, d,
                                                                                             d_points, d_atoms,
                                                                                             device.stream()));
  return {d_points, d_atoms};
}

}  // namespace
}  // namespace dcharge

DCHARGE_DEVICE_IMPL(m) {
  m.impl("radial_moments", TORCH_BOX(&dcharge::radial_moments));
  m.impl("radial_moments_backward", TORCH_BOX(&dcharge::radial_moments_backward));
}
