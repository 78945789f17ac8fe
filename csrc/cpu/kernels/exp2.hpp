// Powers of two of vectors.
#pragma once

#include "core/orbitals.hpp"
#include "cpu/kernels/vec.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// 2^x where that is a normal number (x in -125..126 or -1021..1022), relative error 1e-7 (float) or 1e-15.
template <class T>
DCHARGE_INLINE Vec<T> exp2_normal(Vec<T> x) {
  using Bits = typename VecOf<T>::Bits;
  constexpr bool single = sizeof(T) == 4;
  // 1.5 * 2^(bits of the mantissa): adding it rounds to an integer, which its low bits then hold
  constexpr T shift = single ? T(12582912.0) : T(6755399441055744.0);
  Vec<T> shifted = x + shift, f = x - (shifted - shift), power;
  if constexpr (single) {  // Chebyshev fits on [-1/2, 1/2]
    constexpr T c[] = {1.0000000754548972f,   0.69314718802622878f,   0.24022107485308338f,
                       0.055503571142190778f, 0.0096760319183220541f, 0.0013390863364671234f};
    power = polynomial(c, f);
  } else {
    constexpr T c[] = {1.0,
                       0.69314718055994998,
                       0.24022650695910098,
                       0.055504108664447719,
                       0.0096181291076068885,
                       0.0013333558230164974,
                       0.0001540353044173605,
                       1.5252657260200837e-5,
                       1.321544258792169e-6,
                       1.0208690299958306e-7,
                       7.0725859492692237e-9};
    power = polynomial(c, f);
  }
  return (Vec<T>)((Bits)power + ((Bits)shifted << (single ? 23 : 52)));
}

// The same for x <= 0; below the range of normal numbers it stays at its lower end.
template <class T>
DCHARGE_INLINE Vec<T> exp2_nonpositive(Vec<T> x) {
  return exp2_normal<T>(vmax(x, set1(sizeof(T) == 4 ? T(-125) : T(-1021))));
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
