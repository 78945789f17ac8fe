// Vectors of lanes through the GCC/Clang vector extensions, as wide as the instruction set this file is compiled for.
// Everything is static or in an unnamed namespace: see core/macros.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/macros.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kBytes = 32, kRegisters = 16;
#else
constexpr int kBytes = 16, kRegisters = 16;
#endif

typedef float Vf __attribute__((vector_size(kBytes)));
typedef double Vd __attribute__((vector_size(kBytes)));

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
  using V = Vf;
  using Index = int32_t;
  typedef uint32_t Bits __attribute__((vector_size(kBytes)));
};
template <>
struct VecOf<double> {
  using V = Vd;
  using Index = int64_t;
  typedef uint64_t Bits __attribute__((vector_size(kBytes)));
};
template <class T>
using Vec = typename VecOf<T>::V;
template <class T>
constexpr int kLanes = kBytes / sizeof(T);

template <class T>
DCHARGE_INLINE Vec<T> set1(T value) {
  return value - Vec<T>{};
}

template <class T>
DCHARGE_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class T>
DCHARGE_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// Past the caches, for results that only the caller reads; p is aligned to vectors. stream_end() after the last.
template <class T>
DCHARGE_INLINE void stream_store(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__x86_64__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
  store<T>(p, v);
#endif
}

DCHARGE_INLINE void stream_end() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <class V>
DCHARGE_INLINE V vmin(V a, V b) {
  return a < b ? a : b;
}

template <class V>
DCHARGE_INLINE V vmax(V a, V b) {
  return a > b ? a : b;
}

// 1/sqrt to full precision of the type; the argument is positive and normal.
DCHARGE_INLINE Vf rsqrt(Vf v) {
#if defined(__AVX512F__)
  Vf y = (Vf)_mm512_rsqrt14_ps((__m512)v);
  return y + 0.5f * y * (1.0f - v * y * y);
#elif defined(__AVX2__)
  return 1.0f / (Vf)_mm256_sqrt_ps((__m256)v);
#elif defined(__x86_64__)
  return 1.0f / (Vf)_mm_sqrt_ps((__m128)v);
#else
  for (int i = 0; i < kLanes<float>; ++i) {
    v[i] = 1.0f / __builtin_sqrtf(v[i]);
  }
  return v;
#endif
}

DCHARGE_INLINE Vd rsqrt(Vd v) {
#if defined(__AVX512F__)
  return 1.0 / (Vd)_mm512_sqrt_pd((__m512d)v);
#elif defined(__AVX2__)
  return 1.0 / (Vd)_mm256_sqrt_pd((__m256d)v);
#elif defined(__x86_64__)
  return 1.0 / (Vd)_mm_sqrt_pd((__m128d)v);
#else
  for (int i = 0; i < kLanes<double>; ++i) {
    v[i] = 1.0 / __builtin_sqrt(v[i]);
  }
  return v;
#endif
}

template <class T>
DCHARGE_INLINE T sum(Vec<T> v) {
  T part[kLanes<T>];
  store<T>(part, v);
#pragma GCC unroll 8
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
      part[i] += part[i + half];
    }
  }
  return part[0];
}

template <class T, int... I>
DCHARGE_INLINE Vec<T> shuffle_with(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, I...);
#else
  typedef typename VecOf<T>::Index Indices __attribute__((vector_size(kBytes)));
  return __builtin_shuffle(a, b, Indices{I...});
#endif
}

template <class T, int S, int... E>
DCHARGE_INLINE void exchange(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, E...>) {
  constexpr int W = kLanes<T>;
  Vec<T> low = shuffle_with<T>(a, b, std::integer_sequence<int, ((E & S) ? W + E - S : E)...>{});
  Vec<T> high = shuffle_with<T>(a, b, std::integer_sequence<int, ((E & S) ? W + E : E + S)...>{});
  a = low;
  b = high;
}

template <class T, int S>
DCHARGE_INLINE void transpose_steps(Vec<T>* r) {
  constexpr int W = kLanes<T>;
  if constexpr (S < W) {
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) {
      if (!(i & S)) {
        exchange<T, S>(r[i], r[i + S], std::make_integer_sequence<int, W>{});
      }
    }
    transpose_steps<T, 2 * S>(r);
  }
}

// r[i][j] <-> r[j][i] of a square of vectors.
template <class T>
DCHARGE_INLINE void transpose(Vec<T>* r) {
  transpose_steps<T, 1>(r);
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
