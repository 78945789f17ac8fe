#include "ops/cuda/device.hpp"

namespace dcharge {

DeviceBins::DeviceBins(const Device& device, const Tensor& like, const Geometry& g, int64_t n_types, double rcut,
                       bool with_cells) {
  cuda::Stream stream = device.stream();
  Tensor complaints = torch::stable::new_zeros(like, {kComplaints}, ScalarType::Long);
  require_launched(cuda::check(g, n_types, mutable_data<int64_t>(complaints), stream));
  std::array<int64_t, kComplaints> bad;
  std::vector<double> cell(9 * g.n_frames);
  auto pbc = std::make_unique<bool[]>(3 * g.n_frames);
  if (g.n_frames > 0) {
    require_launched(cuda::copy_to_host(cell.data(), g.cell, cell.size() * sizeof(double), stream));
    require_launched(cuda::copy_to_host(pbc.get(), g.pbc, 3 * g.n_frames * sizeof(bool), stream));
  }
  require_launched(cuda::copy_to_host(bad.data(), data<int64_t>(complaints), sizeof bad, stream));
  std::string frames_of_cell = ": values must lie in 0.." + std::to_string(g.n_frames - 1) + " (frames of cell)";
  require(!bad[kPointFrame], "point_frame" + frames_of_cell);
  require(!bad[kAtomFrame], "atom_frame" + frames_of_cell);
  require(!bad[kAtomType], "atom_type: values must lie in 0.." + std::to_string(n_types - 1) + " (n_types)");
  require(!bad[kAtomValue], "atoms: a coordinate is not a finite number");
  require(!bad[kPointValue], "points: a coordinate is not a finite number");

  std::vector<Frame> frames = make_frames(cell.data(), pbc.get(), g.n_frames, g.n_atoms, rcut);
  view = {g, n_types, n_types * count_bins(frames), rcut, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  auto integers = [&](std::vector<int64_t> shape) { return device_empty(like, std::move(shape), ScalarType::Long); };
  static_assert(sizeof(Frame) % sizeof(int64_t) == 0 && alignof(Frame) <= alignof(int64_t));
  auto* on_device = keep<Frame>(integers({g.n_frames, static_cast<int64_t>(sizeof(Frame) / sizeof(int64_t))}));
  if (g.n_frames > 0) {
    require_launched(cuda::copy_to_device(on_device, frames.data(), frames.size() * sizeof(Frame), stream));
  }
  view.frames = on_device;
  view.bounds = keep<int64_t>(integers({g.n_frames, 3, 2}));
  view.first = keep<int64_t>(integers({view.n_slots + 1}));
  view.r = keep<double>(device_empty(like, {g.n_atoms, 3}, ScalarType::Double));
  view.source = keep<int64_t>(integers({g.n_atoms}));
  view.cells = with_cells ? keep<int64_t>(integers({g.n_atoms, 3})) : nullptr;
  Tensor slots = integers({g.n_atoms});
  require_launched(cuda::atom_slots(view, mutable_data<int64_t>(slots), stream));
  auto [sorted, order] = stable_sort(slots);
  require_launched(cuda::fill_bins(view, data<int64_t>(sorted), data<int64_t>(order), stream));
}

}  // namespace dcharge
