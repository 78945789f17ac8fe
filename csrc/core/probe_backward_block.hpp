// Adjoint of the probe messages for a block of points: states, filters, positions of points and atoms.
//
// A thread adds what a pair gives to states and filters of its feature to the result; what a pair gives to the
// positions is summed over warps, then in shared memory, then added to the result.
#pragma once

#include "core/probe_block.hpp"

namespace dcharge {

template <class T>
struct AdjointPair : SumPair<T> {
  T slope[4];
  double per_r, d[4];  // 1/r; sums of dL/dr and of dL/du over features
  DCHARGE_HD void set(const ProbeGeometry& g) {
    SumPair<T>::set(g);
    double slope[4];
    cubic_slopes(g.s, slope);
    for (int k = 0; k < 4; ++k) {
      this->slope[k] = static_cast<T>(slope[k]);
      d[k] = 0;
    }
    per_r = g.per_r;
  }
};

template <class T, int Registers>
struct ProbeMessagesBackwardBlock {
  static constexpr int threads = kThreads, registers = Registers, n_listed = 128;
  using Arguments = ProbeArguments<T>;
  using Shared = ProbeShared<AdjointPair<T>, n_listed>;
  using Thread = PointThread<double>;

  static int64_t n_items(const Arguments& a) { return n_probe_items(a.probe, a.points.bins.geometry.n_points); }

  DCHARGE_INLINE void add_parameters(const Arguments& a, const AdjointPair<T>& pair, const T* w, const T* g, T along,
                                     T vector, int64_t at_state, int64_t at_table) {
    int64_t n_f = a.probe.n_features, next = a.probe.n_knots * n_f;
    double* to = a.d_states + at_state;
    atomic_add(to, static_cast<double>(w[0] * g[0]));
    atomic_add(to + n_f, static_cast<double>(w[2] * along));
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      atomic_add(to + (2 + x) * n_f, static_cast<double>(w[1] * g[1 + x]));
    }
    T d[kFilters] = {a.states[at_state] * g[0], vector, a.states[at_state + n_f] * along};
#pragma unroll
    for (int q = 0; q < kFilters; ++q) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        atomic_add(a.d_table + at_table + q * next + k * n_f, static_cast<double>(pair.weight[k] * d[q]));
      }
    }
  }

  // All threads of a warp take part: those without a feature (f < 0) add zeros.
  template <class Block>
  DCHARGE_INLINE void add(const Arguments& a, Shared& shared, const ProbeItem& item, int i, int64_t f, int e) {
    const Probe& p = a.probe;
    AdjointPair<T>& pair = shared.pair[e];
    int64_t n_f = p.n_features, next = p.n_knots * n_f;
    T part[4] = {0, 0, 0, 0};
    if (f >= 0) {
      int64_t at_state = (pair.atom * p.n_layers + item.layer) * kStates * n_f + f;
      int64_t at_table = item.layer * kFilters * next + pair.knot * n_f + f;
      const T* state = a.states + at_state;
      const T* grad = a.grad + (shared.row[pair.point] * p.n_layers + item.layer) * kComponents * n_f + f;
      T w[kFilters], g[kComponents], along = 0, vector = 0;
      filters_at(a.table + at_table, n_f, next, pair.weight, w);
#pragma unroll
      for (int k = 0; k < kComponents; ++k) {
        g[k] = grad[k * n_f];
      }
#pragma unroll
      for (int x = 0; x < 3; ++x) {
        along += pair.u[x] * g[1 + x];
        vector += state[(2 + x) * n_f] * g[1 + x];
      }
      if (a.parameters) {
        add_parameters(a, pair, w, g, along, vector, at_state, at_table);
      }
      if (a.positions) {
        T wQ = w[2] * state[n_f];
        filters_at(a.table + at_table, n_f, next, pair.slope, w);
        part[0] = w[0] * state[0] * g[0] + w[1] * vector + w[2] * state[n_f] * along;
#pragma unroll
        for (int x = 0; x < 3; ++x) {
          part[1 + x] = wQ * g[1 + x];
        }
      }
    }
    if (a.positions) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        T sum = Block::warp_sum(part[k]);
        if (Block::leads(i)) {
          atomic_add(&pair.d[k], static_cast<double>(sum));
        }
      }
    }
  }

  // Gradient with respect to d = r u: u dr + (1 - u u) b / r.
  DCHARGE_INLINE void add_positions(const Arguments& a, const Shared& shared, int e) {
    const AdjointPair<T>& pair = shared.pair[e];
    double along = 0;
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      along += static_cast<double>(pair.u[x]) * pair.d[1 + x];
    }
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      auto u = static_cast<double>(pair.u[x]);
      double part = u * pair.d[0] * a.probe.per_knot + (pair.d[1 + x] - along * u) * pair.per_r;
      atomic_add(a.d_points + 3 * shared.row[pair.point] + x, part);
      atomic_add(a.d_atoms + 3 * pair.atom + x, -part);
    }
  }

  template <class Block>
  DCHARGE_INLINE void run(Block& block, const Arguments& a, int64_t index) {
    ProbeItem item = make_probe_item(a.probe, index);
    for_each_frame<double>(block, a.points, item.block, [&] {
      for_each_window<double>(block, a.points.bins, 0, [&](int n) {
        for_each_pair_window<n_listed>(block, a.probe, n, [&](int listed) {
          block.each([&](int i, Thread&) {
            int64_t f = item.feature + i < a.probe.n_features ? item.feature + i : -1;
#pragma unroll 1
            for (int e = 0; e < listed; ++e) {
              add<Block>(a, block.shared, item, i, f, e);
            }
          });
          if (a.positions) {
            block.each([&](int i, Thread&) {
              if (i < listed) {
                add_positions(a, block.shared, i);
              }
            });
          }
        });
      });
    });
  }
};

}  // namespace dcharge
