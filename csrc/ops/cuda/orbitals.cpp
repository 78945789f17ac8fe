#include "ops/cuda/device.hpp"
#include "ops/orbital_arguments.hpp"

namespace dcharge {
namespace {

template <class T>
OrbitalArguments<T> make_arguments(const OrbitalTensors& t, const DevicePoints& points) {
  OrbitalArguments<T> a{};
  a.points = points.view();
  a.orbitals = t.orbitals;
  a.rcut2 = static_cast<T>(t.orbitals.rcut * t.orbitals.rcut);
  a.per_rcut2 = static_cast<T>(1 / (t.orbitals.rcut * t.orbitals.rcut));
  a.soft2 = static_cast<T>(t.orbitals.soft * t.orbitals.soft);
  a.coefficients = data<T>(t.coefficients);
  a.center = data<T>(t.center);
  a.exponent = data<T>(t.exponent);
  a.point_atom = t.point_atoms();
  return a;
}

template <class T>
Tensor run(const Device& device, const OrbitalTensors& t) {
  const GeometryTensors& g = t.geometry;
  DevicePoints sorted(device, g, t.orbitals.n_types, t.orbitals.rcut);
  Tensor out = device_empty(t.coefficients, {g.points.size(0), t.n_comp(), t.orbitals.n_waves}, t.dtype);
  OrbitalArguments<T> arguments = make_arguments<T>(t, sorted);
  arguments.out = mutable_data<T>(out);
  require_launched(cuda::orbital_sums(arguments, device.stream()));
  return out;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
Gradients run_backward(const Device& device, const OrbitalTensors& t, const Tensor& grad, bool positions,
                       bool parameters) {
  const GeometryTensors& g = t.geometry;
  int64_t n_waves = t.orbitals.n_waves;
  Tensor d = take_beside(g.points, "grad", grad, t.dtype, {g.points.size(0), t.n_comp(), n_waves});
  DevicePoints sorted(device, g, t.orbitals.n_types, t.orbitals.rcut);
  auto zeros = [&](bool wanted, int64_t rows, int64_t columns) {
    return torch::stable::new_zeros(g.points, {wanted ? rows : 0, columns}, ScalarType::Double);
  };
  Tensor d_points = zeros(positions, g.points.size(0), 3), d_atoms = zeros(positions, g.atoms.size(0), 3);
  Tensor d_coefficients = zeros(parameters, g.atoms.size(0), n_waves);
  Tensor d_center = zeros(parameters, t.orbitals.n_types, n_waves);
  Tensor d_exponent = zeros(parameters, t.orbitals.n_types, n_waves);
  OrbitalArguments<T> arguments = make_arguments<T>(t, sorted);
  arguments.grad = data<T>(d);
  arguments.positions = positions;
  arguments.parameters = parameters;
  arguments.d_points = mutable_data<double>(d_points);
  arguments.d_atoms = mutable_data<double>(d_atoms);
  arguments.d_coefficients = mutable_data<double>(d_coefficients);
  arguments.d_center = mutable_data<double>(d_center);
  arguments.d_exponent = mutable_data<double>(d_exponent);
  require_launched(cuda::orbital_sums_backward(arguments, device.stream()));
  auto in_dtype = [&](const Tensor& x) { return torch::stable::to(x, t.dtype); };
  return {d_points, d_atoms, in_dtype(d_coefficients), in_dtype(d_center), in_dtype(d_exponent)};
}

Tensor orbital_sums(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
                    const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, const Tensor& coefficients,
                    const Tensor& center, const Tensor& exponent, const std::optional<Tensor>& point_atom, double rcut,
                    double soft, int64_t l_max, bool unit) {
  Device device(points);
  int32_t index = points.get_device_index();
  OrbitalTensors t({points, point_frame, atoms, atom_type, atom_frame, cell, pbc, index}, coefficients, center,
                   exponent, point_atom, rcut, soft, l_max, unit, index);
  return (t.dtype == ScalarType::Float ? run<float> : run<double>)(device, t);
}

Gradients orbital_sums_backward(const Tensor& grad, const Tensor& points, const Tensor& point_frame,
                                const Tensor& atoms, const Tensor& atom_type, const Tensor& atom_frame,
                                const Tensor& cell, const Tensor& pbc, const Tensor& coefficients, const Tensor& center,
                                const Tensor& exponent, const std::optional<Tensor>& point_atom, double rcut,
                                double soft, int64_t l_max, bool unit, bool positions, bool parameters) {
  Device device(points);
  int32_t index = points.get_device_index();
  OrbitalTensors t({points, point_frame, atoms, atom_type, atom_frame, cell, pbc, index}, coefficients, center,
                   exponent, point_atom, rcut, soft, l_max, unit, index);
  require(positions || parameters, "positions, parameters: at least one of the gradients expected");
  return (t.dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(device, t, grad, positions,
                                                                                     parameters);
}

template <class T>
OrbitalGramArguments<T> gram_arguments(const Tensor& sums) {
  Orbitals shape = gram_shape(sums);
  return {sums.size(0), shape.n_waves, static_cast<int>(shape.l_max), data<T>(sums), nullptr, nullptr};
}

template <class T>
Tensor run_gram(const Device& device, const Tensor& sums) {
  OrbitalGramArguments<T> arguments = gram_arguments<T>(sums);
  Tensor out = device_empty(sums, {arguments.n, n_features(gram_shape(sums))}, sums.scalar_type());
  arguments.out = mutable_data<T>(out);
  require_launched(cuda::orbital_gram(arguments, device.stream()));
  return out;
}

template <class T>
Tensor run_gram_backward(const Device& device, const Tensor& grad, const Tensor& sums) {
  OrbitalGramArguments<T> arguments = gram_arguments<T>(sums);
  Tensor d = take_beside(sums, "grad", grad, sums.scalar_type(), {arguments.n, n_features(gram_shape(sums))});
  Tensor out = device_empty(sums, {arguments.n, sums.size(1), sums.size(2)}, sums.scalar_type());
  arguments.grad = data<T>(d);
  arguments.out = mutable_data<T>(out);
  require_launched(cuda::orbital_gram_backward(arguments, device.stream()));
  return out;
}

Tensor checked(const Tensor& sums) {
  gram_shape(sums);
  return take_beside(sums, "sums", sums, sums.scalar_type(), {-1, -1, -1});
}

Tensor orbital_gram(const Tensor& sums) {
  Device device(sums);
  Tensor from = checked(sums);
  return (sums.scalar_type() == ScalarType::Float ? run_gram<float> : run_gram<double>)(device, from);
}

Tensor orbital_gram_backward(const Tensor& grad, const Tensor& sums) {
  Device device(sums);
  Tensor from = checked(sums);
  return (sums.scalar_type() == ScalarType::Float ? run_gram_backward<float> : run_gram_backward<double>)(device, grad,
                                                                                                          from);
}

}  // namespace
}  // namespace dcharge

DCHARGE_DEVICE_IMPL(m) {
  m.impl("orbital_sums", TORCH_BOX(&dcharge::orbital_sums));
  m.impl("orbital_sums_backward", TORCH_BOX(&dcharge::orbital_sums_backward));
  m.impl("orbital_gram", TORCH_BOX(&dcharge::orbital_gram));
  m.impl("orbital_gram_backward", TORCH_BOX(&dcharge::orbital_gram_backward));
}
