// Checks of tensor arguments and the bridge from torch's threads, for all ops. The Python functions check first, with
// better words; these keep a direct call of torch.ops.dcharge.* from reading beyond a tensor.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/plan.hpp"

namespace dcharge {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void require(bool good, const std::string& message) {
  if (!good) {
    throw std::runtime_error(message);
  }
}

constexpr int32_t kCpu = -1;  // what torch says is the device index of a CPU tensor

// A contiguous tensor of this dtype and shape (-1: any length) on that device.
inline Tensor take(const char* name, const Tensor& t, ScalarType dtype, std::vector<int64_t> shape,
                   int32_t device = kCpu) {
  require(t.get_device_index() == device && t.is_cpu() == (device == kCpu),
          std::string(name) + (device == kCpu ? ": a CPU tensor expected" : ": is on another device"));
  require(t.scalar_type() == dtype, std::string(name) + ": wrong dtype");
  bool good = t.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; good && i < shape.size(); ++i) {
    good = shape[i] < 0 || t.size(static_cast<int64_t>(i)) == shape[i];
  }
  require(good, std::string(name) + ": wrong shape");
  return torch::stable::contiguous(t);
}

template <class T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

template <class T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

template <class T>
const KernelsOf<T>& kernels_of() {
  if constexpr (std::is_same_v<T, float>) {
    return kernels().f32;
  } else {
    return kernels().f64;
  }
}

// The seven geometry tensors, contiguous and kept alive; without atom_type all atoms are of type 0.
struct GeometryTensors {
  Tensor points, point_frame, atoms;
  std::optional<Tensor> atom_type;
  Tensor atom_frame, cell, pbc;

  GeometryTensors(const Tensor& points_, const Tensor& point_frame_, const Tensor& atoms_,
                  const std::optional<Tensor>& atom_type_, const Tensor& atom_frame_, const Tensor& cell_,
                  const Tensor& pbc_, int32_t device = kCpu)
      : points(take("points", points_, ScalarType::Double, {-1, 3}, device)),
        point_frame(take("point_frame", point_frame_, ScalarType::Long, {points.size(0)}, device)),
        atoms(take("atoms", atoms_, ScalarType::Double, {-1, 3}, device)),
        atom_frame(take("atom_frame", atom_frame_, ScalarType::Long, {atoms.size(0)}, device)),
        cell(take("cell", cell_, ScalarType::Double, {-1, 3, 3}, device)),
        pbc(take("pbc", pbc_, ScalarType::Bool, {cell.size(0), 3}, device)) {
    if (atom_type_) {
      atom_type = take("atom_type", *atom_type_, ScalarType::Long, {atoms.size(0)}, device);
    }
  }

  Geometry view() const {
    return {points.size(0),
            atoms.size(0),
            cell.size(0),
            data<double>(points),
            data<int64_t>(point_frame),
            data<double>(atoms),
            atom_type ? data<int64_t>(*atom_type) : nullptr,
            data<int64_t>(atom_frame),
            data<double>(cell),
            data<bool>(pbc)};
  }
};

inline Radial make_radial(double rcut, double rcut_smth, double soft, int64_t n_radial, int64_t l_max,
                          int64_t n_types) {
  require(rcut > 0 && rcut_smth >= 0 && rcut_smth < rcut, "rcut, rcut_smth: 0 <= rcut_smth < rcut expected");
  require(soft > 0, "soft: a positive length expected");
  require(n_radial >= 1 && n_types >= 1, "n_radial, n_types: positive integers expected");
  require(l_max >= 0 && l_max <= 3, "l_max: 0..3 expected");
  return {rcut, rcut_smth, soft, n_radial, l_max, n_types};
}

inline void torch_parallel(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { body(begin, end); });
}

// An uninitialised output. Large ones ask for huge pages: touching a new 4 kB page costs as much as filling it, and
// outputs of tens of megabytes come from the system anew for every call.
inline Tensor new_output(const Tensor& like, std::vector<int64_t> shape, ScalarType dtype) {
  Tensor out = torch::stable::new_empty(like, shape, dtype);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t(1) << 21;
  auto begin = reinterpret_cast<uintptr_t>(out.mutable_data_ptr());
  uintptr_t end = begin + out.numel() * (dtype == ScalarType::Float ? 4 : 8);
  begin = (begin + kHuge - 1) / kHuge * kHuge;
  end = end / kHuge * kHuge;
  if (end > begin + 8 * kHuge) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // advice: failure changes nothing
  }
#endif
  return out;
}

struct AlignedDelete {
  void operator()(void* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<void, AlignedDelete>;

inline Scratch make_scratch(size_t bytes) {
  void* p = std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  if (p == nullptr) {
    throw std::bad_alloc();
  }
  return Scratch(p);
}

// What one thread needs to work on tiles.
struct TileState {
  Plan::Tile tile;
  Scratch scratch;
};

// work(i, thread_state) for i in [0, n), handed out one by one so that empty tiles do not idle a thread. Every i is
// computed alike whichever thread takes it, so results do not depend on the number of threads.
template <class Make, class Work>
void for_each_dynamic(int64_t n, Make make_state, Work work) {
  int64_t threads = std::min<int64_t>(n, torch::stable::get_num_threads());
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    if (begin == end) {
      return;
    }
    auto state = make_state();
    for (int64_t i = next++; i < n; i = next++) {
      work(i, state);
    }
  });
}

}  // namespace dcharge
