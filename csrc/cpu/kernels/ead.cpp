// ead for inference (orbital sums and Gram matrix of a group of points, all in cache), the same with a net behind it,
// orbital_gram and its adjoint. One point per lane throughout.
#include "cpu/kernels/block_network.hpp"
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/orbitals.hpp"
#include "cpu/kernels/rows.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

// g = weight_k s[k][m] s[k][m'] summed over the K monomials from `first` on, m <= m'. Returns the end of g.
template <class T, int First, int K>
DCHARGE_INLINE Vec<T>* gram_degree(const Vec<T>* s, int64_t n_waves, Vec<T>* g) {
  for (int64_t m = 0; m < n_waves; ++m) {
    Vec<T> row[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      row[k] = T(monomial_weight(First + k)) * s[(First + k) * n_waves + m];
    }
    for (int64_t other = m; other < n_waves; ++other) {
      Vec<T> sum = row[0] * s[First * n_waves + other];
#pragma GCC unroll 16
      for (int k = 1; k < K; ++k) {
        sum += row[k] * s[(First + k) * n_waves + other];
      }
      *g++ = sum;
    }
  }
  return g;
}

template <class T, int L>
DCHARGE_INLINE Vec<T>* gram_lanes(const Vec<T>* s, int64_t n_waves, Vec<T>* g) {
  if constexpr (L > 0) {
    g = gram_lanes<T, L - 1>(s, n_waves, g);
  }
  constexpr int first = L == 0 ? 0 : n_monomials(L - 1);
  return gram_degree<T, first, n_monomials(L) - first>(s, n_waves, g);
}

// d_s += adjoint of gram_lanes; returns the end of grad.
template <class T, int L>
DCHARGE_INLINE const Vec<T>* gram_lanes_backward(const Vec<T>* grad, const Vec<T>* s, int64_t n_waves, Vec<T>* d_s) {
  if constexpr (L > 0) {
    grad = gram_lanes_backward<T, L - 1>(grad, s, n_waves, d_s);
  }
  constexpr int first = L == 0 ? 0 : n_monomials(L - 1), K = n_monomials(L) - first;
  for (int64_t m = 0; m < n_waves; ++m) {
    Vec<T> row[K], sum[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      row[k] = s[(first + k) * n_waves + m];
      sum[k] = Vec<T>{};
    }
    for (int64_t other = m; other < n_waves; ++other) {
      Vec<T> weight = *grad++;
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) {
        int64_t at = (first + k) * n_waves + other;
        Vec<T> part = T(monomial_weight(first + k)) * weight;
        sum[k] += part * s[at];
        d_s[at] += part * row[k];
      }
    }
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      d_s[(first + k) * n_waves + m] += sum[k];
    }
  }
  return grad;
}

template <class T>
int64_t row_length(const Orbitals& o) {
  return (o.l_max + 1) * o.n_waves * (o.n_waves + 1) / 2;
}

template <class T, int L>
void ead_of(const Orbitals& o, const OrbitalTables<T>& tables, const TilePoints& points, const Candidates& atoms,
            T* out, void* scratch) {
  constexpr int W = kLanes<T>;
  OrbitalConstants<T> constants(o);
  int64_t n_sums = n_monomials(L) * o.n_waves, length = row_length<T>(o);
  auto* acc = static_cast<Vec<T>*>(scratch);
  Vec<T>* g = acc + padded(n_sums);
  // all points of a tile belong to one frame
  const T* field = tables.field_sum ? tables.field_sum + tables.point_frame[points.row[0]] * n_sums : nullptr;
  for (int64_t start = 0; start < points.n; start += W) {
    OrbitalGroup<T> group(load_group<T>(points, start), tables, points, start);
    T* rows[W];
    for (int i = 0; i < group.n; ++i) {
      rows[i] = out + points.row[start + i] * length;
    }
    bool any = group_sums<T, L>(o, constants, tables, group, atoms, acc);
    if (!any && !field) {
      for (int i = 0; i < group.n; ++i) {
        __builtin_memset(rows[i], 0, length * sizeof(T));
      }
      continue;
    }
    for (int64_t i = 0; i < n_sums && field; ++i) {
      acc[i] = any ? acc[i] + field[i] : set1(field[i]);
    }
    gram_lanes<T, L>(acc, o.n_waves, g);
    store_rows<T>(g, length, group.n, rows);
  }
}

