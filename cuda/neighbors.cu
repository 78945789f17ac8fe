// neighbors.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {
namespace {

struct CountNeighbors {
  using Arguments = NeighborsArguments;
  static constexpr int registers = 96;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { count_neighbors_of(a, i); }
};

struct FillNeighbors {
  using Arguments = NeighborsArguments;
  static constexpr int registers = 96;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { fill_neighbors_of(a, i); }
};

}  // namespace

int count_neighbors(const NeighborsArguments& a, Stream stream) {
  return launch_elements<CountNeighbors>(a, a.bins.geometry.n_points, stream);
}

int fill_neighbors(const NeighborsArguments& a, Stream stream) {
  return launch_elements<FillNeighbors>(a, a.bins.geometry.n_points, stream);
}

}  // namespace cuda
}  // namespace dcharge
