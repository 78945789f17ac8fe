// se_e2_a for inference: moments -> A = P.C -> Gram matrix for one group of points at a time, all in cache.
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/gram.hpp"
#include "cpu/kernels/group.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// a[k][m] += sum_b acc[k][b] c[b][m] for K components of one degree and B columns; lanes are points.
template <class T, int K, int B>
DCHARGE_INLINE void contract_block(const Vec<T>* acc, int64_t stride, int64_t n_radial, const T* c, int64_t m_padded,
                                   Vec<T>* a) {
  Vec<T> sum[K][B];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 16
    for (int m = 0; m < B; ++m) {
      sum[k][m] = a[k * m_padded + m];
    }
  }
  for (int64_t b = 0; b < n_radial; ++b) {
#pragma GCC unroll 16
    for (int m = 0; m < B; ++m) {
      Vec<T> weight = set1(c[b * m_padded + m]);
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) {
        sum[k][m] += acc[k * stride + b] * weight;
      }
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 16
    for (int m = 0; m < B; ++m) {
      a[k * m_padded + m] = sum[k][m];
    }
  }
}

// Degrees 0..L; the number of columns per block keeps the sums in registers.
template <class T, int L>
DCHARGE_INLINE void contract(const Vec<T>* acc, int64_t stride, int64_t n_radial, const T* c, int64_t m_padded,
                             Vec<T>* a) {
  if constexpr (L > 0) {
    contract<T, L - 1>(acc, stride, n_radial, c, m_padded, a);
  }
  constexpr int wide = kRegisters >= 32 ? 2 : 1;
  constexpr int B = wide * (L == 0 ? 8 : L == 1 ? 4 : L == 2 ? 2 : 1);
  for (int64_t m = 0; m < m_padded; m += B) {
    contract_block<T, 2 * L + 1, B>(acc + L * L * stride, stride, n_radial, c + L * n_radial * m_padded + m, m_padded,
                                    a + L * L * m_padded + m);
  }
}

// a[k][m][lane] -> rows[lane][k][m].
template <class T>
DCHARGE_INLINE void to_rows(const Vec<T>* a, int64_t n_comp, int64_t m_padded, int64_t stride, T* rows) {
  constexpr int W = kLanes<T>;
  for (int64_t k = 0; k < n_comp; ++k) {
    for (int64_t m = 0; m < m_padded; m += W) {
      Vec<T> r[W];
      for (int i = 0; i < W; ++i) {
        r[i] = a[k * m_padded + m + i];
      }
      transpose<T>(r);
      for (int i = 0; i < W; ++i) {
        store<T>(rows + (i * n_comp + k) * stride + m, r[i]);
      }
    }
  }
}

template <class T, int L>
void se_e2_a_of(const Radial& radial, const TilePoints& points, const Candidates& atoms, const Contraction<T>& c,
                T* out, void* scratch) {
  using V = Vec<T>;
  constexpr int W = kLanes<T>, n_comp = n_components(L);
  PairConstants<T> constants(radial);
  int64_t stride = padded(radial.n_radial), row_stride = gram_stride(c.m);
  auto* acc = static_cast<V*>(scratch);
  V* a = acc + n_comp * stride;
  T* rows = reinterpret_cast<T*>(a + n_comp * c.m_padded);
  __builtin_memset(rows, 0, W * n_comp * row_stride * sizeof(T));
  for (int64_t start = 0; start < points.n; start += W) {
    Group<T> g = load_group<T>(points, start);
    for (int64_t m = 0; m < n_comp * c.m_padded; ++m) {
      a[m] = c.offset && m < c.m_padded ? set1(c.offset[m]) : V{};
    }
    for (int64_t t = 0; t < radial.n_types; ++t) {
      if (group_moments<T, L>(constants, g, atoms, t, radial.n_radial, acc, stride)) {
        contract<T, L>(acc, stride, radial.n_radial, c.c + t * (L + 1) * radial.n_radial * c.m_padded, c.m_padded, a);
      }
    }
    to_rows<T>(a, n_comp, c.m_padded, row_stride, rows);
    for (int i = 0; i < g.n; ++i) {
      gram_point<T>(c, n_comp, rows + i * n_comp * row_stride, row_stride, out + points.row[start + i] * c.row_length);
    }
  }
}

}  // namespace

template <class T>
void se_e2_a(const Radial& r, const TilePoints& points, const Candidates& atoms, const Contraction<T>& c, T* out,
             void* scratch) {
  (r.l_max == 0   ? se_e2_a_of<T, 0>
   : r.l_max == 1 ? se_e2_a_of<T, 1>
   : r.l_max == 2 ? se_e2_a_of<T, 2>
                  : se_e2_a_of<T, 3>)(r, points, atoms, c, out, scratch);
}

template void se_e2_a<float>(const Radial&, const TilePoints&, const Candidates&, const Contraction<float>&, float*,
                             void*);
template void se_e2_a<double>(const Radial&, const TilePoints&, const Candidates&, const Contraction<double>&, double*,
                              void*);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
