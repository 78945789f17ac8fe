// Gram matrices of the descriptor and their adjoint (docs/architecture.md, "se_e2_a"), one point per block of threads.
#pragma once

#include <cstdint>

#include "core/macros.hpp"

namespace dcharge {

template <class T>
struct GramArguments {
  int64_t n, n_comp, m, row_length;  // row_length of D
  bool per_l;
  int64_t axis[4];  // one number (joint) or one per degree (per_l)
  const T* a;       // [n, n_comp, m]
  const T* grad;    // [n, row_length], adjoint only
  T* out;           // [n, row_length], or [n, n_comp, m]
};

// Components [first, last) that are summed over, with `columns` axis columns and their place in D.
struct GramPart {
  int first, last;
  int64_t columns, offset;
};

template <class T>
DCHARGE_INLINE GramPart gram_part(const GramArguments<T>& a, int index) {
  if (!a.per_l) {
    return {0, static_cast<int>(a.n_comp), a.axis[0], 0};
  }
  GramPart part{index * index, (index + 1) * (index + 1), a.axis[index], 0};
  for (int l = 0; l < index; ++l) {
    part.offset += a.m * a.axis[l];
  }
  return part;
}

template <class T>
DCHARGE_INLINE int n_gram_parts(const GramArguments<T>& a) {
  int l = 0;
  while (a.per_l && (l + 1) * (l + 1) < a.n_comp) {
    ++l;
  }
  return l + 1;
}

constexpr int kMostComponents = 16;

// D[m, i] = sum_k A[k, m] A[k, i] in tiles; thread (m, i) of 16 x 16.
template <class T, int Registers>
struct GramBlock {
  static constexpr int threads = 256, registers = Registers, tile_m = 128, tile_i = 32;
  using Arguments = GramArguments<T>;
  struct Thread {};
  struct Shared {
    T m[kMostComponents][tile_m], i[kMostComponents][tile_i];
  };

  static int64_t n_items(const Arguments& a) { return a.n; }

  template <class Block>
  DCHARGE_INLINE void run(Block& block, const Arguments& a, int64_t item) {
    auto& shared = block.shared;
    const T* from = a.a + item * a.n_comp * a.m;
    for (int index = 0; index < n_gram_parts(a); ++index) {
      GramPart part = gram_part(a, index);
      T* to = a.out + item * a.row_length + part.offset;
      int n_comp = part.last - part.first;
      for (int64_t m0 = 0; m0 < a.m; m0 += tile_m) {
        for (int64_t i0 = 0; i0 < part.columns; i0 += tile_i) {
          block.each([&](int t, Thread&) {
            for (int e = t; e < n_comp * tile_m; e += threads) {
              int k = e / tile_m, m = e % tile_m;
              shared.m[k][m] = m0 + m < a.m ? from[(part.first + k) * a.m + m0 + m] : T(0);
            }
            for (int e = t; e < n_comp * tile_i; e += threads) {
              int k = e / tile_i, i = e % tile_i;
              shared.i[k][i] = i0 + i < part.columns ? from[(part.first + k) * a.m + i0 + i] : T(0);
            }
          });
          block.each([&](int t, Thread&) {
            for (int i = t % 16; i < tile_i && i0 + i < part.columns; i += 16) {
              for (int m = t / 16; m < tile_m && m0 + m < a.m; m += 16) {
                T sum = 0;
                for (int k = 0; k < n_comp; ++k) {
                  sum += shared.m[k][m] * shared.i[k][i];
                }
                to[(m0 + m) * part.columns + i0 + i] = sum;
              }
            }
          });
        }
      }
    }
  }
};

// dA[k, m] = sum_i G[m, i] A[k, i] + (m < columns: sum_j G[j, m] A[k, j]); thread (k, m) of 4 x 64.
template <class T, int Registers>
struct GramBackwardBlock {
  static constexpr int threads = 256, registers = Registers, tile_m = 64, tile_j = 32, rows = 4;
  static constexpr int sums = kMostComponents / rows;
  using Arguments = GramArguments<T>;
  struct Thread {
    T sum[sums];
  };
  struct Shared {
    T g[tile_j][tile_m + 1], a[kMostComponents][tile_j];
  };

  static int64_t n_items(const Arguments& a) { return a.n; }

  // Adds sum_j g(j, m) A[k, j] over j < n_j for the columns m0.. below n_m; g is G or its transpose.
  template <class Block>
  DCHARGE_INLINE void add(Block& block, const T* from, const T* g, const GramPart& part, int64_t m_all, int64_t m0,
                          int64_t n_m, int64_t n_j, bool transposed) {
    auto& shared = block.shared;
    int n_comp = part.last - part.first;
    for (int64_t j0 = 0; j0 < n_j; j0 += tile_j) {
      block.each([&](int t, Thread&) {
        for (int e = t; e < tile_j * tile_m; e += threads) {
          int j = transposed ? e / tile_m : e % tile_j, m = transposed ? e % tile_m : e / tile_j;
          bool inside = j0 + j < n_j && m0 + m < n_m;
          int64_t at = transposed ? (j0 + j) * part.columns + m0 + m : (m0 + m) * part.columns + j0 + j;
          shared.g[j][m] = inside ? g[at] : T(0);
        }
        for (int e = t; e < n_comp * tile_j; e += threads) {
          int k = e / tile_j, j = e % tile_j;
          shared.a[k][j] = j0 + j < n_j ? from[(part.first + k) * m_all + j0 + j] : T(0);
        }
      });
      block.each([&](int t, Thread& thread) {
        for (int j = 0; j < tile_j; ++j) {
          T weight = shared.g[j][t % tile_m];
#pragma unroll
          for (int s = 0; s < sums; ++s) {
            int k = t / tile_m + rows * s;
            thread.sum[s] += k < n_comp ? weight * shared.a[k][j] : T(0);
          }
        }
      });
    }
  }

  template <class Block>
  DCHARGE_INLINE void run(Block& block, const Arguments& a, int64_t item) {
    const T* from = a.a + item * a.n_comp * a.m;
    for (int index = 0; index < n_gram_parts(a); ++index) {
      GramPart part = gram_part(a, index);
      const T* g = a.grad + item * a.row_length + part.offset;
      for (int64_t m0 = 0; m0 < a.m; m0 += tile_m) {
        block.each([&](int, Thread& thread) {
#pragma unroll
          for (int s = 0; s < sums; ++s) {
            thread.sum[s] = 0;
          }
        });
        add(block, from, g, part, a.m, m0, a.m, part.columns, false);
        if (m0 < part.columns) {
          add(block, from, g, part, a.m, m0, part.columns, a.m, true);
        }
        block.each([&](int t, Thread& thread) {
#pragma unroll
          for (int s = 0; s < sums; ++s) {
            int k = part.first + t / tile_m + rows * s;
            int64_t m = m0 + t % tile_m;
            if (k < part.last && m < a.m) {
              a.out[(item * a.n_comp + k) * a.m + m] = thread.sum[s];
            }
          }
        });
      }
    }
  }
};

}  // namespace dcharge
