// Gram matrices of orbital sums and their adjoint (docs/architecture.md, "ead"), one number per element.
#pragma once

#include <cstdint>

#include "core/orbitals.hpp"

namespace dcharge {

template <class T>
struct OrbitalGramArguments {
  int64_t n, n_waves;
  int l_max;
  const T* sums;  // [n, n_comp, n_waves]
  const T* grad;  // [n, (l_max + 1) n_waves (n_waves + 1) / 2], adjoint only
  T* out;         // like grad, or like sums
};

DCHARGE_INLINE int64_t n_pairs(int64_t n_waves) { return n_waves * (n_waves + 1) / 2; }

// Place of (m, m'), m <= m', in an upper triangle stored row by row.
DCHARGE_INLINE int64_t pair_index(int64_t m, int64_t other, int64_t n_waves) {
  return m * n_waves - m * (m - 1) / 2 + other - m;
}

template <class T>
DCHARGE_INLINE void orbital_gram_element(const OrbitalGramArguments<T>& a, int64_t i) {
  int64_t pairs = n_pairs(a.n_waves), row = i / ((a.l_max + 1) * pairs), rest = i % ((a.l_max + 1) * pairs);
  int degree = static_cast<int>(rest / pairs);
  int64_t pair = rest % pairs, m = 0;
  while (pair_index(m + 1, m + 1, a.n_waves) <= pair) {
    ++m;
  }
  int64_t other = pair - pair_index(m, m, a.n_waves) + m;
  const T* s = a.sums + row * n_monomials(a.l_max) * a.n_waves;
  T sum = 0;
  for (int k = n_monomials(degree - 1); k < n_monomials(degree); ++k) {
    sum += static_cast<T>(monomial_weight(k)) * s[k * a.n_waves + m] * s[k * a.n_waves + other];
  }
  a.out[i] = sum;
}

template <class T>
DCHARGE_INLINE void orbital_gram_backward_element(const OrbitalGramArguments<T>& a, int64_t i) {
  int64_t n_comp = n_monomials(a.l_max), row = i / (n_comp * a.n_waves), m = i % a.n_waves;
  int k = static_cast<int>(i / a.n_waves % n_comp), degree = 0;
  while (k >= n_monomials(degree)) {
    ++degree;
  }
  const T* s = a.sums + (row * n_comp + k) * a.n_waves;
  const T* g = a.grad + (row * (a.l_max + 1) + degree) * n_pairs(a.n_waves);
  T sum = 0;
  for (int64_t other = 0; other < a.n_waves; ++other) {
    int64_t low = m < other ? m : other, high = m < other ? other : m;
    sum += g[pair_index(low, high, a.n_waves)] * s[other] * static_cast<T>(m == other ? 2 : 1);
  }
  a.out[i] = static_cast<T>(monomial_weight(k)) * sum;
}

}  // namespace dcharge
