// The cell list on the device, copies and errors.
#include "core/hilbert.hpp"
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {
namespace {

struct CheckElement {
  struct Arguments {
    Geometry geometry;
    int64_t n_types;
    int64_t* complaints;
  };
  static constexpr int registers = 32;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) {
    if (i < a.geometry.n_points) {
      check_point(a.geometry, i, a.complaints);
    }
    if (i < a.geometry.n_atoms) {
      check_atom(a.geometry, a.n_types, i, a.complaints);
    }
  }
};

struct BinsArguments {
  Bins bins;
  const int64_t *sorted, *order;
  int64_t* out;
};

struct ClearBounds {
  using Arguments = BinsArguments;
  static constexpr int registers = 32;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { clear_bounds(a.bins, i); }
};

struct WidenBounds {
  using Arguments = BinsArguments;
  static constexpr int registers = 40;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { widen_bounds(a.bins, i); }
};

struct AtomSlot {
  using Arguments = BinsArguments;
  static constexpr int registers = 64;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { a.out[i] = atom_slot(a.bins, i); }
};

struct PlaceAtom {
  using Arguments = BinsArguments;
  static constexpr int registers = 64;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { place_atom(a.bins, a.order, i); }
};

struct FindSlot {
  using Arguments = BinsArguments;
  static constexpr int registers = 32;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { find_slot(a.bins, a.sorted, i); }
};

struct PointKey {
  using Arguments = BinsArguments;
  static constexpr int registers = 64;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { a.out[i] = point_key(a.bins, i); }
};

}  // namespace

#ifdef __CUDACC__
const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int set_device(int device) { return cudaSetDevice(device); }

int copy_to_host(void* to, const void* from, size_t bytes, Stream stream) {
  auto s = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s);
  return error ? error : cudaStreamSynchronize(s);
}

int copy_to_device(void* to, const void* from, size_t bytes, Stream stream) {
  // from pageable memory: returns once the source has been read
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream));
}
#else
const char* error_text(int) { return "host"; }
int set_device(int) { return 0; }
int copy_to_host(void* to, const void* from, size_t bytes, Stream) { return std::memcpy(to, from, bytes), 0; }
int copy_to_device(void* to, const void* from, size_t bytes, Stream) { return std::memcpy(to, from, bytes), 0; }
#endif

int check(const Geometry& g, int64_t n_types, int64_t* complaints, Stream stream) {
  int64_t n = g.n_points > g.n_atoms ? g.n_points : g.n_atoms;
  return launch_elements<CheckElement>({g, n_types, complaints}, n, stream);
}

int atom_slots(const Bins& bins, int64_t* slots, Stream stream) {
  BinsArguments a{bins, nullptr, nullptr, slots};
  if (int error = launch_elements<ClearBounds>(a, 6 * bins.geometry.n_frames, stream)) {
    return error;
  }
  if (int error = launch_elements<WidenBounds>(a, bins.geometry.n_atoms, stream)) {
    return error;
  }
  return launch_elements<AtomSlot>(a, bins.geometry.n_atoms, stream);
}

int fill_bins(const Bins& bins, const int64_t* sorted, const int64_t* order, Stream stream) {
  BinsArguments a{bins, sorted, order, nullptr};
  if (int error = launch_elements<PlaceAtom>(a, bins.geometry.n_atoms, stream)) {
    return error;
  }
  return launch_elements<FindSlot>(a, bins.n_slots + 1, stream);
}

int point_keys(const Bins& bins, int64_t* keys, Stream stream) {
  return launch_elements<PointKey>({bins, nullptr, nullptr, keys}, bins.geometry.n_points, stream);
}

}  // namespace cuda
}  // namespace dcharge
