#include "ops/cuda/device.hpp"
#include "ops/probe_arguments.hpp"

namespace dcharge {
namespace {

template <class T>
ProbeArguments<T> make_arguments(const ProbeTensors& t, const DevicePoints& points) {
  ProbeArguments<T> a{};
  a.points = points.view();
  a.probe = t.probe;
  a.states = data<T>(t.states);
  a.table = data<T>(t.table);
  return a;
}

template <class T>
Tensor run(const Device& device, const ProbeTensors& t) {
  DevicePoints sorted(device, t.geometry, 1, t.probe.rcut);
  Tensor out = torch::stable::new_zeros(
      t.states, {t.geometry.points.size(0), t.probe.n_layers, kComponents, t.probe.n_features}, t.dtype);
  ProbeArguments<T> arguments = make_arguments<T>(t, sorted);
  arguments.out = mutable_data<T>(out);
  require_launched(cuda::probe_messages(arguments, device.stream()));
  return out;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class T>
Gradients run_backward(const Device& device, const ProbeTensors& t, const Tensor& grad, bool positions,
                       bool parameters) {
  const GeometryTensors& g = t.geometry;
  Tensor d = take_beside(g.points, "grad", grad, t.dtype,
                         {g.points.size(0), t.probe.n_layers, kComponents, t.probe.n_features});
  DevicePoints sorted(device, g, 1, t.probe.rcut);
  auto zeros = [&](std::vector<int64_t> shape) {
    return torch::stable::new_zeros(g.points, shape, ScalarType::Double);
  };
  auto like = [&](const Tensor& of) {
    return zeros({parameters ? of.size(0) : 0, of.size(1), of.size(2), of.size(3)});
  };
  Tensor d_points = zeros({positions ? g.points.size(0) : 0, 3}), d_atoms = zeros({positions ? g.atoms.size(0) : 0, 3});
  Tensor d_states = like(t.states), d_table = like(t.table);
  ProbeArguments<T> arguments = make_arguments<T>(t, sorted);
  arguments.grad = data<T>(d);
  arguments.positions = positions;
  arguments.parameters = parameters;
  arguments.d_points = mutable_data<double>(d_points);
  arguments.d_atoms = mutable_data<double>(d_atoms);
  arguments.d_states = mutable_data<double>(d_states);
  arguments.d_table = mutable_data<double>(d_table);
  require_launched(cuda::probe_messages_backward(arguments, device.stream()));
  return {d_points, d_atoms, torch::stable::to(d_states, t.dtype), torch::stable::to(d_table, t.dtype)};
}

Tensor probe_messages(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_frame,
                      const Tensor& cell, const Tensor& pbc, const Tensor& states, const Tensor& table, double rcut) {
  Device device(points);
  int32_t index = points.get_device_index();
  ProbeTensors t({points, point_frame, atoms, std::nullopt, atom_frame, cell, pbc, index}, states, table, rcut, index);
  return (t.dtype == ScalarType::Float ? run<float> : run<double>)(device, t);
}

Gradients probe_messages_backward(const Tensor& grad, const Tensor& points, const Tensor& point_frame,
                                  const Tensor& atoms, const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc,
                                  const Tensor& states, const Tensor& table, double rcut, bool positions,
                                  bool parameters) {
  Device device(points);
  int32_t index = points.get_device_index();
  ProbeTensors t({points, point_frame, atoms, std::nullopt, atom_frame, cell, pbc, index}, states, table, rcut, index);
  require(positions || parameters, "positions, parameters: at least one of the gradients expected");
  return (t.dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(device, t, grad, positions,
                                                                                     parameters);
}

}  // namespace
}  // namespace dcharge

DCHARGE_DEVICE_IMPL(m) {
  m.impl("probe_messages", TORCH_BOX(&dcharge::probe_messages));
  m.impl("probe_messages_backward", TORCH_BOX(&dcharge::probe_messages_backward));
}
