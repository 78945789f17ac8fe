// Atomic updates on the device, plain ones on the host, where a block runs on one thread.
#pragma once

#include <cstdint>

#include "core/macros.hpp"

namespace dcharge {

DCHARGE_INLINE void atomic_min(int64_t* to, int64_t value) {
#ifdef __CUDA_ARCH__
  atomicMin(reinterpret_cast<long long*>(to), static_cast<long long>(value));
#else
  *to = value < *to ? value : *to;
#endif
}

DCHARGE_INLINE void atomic_max(int64_t* to, int64_t value) {
#ifdef __CUDA_ARCH__
  atomicMax(reinterpret_cast<long long*>(to), static_cast<long long>(value));
#else
  *to = value > *to ? value : *to;
#endif
}

DCHARGE_INLINE void atomic_add(float* to, float value) {
#ifdef __CUDA_ARCH__
  atomicAdd(to, value);
#else
  *to += value;
#endif
}

DCHARGE_INLINE void atomic_add(double* to, double value) {
#ifdef __CUDA_ARCH__
  atomicAdd(to, value);
#else
  *to += value;
#endif
}

}  // namespace dcharge
