// Adjoint of the radial moments with respect to the positions of points and atoms, for a block of points.
//
// The gradient is linear in grad: it is taken for B Chebyshev functions at a time, which a thread holds in registers.
// What the points of a block give to one atom is summed over warps, then in shared memory, then added to the result.
#pragma once

#include "core/pair.hpp"
#include "core/point_block.hpp"

namespace dcharge {

template <class T>
struct MomentsBackwardArguments {
  Points points;
  Radial radial;
  PairConstants<T> constants;
  const T* grad;     // [n_points, n_types, (l_max + 1)^2, n_radial]
  double* d_points;  // [n_points, 3], written
  double* d_atoms;   // [n_atoms, 3], added to
};

template <class T, int L, int B, int Registers>
struct MomentsBackwardBlock {
  static constexpr int threads = kThreads, registers = Registers, n_comp = n_components(L);
  using Arguments = MomentsBackwardArguments<T>;

  struct Shared : PointShared<T> {
    T row_of[kThreads][B + 1];  // one component of all points, on its way from memory
    double force[kCandidates][3];
  };

  struct Thread : PointThread<T> {
    T grad[n_comp][B];
    T d[3];
  };

  static int64_t n_items(const Arguments& a) { return n_point_blocks(a.points.bins.geometry.n_points); }

  // q[k] = sum_b grad[k][b] T_b(x), dq = dq/dx = sum_b b grad[k][b] U_{b-1}(x) for functions b0..b0+B-1.
  DCHARGE_INLINE void contract(T h, int b0, const Thread& thread, T* q, T* dq) {
    T t0 = 1, t1 = T(0.5) * h, u0 = 0, u1 = 1;  // T_b, T_{b+1}, U_{b-1}, U_b
#pragma unroll 1
    for (int b = 0; b < b0; ++b) {
      T t2 = h * t1 - t0, u2 = h * u1 - u0;
      t0 = t1;
      t1 = t2;
      u0 = u1;
      u1 = u2;
    }
#pragma unroll
    for (int k = 0; k < n_comp; ++k) {
      q[k] = dq[k] = 0;
    }
#pragma unroll
    for (int b = 0; b < B; ++b) {
      T slope = static_cast<T>(b0 + b) * u0;
#pragma unroll
      for (int k = 0; k < n_comp; ++k) {
        q[k] += thread.grad[k][b] * t0;
        dq[k] += thread.grad[k][b] * slope;
      }
      T t2 = h * t1 - t0, u2 = h * u1 - u0;
      t0 = t1;
      t1 = t2;
      u0 = u1;
      u1 = u2;
    }
  }

  template <class Block>
  DCHARGE_INLINE void add(Block& block, const Arguments& a, int i, int c, int b0, Thread& thread) {
    Candidate<T> atom = block.shared.candidate[c];
    T dx = atom.x - thread.x, dy = atom.y - thread.y, dz = atom.z - thread.z;
    T r2 = dx * dx + dy * dy + dz * dz;
    if (!Block::any(r2 < a.constants.rcut2)) {
      return;
    }
    Pair<T> pair = make_pair(a.constants, dx, dy, dz, r2);
    T q[n_comp], dq[n_comp], gradient[3];
    contract(twice_x(a.constants, pair), b0, thread, q, dq);
    pair_gradient<T, L>(a.constants, pair, q, dq, gradient);
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      T part = r2 < a.constants.rcut2 ? gradient[x] : T(0);  // threads without a point are far away
      thread.d[x] -= part;
      T sum = Block::warp_sum(part);
      if (Block::leads(i)) {
        atomic_add(&block.shared.force[c][x], static_cast<double>(sum));
      }
    }
  }

  template <class Block>
  DCHARGE_INLINE void load(Block& block, const Arguments& a, int64_t type, int b0) {
    auto& shared = block.shared;
    int width = static_cast<int>(a.radial.n_radial) - b0;
#pragma unroll
    for (int k = 0; k < n_comp; ++k) {
      block.each([&](int i, Thread&) {
#pragma unroll 2
        for (int at = i; at < kThreads * B; at += kThreads) {
          int p = at / B, b = at % B;
          T value = 0;
          if (p >= shared.begin && p < shared.end && b < width) {
            int64_t row = (shared.row[p] * a.radial.n_types + type) * n_comp + k;
            value = a.grad[row * a.radial.n_radial + b0 + b];
          }
          shared.row_of[p][b] = value;
        }
      });
      block.each([&](int i, Thread& thread) {
#pragma unroll
        for (int b = 0; b < B; ++b) {
          thread.grad[k][b] = shared.row_of[i][b];
        }
      });
    }
  }

  template <class Block>
  DCHARGE_INLINE void run(Block& block, const Arguments& a, int64_t item) {
    auto& shared = block.shared;
    for_each_frame<T>(block, a.points, item, [&] {
      block.each([&](int, Thread& thread) { thread.d[0] = thread.d[1] = thread.d[2] = 0; });
      for (int type = 0; type < a.radial.n_types; ++type) {
        for (int b0 = 0; b0 < a.radial.n_radial; b0 += B) {
          for_each_window<T>(block, a.points.bins, type, [&](int n) {
            load(block, a, type, b0);
            block.each([&](int i, Thread&) {
              for (int c = i; c < 3 * n; c += kThreads) {
                shared.force[c / 3][c % 3] = 0;
              }
            });
            block.each([&](int i, Thread& thread) {
#pragma unroll 1
              for (int c = 0; c < n; ++c) {
                add(block, a, i, c, b0, thread);
              }
            });
            block.each([&](int i, Thread&) {
              for (int c = i; c < 3 * n; c += kThreads) {
                atomic_add(a.d_atoms + 3 * shared.source[c / 3] + c % 3, shared.force[c / 3][c % 3]);
              }
            });
          });
        }
      }
      block.each([&](int i, Thread& thread) {
        if (i >= shared.begin && i < shared.end) {
          for (int x = 0; x < 3; ++x) {
            a.d_points[3 * shared.row[i] + x] = static_cast<double>(thread.d[x]);
          }
        }
      });
    });
  }
};

}  // namespace dcharge