// Where ead_network works on a group of points.
template <class T>
struct EadNetworkScratch {
  int64_t sums, state, features, layers, output;  // vectors of each part
  Vec<T>*acc, *s, *g, *layer, *value;

  EadNetworkScratch(const Orbitals& o, const EadNetwork<T>& n, void* memory) {
    int64_t n_comp = n_monomials(static_cast<int>(o.l_max));
    sums = n_comp * o.n_waves;
    state = n_comp * n.n_waves;
    features = n.network.n_input;
    layers = 3 * widest(n.network);
    output = n.n_states * n.network.n_output;
    acc = static_cast<Vec<T>*>(memory);
    s = acc + sums;
    g = s + state;
    layer = g + features;
    value = layer + layers;
  }

  size_t bytes() const { return (sums + state + features + layers + output) * sizeof(Vec<T>); }
};

template <class T, int L>
void ead_network_of(const Orbitals& o, const OrbitalTables<T>& tables, const EadNetwork<T>& n, const TilePoints& points,
                    const Candidates& atoms, T* out, void* scratch) {
  constexpr int W = kLanes<T>, n_comp = n_monomials(L);
  OrbitalConstants<T> constants(o);
  EadNetworkScratch<T> room(o, n, scratch);
  int64_t frame = n.one_frame ? 0 : tables.point_frame[points.row[0]];  // all points of a tile belong to one
  const T* constant = n.constant + frame * n.n_states * room.state;
  const T* vacuum = n.vacuum ? n.vacuum + frame * room.output : nullptr;
  for (int64_t start = 0; start < points.n; start += W) {
    OrbitalGroup<T> group(load_group<T>(points, start), tables, points, start);
    bool any = group_sums<T, L>(o, constants, tables, group, atoms, room.acc);
    if (!any) {
      __builtin_memset(room.acc, 0, room.sums * sizeof(Vec<T>));
    }
    if (any || !vacuum) {
      for (int64_t i = 0; i < n.n_states; ++i) {
        for (int k = 0; k < n_comp; ++k) {
          const Vec<T>* from = room.acc + k * o.n_waves + i * n.n_waves;
          const T *scale = n.scale + k * n.n_waves, *shift = constant + i * room.state + k * n.n_waves;
          for (int64_t m = 0; m < n.n_waves; ++m) {
            room.s[k * n.n_waves + m] = from[m] * set1(scale[m]) + set1(shift[m]);
          }
        }
        gram_lanes<T, L>(room.s, n.n_waves, room.g);
        network_lanes<T>(n.network, room.g, room.layer, room.value + i * n.network.n_output);
      }
    }
    if (vacuum) {
      auto near = room.acc[0] != Vec<T>{};
      for (int64_t m = 1; m < o.n_waves; ++m) {
        near |= room.acc[m] != Vec<T>{};
      }
      for (int64_t i = 0; i < room.output; ++i) {
        room.value[i] = near ? room.value[i] - set1(vacuum[i]) : Vec<T>{};
      }
    }
    for (int i = 0; i < group.n; ++i) {
      T* to = out + points.row[start + i] * room.output;
      for (int64_t k = 0; k < room.output; ++k) {
        to[k] = room.value[k][i];
      }
    }
  }
}

// Calls visit(number of points, their rows of a, of b) for groups of n points.
template <class T, class F>
DCHARGE_INLINE void for_each_group(int64_t n, const T* a, int64_t length_a, T* b, int64_t length_b, F visit) {
  constexpr int W = kLanes<T>;
  for (int64_t start = 0; start < n; start += W) {
    int count = n - start < W ? static_cast<int>(n - start) : W;
    const T* rows_a[W];
    T* rows_b[W];
    for (int i = 0; i < count; ++i) {
      rows_a[i] = a + (start + i) * length_a;
      rows_b[i] = b + (start + i) * length_b;
    }
    visit(start, count, rows_a, rows_b);
  }
}

