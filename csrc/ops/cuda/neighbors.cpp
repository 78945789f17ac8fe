#include "ops/cuda/device.hpp"

namespace dcharge {
namespace {

std::tuple<Tensor, Tensor> neighbors(const Tensor& positions, const Tensor& cell, const Tensor& pbc, double cutoff,
                                     const std::optional<Tensor>& targets) {
  Device device(positions);
  cuda::Stream stream = device.stream();
  Tensor atoms = take_beside(positions, "positions", positions, ScalarType::Double, {-1, 3});
  Tensor rows = take_beside(positions, "cell", cell, ScalarType::Double, {3, 3});
  Tensor periodic = take_beside(positions, "pbc", pbc, ScalarType::Bool, {3});
  Tensor centres = targets ? take_beside(positions, "targets", *targets, ScalarType::Double, {-1, 3}) : atoms;
  require(cutoff > 0, "cutoff: a positive length expected");
  int64_t n = centres.size(0);
  Geometry geometry{n,
                    atoms.size(0),
                    1,
                    data<double>(centres),
                    nullptr,
                    data<double>(atoms),
                    nullptr,
                    nullptr,
                    data<double>(rows),
                    data<bool>(periodic)};
  DeviceBins bins(device, atoms, geometry, 1, cutoff, true);
  Tensor count = device_empty(atoms, {n}, ScalarType::Long);
  NeighborsArguments arguments{bins.view, !targets, mutable_data<int64_t>(count), nullptr, 0, nullptr, nullptr};
  require_launched(cuda::count_neighbors(arguments, stream));
  Tensor end = running_sum(count);
  arguments.end = data<int64_t>(end);
  if (n > 0) {
    require_launched(cuda::copy_to_host(&arguments.n_edges, arguments.end + n - 1, sizeof(int64_t), stream));
  }
  Tensor index = device_empty(atoms, {2, arguments.n_edges}, ScalarType::Long);
  Tensor shift = device_empty(atoms, {arguments.n_edges, 3}, ScalarType::Int);
  arguments.index = mutable_data<int64_t>(index);
  arguments.shift = mutable_data<int32_t>(shift);
  require_launched(cuda::fill_neighbors(arguments, stream));
  return {index, shift};
}

}  // namespace
}  // namespace dcharge

DCHARGE_DEVICE_IMPL(m) { m.impl("neighbors", TORCH_BOX(&dcharge::neighbors)); }
