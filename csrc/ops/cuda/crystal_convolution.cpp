#include "ops/crystal_arguments.hpp"
#include "ops/cuda/device.hpp"

namespace dcharge {
namespace {

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

template <class T>
CrystalArguments<T> make_arguments(const CrystalTensors& t) {
  CrystalArguments<T> a{};
  a.n_nodes = t.n_nodes;
  a.n_features = t.width / 2;
  a.n_knots = t.table.size(0);
  a.n_edges = t.edge_target.size(0);
  a.per_knot = t.per_knot;
  a.center = data<T>(t.center);
  a.neighbor = data<T>(t.neighbor);
  a.center_stride = t.center.stride(0);
  a.neighbor_stride = t.neighbor.stride(0);
  a.table = data<T>(t.table);
  a.edge_offset = data<int64_t>(t.edge_offset);
  a.edge_target = data<int64_t>(t.edge_target);
  a.edge_distance = data<double>(t.edge_distance);
  return a;
}

template <class T>
Tensor run(const Device& device, const CrystalTensors& t) {
  Tensor out = device_empty(t.center, {t.n_nodes, t.width / 2}, t.dtype);
  CrystalArguments<T> arguments = make_arguments<T>(t);
  arguments.out = mutable_data<T>(out);
  require_launched(cuda::crystal_convolution(arguments, device.stream()));
  return out;
}

template <class T>
Gradients run_backward(const Device& device, const CrystalTensors& t, const Tensor& grad) {
  Tensor g = take_beside(t.center, "grad", grad, t.dtype, {t.n_nodes, t.width / 2});
  auto zeros = [&](int64_t n) { return torch::stable::new_zeros(t.center, {n, t.width}, ScalarType::Double); };
  Tensor d_center = zeros(t.n_nodes), d_neighbor = zeros(t.n_nodes), d_table = zeros(t.table.size(0));
  CrystalArguments<T> arguments = make_arguments<T>(t);
  arguments.grad = data<T>(g);
  arguments.d_center = mutable_data<double>(d_center);
  arguments.d_neighbor = mutable_data<double>(d_neighbor);
  arguments.d_table = mutable_data<double>(d_table);
  require_launched(cuda::crystal_convolution_backward(arguments, device.stream()));
  auto same = [&](const Tensor& d) { return torch::stable::to(d, t.dtype); };
  return {same(d_center), same(d_neighbor), same(d_table)};
}

Tensor crystal_convolution(const Tensor& center, const Tensor& neighbor, const Tensor& edge_offset,
                           const Tensor& edge_target, const Tensor& edge_distance, const Tensor& table, double cutoff) {
  Device device(center);
  CrystalTensors t(center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff, center.get_device_index());
  return (t.dtype == ScalarType::Float ? run<float> : run<double>)(device, t);
}

Gradients crystal_convolution_backward(const Tensor& grad, const Tensor& center, const Tensor& neighbor,
                                       const Tensor& edge_offset, const Tensor& edge_target,
                                       const Tensor& edge_distance, const Tensor& table, double cutoff) {
  Device device(center);
  CrystalTensors t(center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff, center.get_device_index());
  return (t.dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(device, t, grad);
}

}  // namespace
}  // namespace dcharge

DCHARGE_DEVICE_IMPL(m) {
  m.impl("crystal_convolution", TORCH_BOX(&dcharge::crystal_convolution));
  m.impl("crystal_convolution_backward", TORCH_BOX(&dcharge::crystal_convolution_backward));
}
