// Sigmoid and softplus of vectors, with arguments in units of ln 2: x = x' ln 2.
//
// Relative error below 1e-6 (float32) or 1e-14, also of small values; a sigmoid is never below 2^-126 (2^-1022). nan stays.
#pragma once

#include "cpu/kernels/exp2.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr double kLn2 = 0.69314718055994530942, kPerLn2 = 1.4426950408889634074;

// The smaller and the larger of x and a limit; nan stays.
DCHARGE_INLINE Vf at_most(Vf x, float limit) {
#if defined(__AVX512F__)
  return (Vf)_mm512_min_ps(_mm512_set1_ps(limit), (__m512)x);
#elif defined(__AVX2__)
  return (Vf)_mm256_min_ps(_mm256_set1_ps(limit), (__m256)x);
#else
  return x > limit ? set1(limit) : x;
#endif
}

DCHARGE_INLINE Vf at_least(Vf x, float limit) {
#if defined(__AVX512F__)
  return (Vf)_mm512_max_ps(_mm512_set1_ps(limit), (__m512)x);
#elif defined(__AVX2__)
  return (Vf)_mm256_max_ps(_mm256_set1_ps(limit), (__m256)x);
#else
  return x < limit ? set1(limit) : x;
#endif
}

// 2^x for x <= 126, relative error 1.5e-7; it stays what it is at -126 below: denormal numbers cost a hundred times as
// much.
DCHARGE_INLINE Vf power_of_two(Vf x) {
  x = at_least(x, -126.0f);
#if defined(__AVX512DQ__)
  constexpr float c[] = {0.9999999250635507f, 0.693153073198834f,    0.240153617055986f,
                         0.0558263180188155f, 0.008989340131637165f, 0.001877576658182272f};
  Vf f = (Vf)_mm512_reduce_ps((__m512)x, 0x09);  // x - floor(x)
  return (Vf)_mm512_scalef_ps((__m512)polynomial(c, f), (__m512)x);
#else
  using Bits = VecOf<float>::Bits;
  constexpr float c[] = {1.0000000716546764f,  0.6931469670645333f,   0.2402211972386469f,
                         0.05550713273864509f, 0.009675541333453944f, 0.0013276471874262173f};
  constexpr float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
  Vf shifted = x + shift, f = x - (shifted - shift);
  return (Vf)((Bits)polynomial(c, f) + ((Bits)shifted << 23));
#endif
}

// 1/x of normal numbers, to 1e-7.
DCHARGE_INLINE Vf reciprocal(Vf x) {
#if defined(__AVX512F__)
  Vf y = (Vf)_mm512_rcp14_ps((__m512)x);
  return y + y * (1.0f - x * y);
#else
  return 1.0f / x;
#endif
}

DCHARGE_INLINE Vd reciprocal(Vd x) { return 1.0 / x; }

DCHARGE_INLINE Vf minus_magnitude(Vf x) {
  using Bits = VecOf<float>::Bits;
  return (Vf)((Bits)x | 0x80000000u);
}

// 2^x, finite: x is cut off at 126 in float32, at 1022 in float64.
DCHARGE_INLINE Vf growth(Vf x) { return power_of_two(at_most(x, 126.0f)); }

DCHARGE_INLINE Vd growth(Vd x) {
  x = x > 1022.0 ? set1(1022.0) : x;
  return exp2_normal<double>(x < -1021.0 ? set1(-1021.0) : x);
}

// 2^-|x|.
DCHARGE_INLINE Vf decay_of_magnitude(Vf x) { return power_of_two(minus_magnitude(x)); }

DCHARGE_INLINE Vd decay_of_magnitude(Vd x) { return growth(x < 0.0 ? x : -x); }

// log2(1 + t) of t in 0..1: t times a polynomial, relative error 3e-8.
DCHARGE_INLINE Vf log2_one_plus(Vf t) {
  constexpr float c[] = {1.4426949974342826f,  -0.7213402079979544f,  0.4806929571175305f,
                         -0.3584084708664389f, 0.275641406034121f,    -0.19711895672282295f,
                         0.1128561777792087f,  -0.04256705241507426f, 0.00754917975751742f};
  return t * polynomial(c, t);
}

// 2/ln 2 atanh z of z = t/(2 + t): z times a polynomial of z^2, relative error 5e-16.
DCHARGE_INLINE Vd log2_one_plus(Vd t) {
  constexpr double c[] = {2.8853900817779268,  0.9617966939259681,  0.5770780163582652,  0.4121985827364002,
                          0.3205989247881797,  0.26230707333783054, 0.2219819177490448,  0.19188383658908023,
                          0.17471280368314066, 0.12009724262509489, 0.24589530248125088};
  Vd z = t / (2.0 + t);
  return z * polynomial(c, z * z);
}

DCHARGE_INLINE Vf positive_part(Vf x) { return at_least(x, 0.0f); }
DCHARGE_INLINE Vd positive_part(Vd x) { return x < 0.0 ? Vd{} : x; }

// softplus(x)/ln 2.
template <class T>
DCHARGE_INLINE Vec<T> softplus_of(Vec<T> x) {
  return positive_part(x) + log2_one_plus(decay_of_magnitude(x));
}

// softplus(x)/ln 2, and its slope without units: sigmoid(x).
template <class T>
DCHARGE_INLINE Vec<T> softplus_with_slope(Vec<T> x, Vec<T>& slope) {
  Vec<T> t = decay_of_magnitude(x);
  slope = reciprocal(T(1) + t);
  slope = x < T(0) ? t * slope : slope;
  return positive_part(x) + log2_one_plus(t);
}

// sigmoid(-closing) softplus(core)/ln 2.
template <class T>
DCHARGE_INLINE Vec<T> gated(Vec<T> closing, Vec<T> core) {
  return softplus_of<T>(core) * reciprocal(T(1) + growth(closing));
}

// Derivatives of sigmoid(gate) softplus(core) with respect to gate and core without units; closing: -gate.
template <class T>
DCHARGE_INLINE void gated_slopes(Vec<T> closing, Vec<T> core, Vec<T>& d_gate, Vec<T>& d_core) {
  Vec<T> a = growth(closing), open = reciprocal(T(1) + a), slope;
  d_gate = T(kLn2) * softplus_with_slope<T>(core, slope) * open * (a * open);
  d_core = open * slope;
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
