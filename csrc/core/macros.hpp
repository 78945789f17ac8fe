// Macros of the maths that host and device share.
#pragma once

// static: every translation unit keeps its own copy. The CPU kernels are compiled once per instruction set, and a
// shared weak copy could be the one with instructions that the machine at hand lacks.
#ifdef __CUDACC__
#define DCHARGE_INLINE static __host__ __device__ __forceinline__
#define DCHARGE_HD __host__ __device__
#else
#define DCHARGE_INLINE static inline __attribute__((always_inline))
#define DCHARGE_HD
#endif
