// Probe messages of a block of points and their adjoint (docs/architecture.md, "Probe messages").
//
// Threads stand for points while pairs are found and listed in shared memory, then for features while they are summed:
// rows of filters and states are read by consecutive threads. A block answers kThreads features of one layer; the
// search is repeated for the others, which costs little beside the sums.
#pragma once

#include "core/point_block.hpp"
#include "core/probe.hpp"

namespace dcharge {

template <class T>
struct ProbeArguments {
  Points points;
  Probe probe;
  const T* states;  // [n_atoms, n_layers, 5, n_features]
  const T* table;   // [n_layers, 3, n_knots, n_features]
  T* out;           // [n_points, n_layers, 4, n_features], added to
  // adjoint only
  const T* grad;               // like out
  bool positions, parameters;  // which of the gradients are wanted
  double *d_points, *d_atoms;  // [n_points, 3], [n_atoms, 3]: added to
  double *d_states, *d_table;  // like states and table, added to
};

template <class T>
struct ListedPair {
  T weight[4], u[3];
  int32_t knot, point;  // first knot; point in the block
  int64_t atom;
};

// Pair: what is listed of a pair, N: pairs that are listed at once.
template <class Pair, int N>
struct ProbeShared : PointShared<double> {
  int n_pairs[kThreads], first_pair[kThreads], total_pairs;
  Pair pair[N];
};

// What item `index` is about.
struct ProbeItem {
  int64_t block, layer, feature;  // of the first thread
};

DCHARGE_INLINE int64_t n_probe_items(const Probe& p, int64_t n_points) {
  return n_point_blocks(n_points) * p.n_layers * ((p.n_features + kThreads - 1) / kThreads);
}

DCHARGE_INLINE ProbeItem make_probe_item(const Probe& p, int64_t index) {
  int64_t n_parts = (p.n_features + kThreads - 1) / kThreads, slice = index % (n_parts * p.n_layers);
  return {index / (n_parts * p.n_layers), slice / n_parts, slice % n_parts * kThreads};
}

template <class Shared>
DCHARGE_INLINE double squared_distance(const Shared& shared, const PointThread<double>& thread, int c, double* d) {
  Candidate<double> atom = shared.candidate[c];
  d[0] = thread.x - atom.x;
  d[1] = thread.y - atom.y;
  d[2] = thread.z - atom.z;
  return d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
}

// For all pairs of the block's points and the n candidates, at most N at a time in shared.pair, in the order of the
// points: visit(number of them).
template <int N, class Block, class F>
DCHARGE_INLINE void for_each_pair_window(Block& block, const Probe& p, int n, F visit) {
  auto& shared = block.shared;
  double rcut2 = p.rcut * p.rcut;
  block.each([&](int i, auto& thread) {
    int count = 0;
#pragma unroll 1
    for (int c = 0; c < n; ++c) {
      double d[3];
      count += squared_distance(shared, thread, c, d) < rcut2;
    }
    shared.n_pairs[i] = count;
  });
  block.each([&](int i, auto&) {
    int offset = 0;
#pragma unroll 4
    for (int other = 0; other < i; ++other) {
      offset += shared.n_pairs[other];
    }
    shared.first_pair[i] = offset;
    if (i == kThreads - 1) {
      shared.total_pairs = offset + shared.n_pairs[i];
    }
  });
  for (int done = 0; done < shared.total_pairs; done += N) {
    int listed = shared.total_pairs - done < N ? shared.total_pairs - done : N;
    block.each([&](int i, auto& thread) {
      int to = shared.first_pair[i] - done;
      if (shared.n_pairs[i] == 0 || to >= listed || to + shared.n_pairs[i] <= 0) {
        return;
      }
#pragma unroll 1
      for (int c = 0; c < n; ++c) {
        double d[3], r2 = squared_distance(shared, thread, c, d);
        if (r2 < rcut2) {
          if (to >= 0 && to < listed) {
            auto& pair = shared.pair[to];
            pair.point = i;
            pair.atom = shared.source[c];
            pair.set(probe_geometry(p, d[0], d[1], d[2], r2));
          }
          ++to;
        }
      }
    });
    visit(listed);
    block.each([](int, auto&) {});  // all have read the pairs
  }
}

template <class T>
struct SumPair : ListedPair<T> {
  DCHARGE_HD void set(const ProbeGeometry& g) {
    double weight[4];
    cubic_weights(g.s, weight);
    for (int k = 0; k < 4; ++k) {
      this->weight[k] = static_cast<T>(weight[k]);
    }
    for (int x = 0; x < 3; ++x) {
      this->u[x] = static_cast<T>(g.u[x]);
    }
    this->knot = g.knot;
  }
};

// Three filters of one feature at a pair; row: of the first knot of filter 0, knots and filters `step` and `next`
// apart.
template <class T>
DCHARGE_INLINE void filters_at(const T* row, int64_t step, int64_t next, const T* weight, T* w) {
#pragma unroll
  for (int q = 0; q < kFilters; ++q) {
    T sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      sum += weight[k] * row[q * next + k * step];
    }
    w[q] = sum;
  }
}

template <class T, int Registers>
struct ProbeMessagesBlock {
  static constexpr int threads = kThreads, registers = Registers, n_listed = 256;
  using Arguments = ProbeArguments<T>;
  using Shared = ProbeShared<SumPair<T>, n_listed>;
  using Thread = PointThread<double>;

  static int64_t n_items(const Arguments& a) { return n_probe_items(a.probe, a.points.bins.geometry.n_points); }

  // Adds the pairs of one point after the other to the result, which no other thread writes.
  DCHARGE_INLINE void sum_pairs(const Arguments& a, const Shared& shared, const ProbeItem& item, int64_t f, int n) {
    const Probe& p = a.probe;
    int64_t n_f = p.n_features, next = p.n_knots * n_f;
    const T* table = a.table + item.layer * kFilters * next + f;
    int e = 0;
#pragma unroll 1
    while (e < n) {
      int point = shared.pair[e].point;
      T sum[kComponents] = {0, 0, 0, 0};
#pragma unroll 2
      for (; e < n && shared.pair[e].point == point; ++e) {
        const auto& pair = shared.pair[e];
        const T* state = a.states + (pair.atom * p.n_layers + item.layer) * kStates * n_f + f;
        T w[kFilters];
        filters_at(table + pair.knot * n_f, n_f, next, pair.weight, w);
        T along = w[2] * state[n_f];
        sum[0] += w[0] * state[0];
#pragma unroll
        for (int x = 0; x < 3; ++x) {
          sum[1 + x] += w[1] * state[(2 + x) * n_f] + along * pair.u[x];
        }
      }
      T* to = a.out + (shared.row[point] * p.n_layers + item.layer) * kComponents * n_f + f;
#pragma unroll
      for (int k = 0; k < kComponents; ++k) {
        to[k * n_f] += sum[k];
      }
    }
  }

  template <class Block>
  DCHARGE_INLINE void run(Block& block, const Arguments& a, int64_t index) {
    ProbeItem item = make_probe_item(a.probe, index);
    for_each_frame<double>(block, a.points, item.block, [&] {
      for_each_window<double>(block, a.points.bins, 0, [&](int n) {
        for_each_pair_window<n_listed>(block, a.probe, n, [&](int listed) {
          block.each([&](int i, Thread&) {
            if (item.feature + i < a.probe.n_features) {
              sum_pairs(a, block.shared, item, item.feature + i, listed);
            }
          });
        });
      });
    });
  }
};

}  // namespace dcharge
