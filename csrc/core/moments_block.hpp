// Radial moments of a block of points: search, switch and sums in one pass, nothing per pair is stored.
//
// A thread keeps B Chebyshev functions of all components of its point in registers; more functions than that are
// further items of work, which walk the atoms again and bring the recurrence to their first function.
#pragma once

#include "core/pair.hpp"
#include "core/point_block.hpp"

namespace dcharge {

template <class T>
struct MomentsArguments {
  Points points;
  Radial radial;
  PairConstants<T> constants;
  T* out;  // [n_points, n_types, (l_max + 1)^2, n_radial]
};

// Registers: the budget of the kernel, which the build enforces and cuda/check_registers.py checks.
template <class T, int L, int B, int Registers>
struct MomentsBlock {
  static constexpr int threads = kThreads, registers = Registers, n_comp = n_components(L), functions = B;
  using Arguments = MomentsArguments<T>;

  struct Shared : PointShared<T> {
    T row_of[kThreads][B + 1];  // one component of all points, on its way to memory
  };

  struct Thread : PointThread<T> {
    T sum[n_comp][B];
  };

  static int64_t n_items(const Arguments& a) {
    return n_point_blocks(a.points.bins.geometry.n_points) * ((a.radial.n_radial + B - 1) / B);
  }

  // Adds one pair to functions b0..b0+B-1. Near a nucleus T_b(x) changes as fast as b^2, and the recurrence runs on
  // differences (Reinsch's form), which keeps float32 accurate.
  template <class Block>
  DCHARGE_INLINE void add(const PairConstants<T>& c, const Candidate<T>& atom, int b0, Thread& thread) {
    T dx = atom.x - thread.x, dy = atom.y - thread.y, dz = atom.z - thread.z;
    T r2 = dx * dx + dy * dy + dz * dz;
    if (!Block::any(r2 < c.rcut2)) {
      return;
    }
    Pair<T> pair = make_pair(c, dx, dy, dz, r2);
    T R[n_comp], s = pair.weight * pair.inverse;
    angular<T, L>(pair, R);
#pragma unroll
    for (int k = 0; k < n_comp; ++k) {
      R[k] *= s;
    }
    if (Block::any(r2 < c.near2)) {
      T h = twice_gap(c, pair), t = 1, d = T(-0.5) * h;  // T_b, T_{b+1} - T_b
#pragma unroll 1
      for (int b = 0; b < b0; ++b) {
        t += d;
        d -= h * t;
      }
#pragma unroll
      for (int b = 0; b < B; ++b) {
#pragma unroll
        for (int k = 0; k < n_comp; ++k) {
          thread.sum[k][b] += R[k] * t;
        }
        t += d;
        d -= h * t;
      }
    } else {
      T h = twice_x(c, pair), t = 1, next = T(0.5) * h;
#pragma unroll 1
      for (int b = 0; b < b0; ++b) {
        T after = h * next - t;
        t = next;
        next = after;
      }
#pragma unroll
      for (int b = 0; b < B; ++b) {
#pragma unroll
        for (int k = 0; k < n_comp; ++k) {
          thread.sum[k][b] += R[k] * t;
        }
        T after = h * next - t;
        t = next;
        next = after;
      }
    }
  }

  // Stores the sums of the points in the frame at hand, or adds them to what an earlier window left.
  template <class Block>
  DCHARGE_INLINE void emit(Block& block, const Arguments& a, int64_t type, int b0, bool fresh) {
    auto& shared = block.shared;
    int width = static_cast<int>(a.radial.n_radial) - b0;
#pragma unroll
    for (int k = 0; k < n_comp; ++k) {
      block.each([&](int i, Thread& thread) {
#pragma unroll
        for (int b = 0; b < B; ++b) {
          shared.row_of[i][b] = thread.sum[k][b];
        }
      });
      block.each([&](int i, Thread&) {
#pragma unroll 1
        for (int at = i; at < kThreads * B; at += kThreads) {
          int p = at / B, b = at % B;
          if (p >= shared.begin && p < shared.end && b < width) {
            int64_t row = (shared.row[p] * a.radial.n_types + type) * n_comp + k;
            T& to = a.out[row * a.radial.n_radial + b0 + b];
            to = fresh ? shared.row_of[p][b] : to + shared.row_of[p][b];
          }
        }
      });
    }
  }

  // Sums live from the end of a search to their way to memory only, so that registers serve either in turn.
  template <class Block>
  DCHARGE_INLINE void run(Block& block, const Arguments& a, int64_t item) {
    auto& shared = block.shared;
    int64_t n_passes = (a.radial.n_radial + B - 1) / B;
    int b0 = static_cast<int>(item % n_passes) * B;
    for_each_frame<T>(block, a.points, item / n_passes, [&] {
      for (int type = 0; type < a.radial.n_types; ++type) {
        bool fresh = true;
        for_each_window<T>(block, a.points.bins, type, [&](int n) {
          block.each([&](int, Thread& thread) {
#pragma unroll
            for (int k = 0; k < n_comp; ++k) {
#pragma unroll
              for (int b = 0; b < B; ++b) {
                thread.sum[k][b] = 0;
              }
            }
#pragma unroll 1
            for (int c = 0; c < n; ++c) {
              add<Block>(a.constants, shared.candidate[c], b0, thread);
            }
          });
          emit(block, a, type, b0, fresh);
          fresh = false;
        });
      }
    });
  }
};

}  // namespace dcharge
