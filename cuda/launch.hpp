// Runs blocks and elements: on a GPU under nvcc, in plain loops under g++, where the tests use sanitizers.
//
// A block K has threads, registers (its budget), Arguments, Shared, Thread, n_items(arguments) and
// run(block, arguments, item); an element E has registers, Arguments, n_items(arguments), run(arguments, i).
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "core/macros.hpp"

namespace dcharge {
namespace cuda {

using Stream = void*;

#ifdef __CUDACC__

template <class K>
struct DeviceBlock {
  typename K::Shared& shared;
  typename K::Thread& thread;

  template <class F>
  __device__ __forceinline__ void each(F f) {
    f(static_cast<int>(threadIdx.x), thread);
    __syncthreads();
  }
  static __device__ __forceinline__ bool any(bool x) { return __any_sync(~0u, x); }
  static __device__ __forceinline__ bool leads(int i) { return i % 32 == 0; }
  template <class T>
  static __device__ __forceinline__ T warp_sum(T x) {
    for (int lane = 16; lane > 0; lane /= 2) {
      x += __shfl_xor_sync(~0u, x, lane);
    }
    return x;
  }
};

constexpr int blocks_per_processor(int threads, int registers) { return 65536 / (threads * registers); }

// Budget is in the name so that cuda/check_registers.py finds it in the words of the assembler.
template <class K, int Budget>
__global__ void __launch_bounds__(K::threads, blocks_per_processor(K::threads, Budget))
    run_blocks(const __grid_constant__ typename K::Arguments arguments, int64_t first) {
  __shared__ typename K::Shared shared;
  typename K::Thread thread;
  DeviceBlock<K> block{shared, thread};
  K::run(block, arguments, first + blockIdx.x);
}

constexpr int kElementThreads = 256;

template <class E, int Budget>
__global__ void __launch_bounds__(kElementThreads, blocks_per_processor(kElementThreads, Budget))
    run_elements(const __grid_constant__ typename E::Arguments arguments, int64_t n) {
  int64_t step = gridDim.x * int64_t(kElementThreads);
  for (int64_t i = blockIdx.x * int64_t(kElementThreads) + threadIdx.x; i < n; i += step) {
    E::run(arguments, i);
  }
}

constexpr int64_t kMostBlocks = int64_t(1) << 30;

template <class K>
int launch_blocks(const typename K::Arguments& arguments, Stream stream) {
  int64_t n = K::n_items(arguments);
  for (int64_t first = 0; first < n; first += kMostBlocks) {
    auto grid = static_cast<unsigned>(n - first < kMostBlocks ? n - first : kMostBlocks);
    run_blocks<K, K::registers><<<grid, K::threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments, first);
  }
  return cudaGetLastError();
}

template <class E>
int launch_elements(const typename E::Arguments& arguments, int64_t n, Stream stream) {
  if (n > 0) {
    int64_t blocks = (n + kElementThreads - 1) / kElementThreads;
    auto grid = static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
    run_elements<E, E::registers><<<grid, kElementThreads, 0, static_cast<cudaStream_t>(stream)>>>(arguments, n);
  }
  return cudaGetLastError();
}

#else

template <class K>
struct HostBlock {
  typename K::Shared& shared;
  std::vector<typename K::Thread> threads;
  bool forwards = false;

  // Every other phase backwards: threads that rely on each other inside a phase are found out.
  template <class F>
  void each(F f) {
    forwards = !forwards;
    for (int n = 0; n < K::threads; ++n) {
      int i = forwards ? n : K::threads - 1 - n;
      f(i, threads[i]);
    }
  }
  static bool any(bool x) { return x; }
  static bool leads(int) { return true; }
  template <class T>
  static T warp_sum(T x) {
    return x;
  }
};

template <class K>
int launch_blocks(const typename K::Arguments& arguments, Stream) {
  auto shared = std::make_unique<typename K::Shared>();
  for (int64_t item = 0; item < K::n_items(arguments); ++item) {
    std::memset(static_cast<void*>(shared.get()), 0xff, sizeof *shared);  // nan, as nothing may rely on old contents
    HostBlock<K> block{*shared, std::vector<typename K::Thread>(K::threads)};
    std::memset(static_cast<void*>(block.threads.data()), 0xff, K::threads * sizeof(typename K::Thread));
    K::run(block, arguments, item);
  }
  return 0;
}

template <class E>
int launch_elements(const typename E::Arguments& arguments, int64_t n, Stream) {
  for (int64_t i = 0; i < n; ++i) {
    E::run(arguments, i);
  }
  return 0;
}

#endif

}  // namespace cuda
}  // namespace dcharge