template <class T, int L>
void gram_of(const Orbitals& o, int64_t n, const T* s, T* g, void* scratch) {
  int64_t n_sums = n_monomials(L) * o.n_waves, length = row_length<T>(o);
  auto* sums = static_cast<Vec<T>*>(scratch);
  Vec<T>* features = sums + padded(n_sums);
  for_each_group<T>(n, s, n_sums, g, length, [&](int64_t, int count, const T* const* from, T* const* to) {
    load_rows<T>(from, n_sums, count, sums);
    gram_lanes<T, L>(sums, o.n_waves, features);
    store_rows<T>(features, length, count, to);
  });
}

template <class T, int L>
void gram_backward_of(const Orbitals& o, int64_t n, const T* grad, const T* s, T* d_s, void* scratch) {
  constexpr int W = kLanes<T>;
  int64_t n_sums = n_monomials(L) * o.n_waves, length = row_length<T>(o);
  auto* sums = static_cast<Vec<T>*>(scratch);
  Vec<T>*d_sums = sums + padded(n_sums), *features = d_sums + padded(n_sums);
  for_each_group<T>(n, s, n_sums, d_s, n_sums, [&](int64_t start, int count, const T* const* from, T* const* to) {
    const T* rows[W];
    for (int i = 0; i < count; ++i) {
      rows[i] = grad + (start + i) * length;
    }
    load_rows<T>(from, n_sums, count, sums);
    load_rows<T>(rows, length, count, features);
    __builtin_memset(d_sums, 0, n_sums * sizeof(Vec<T>));
    gram_lanes_backward<T, L>(features, sums, o.n_waves, d_sums);
    store_rows<T>(d_sums, n_sums, count, to);
  });
}

}  // namespace

template <class T>
void ead(const Orbitals& o, const OrbitalTables<T>& tables, const TilePoints& points, const Candidates& atoms, T* out,
         void* scratch) {
  (o.l_max == 0 ? ead_of<T, 0> : o.l_max == 1 ? ead_of<T, 1> : ead_of<T, 2>)(o, tables, points, atoms, out, scratch);
}

template <class T>
void ead_network(const Orbitals& o, const OrbitalTables<T>& tables, const EadNetwork<T>& n, const TilePoints& points,
                 const Candidates& atoms, T* out, void* scratch) {
  (o.l_max == 0   ? ead_network_of<T, 0>
   : o.l_max == 1 ? ead_network_of<T, 1>
                  : ead_network_of<T, 2>)(o, tables, n, points, atoms, out, scratch);
}

template <class T>
size_t ead_network_scratch(const Orbitals& o, const EadNetwork<T>& n) {
  return EadNetworkScratch<T>(o, n, nullptr).bytes();
}

template <class T>
void orbital_gram(const Orbitals& o, int64_t n, const T* s, T* g, void* scratch) {
  (o.l_max == 0 ? gram_of<T, 0> : o.l_max == 1 ? gram_of<T, 1> : gram_of<T, 2>)(o, n, s, g, scratch);
}

template <class T>
void orbital_gram_backward(const Orbitals& o, int64_t n, const T* grad, const T* s, T* d_s, void* scratch) {
  (o.l_max == 0   ? gram_backward_of<T, 0>
   : o.l_max == 1 ? gram_backward_of<T, 1>
                  : gram_backward_of<T, 2>)(o, n, grad, s, d_s, scratch);
}

template void ead<float>(const Orbitals&, const OrbitalTables<float>&, const TilePoints&, const Candidates&, float*,
                         void*);
template void ead<double>(const Orbitals&, const OrbitalTables<double>&, const TilePoints&, const Candidates&, double*,
                          void*);
template void ead_network<float>(const Orbitals&, const OrbitalTables<float>&, const EadNetwork<float>&,
                                 const TilePoints&, const Candidates&, float*, void*);
template void ead_network<double>(const Orbitals&, const OrbitalTables<double>&, const EadNetwork<double>&,
                                  const TilePoints&, const Candidates&, double*, void*);
template size_t ead_network_scratch<float>(const Orbitals&, const EadNetwork<float>&);
template size_t ead_network_scratch<double>(const Orbitals&, const EadNetwork<double>&);
template void orbital_gram<float>(const Orbitals&, int64_t, const float*, float*, void*);
template void orbital_gram<double>(const Orbitals&, int64_t, const double*, double*, void*);
template void orbital_gram_backward<float>(const Orbitals&, int64_t, const float*, const float*, float*, void*);
template void orbital_gram_backward<double>(const Orbitals&, int64_t, const double*, const double*, double*, void*);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
