// What the CUDA implementations share: checks, the current stream, workspaces from torch's allocator, stable sorts, and
// the cell list of a call. With DCHARGE_HOST the same files are built over kernels that run on the CPU, for the tests.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <array>

#include "cuda/kernels.hpp"
#include "ops/check.hpp"

#ifdef DCHARGE_HOST
#define DCHARGE_DEVICE_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(dcharge_host, CPU, m)
#else
#define DCHARGE_DEVICE_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(dcharge, CUDA, m)
#include <dlfcn.h>
// weak: a CPU build of torch lacks it, and the library must load there too
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);
#endif

namespace dcharge {

inline void require_launched(int error) {
  require(error == 0, error == 0 ? "" : std::string("CUDA: ") + cuda::error_text(error));
}

#ifndef DCHARGE_HOST
// torch's current stream on a device; also found where torch loaded libtorch_cuda.so out of this library's sight.
inline cuda::Stream current_stream(int32_t device) {
  static const auto get = [] {
    auto found = &aoti_torch_get_current_cuda_stream;
    if (found == nullptr) {
      if (void* torch_cuda = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD)) {
        found = reinterpret_cast<decltype(found)>(dlsym(torch_cuda, "aoti_torch_get_current_cuda_stream"));
      }
    }
    return found;
  }();
  void* stream = nullptr;
  require(get != nullptr && get(device, &stream) == 0, "CUDA: this build of torch gives no CUDA stream");
  return stream;
}
#endif

// The device of a call and its current stream, for as long as this lives.
class Device {
 public:
#ifdef DCHARGE_HOST
  explicit Device(const Tensor&) {}
#else
  explicit Device(const Tensor& t) : guard_(t.get_device_index()) {
    require_launched(cuda::set_device(t.get_device_index()));  // the library has a CUDA runtime of its own
    stream_ = current_stream(t.get_device_index());
  }
#endif
  cuda::Stream stream() const { return stream_; }

 private:
#ifndef DCHARGE_HOST
  torch::stable::accelerator::DeviceGuard guard_;
#endif
  cuda::Stream stream_ = nullptr;
};

// A contiguous tensor of this dtype and shape (-1: any length) beside `with`.
inline Tensor take_beside(const Tensor& with, const char* name, const Tensor& t, ScalarType dtype,
                          std::vector<int64_t> shape) {
  return take(name, t, dtype, std::move(shape), with.get_device_index());
}

inline Tensor device_empty(const Tensor& like, std::vector<int64_t> shape, ScalarType dtype) {
  return torch::stable::new_empty(like, shape, dtype);
}

// (sorted, order) of a stable sort of keys [n] int64.
inline std::array<Tensor, 2> stable_sort(const Tensor& keys) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(keys), from(std::optional<bool>(true)), from(int64_t{-1}), from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

inline Tensor running_sum(const Tensor& counts) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(counts), from(int64_t{0}), from(std::optional<ScalarType>())};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::cumsum", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// The cell list of a call, built on the device; lattices are made on the host. Waits for the stream once, before
// anything is built, to report bad arguments. Its tensors live as long as it does.
class DeviceBins {
 public:
  // like: a tensor on the device; with_cells: keep the cells that wrapping added to every atom
  DeviceBins(const Device& device, const Tensor& like, const Geometry& geometry, int64_t n_types, double rcut,
             bool with_cells);

  Bins view;

 private:
  std::vector<Tensor> kept_;

  template <class T>
  T* keep(Tensor t) {
    kept_.push_back(std::move(t));
    return mutable_data<T>(kept_.back());
  }
};

// Points in the order in which consecutive ones share a block.
struct DevicePoints {
  DeviceBins bins;
  Tensor order;

  DevicePoints(const Device& device, const GeometryTensors& g, int64_t n_types, double rcut)
      : bins(device, g.points, g.view(), n_types, rcut, false), order(g.point_frame) {
    Tensor keys = device_empty(g.points, {g.points.size(0)}, ScalarType::Long);
    require_launched(cuda::point_keys(bins.view, mutable_data<int64_t>(keys), device.stream()));
    order = stable_sort(keys)[1];
  }

  Points view() const { return {data<int64_t>(order), bins.view}; }
};

}  // namespace dcharge
