// Adjoint of the orbital sums for a block of points: positions of points and atoms, coefficients, centers, exponents.
//
// What the points of a block give to one atom or type is summed over warps, then in shared memory, then added to the
// result.
#pragma once

#include "core/orbitals_block.hpp"

namespace dcharge {

template <class T, int L, int B, int Registers>
struct OrbitalSumsBackwardBlock : OrbitalParts<T, L, B> {
  static constexpr int threads = kThreads, registers = Registers, n_comp = n_monomials(L);
  using Parts = OrbitalParts<T, L, B>;
  using Arguments = OrbitalArguments<T>;

  struct Shared : OrbitalShared<T, B> {
    T d_c[kCandidates][B], force[kCandidates][3];
    T d_type[2][B];  // sums of c u d and c u d^2, see add()
  };

  struct Thread : PointThread<T> {
    T grad[n_comp][B], type[2][B], d[3];
  };

  static int64_t n_items(const Arguments& a) { return n_point_blocks(a.points.bins.geometry.n_points); }

  template <class Block>
  DCHARGE_INLINE void add_sum(T* to, int i, T part) {
    T sum = Block::warp_sum(part);
    if (Block::leads(i)) {
      atomic_add(to, sum);
    }
  }

  // e = exp(alpha d^2), d = r~ - r_s, q = sum_k grad[k] A_k, u = q e f_c for every wave.
  template <class Block>
  DCHARGE_INLINE void add(Block& block, const Arguments& a, int i, int c, Thread& thread) {
    auto& shared = block.shared;
    Candidate<T> atom = shared.candidate[c];
    T dx = atom.x - thread.x, dy = atom.y - thread.y, dz = atom.z - thread.z;
    T r2 = dx * dx + dy * dy + dz * dz;
    if (!Block::any(r2 < a.rcut2)) {
      return;
    }
    OrbitalPair<T> p = Parts::pair(a, shared, i, c, dx, dy, dz, r2);
    T A[n_comp], h[n_comp], value = 0, slope = 0;
    Parts::monomials(a, p, A);
#pragma unroll
    for (int k = 0; k < n_comp; ++k) {
      h[k] = 0;
    }
#pragma unroll
    for (int b = 0; b < B; ++b) {
      T q = 0;
#pragma unroll
      for (int k = 0; k < n_comp; ++k) {
        q += thread.grad[k][b] * A[k];
      }
      T d = p.r - shared.center[b], t = shared.exponent[b] * d, e = power_of_two(t * d);
      T u = q * e * p.cutoff, ce = shared.c[c][b] * e, cu = shared.c[c][b] * u;
      if (a.parameters) {
        add_sum<Block>(&shared.d_c[c][b], i, u);
        thread.type[0][b] += cu * d;
        thread.type[1][b] += cu * d * d;
      }
      if (a.positions) {
        value += ce * q;
        slope += t * cu;
#pragma unroll
        for (int k = 0; k < n_comp; ++k) {
          h[k] += ce * thread.grad[k][b];
        }
      }
    }
    if (a.positions) {
      T scale = a.orbitals.unit ? p.inverse : T(1), vx = dx * scale, vy = dy * scale, vz = dz * scale, g[3];
      cartesian_monomials_gradient<L, T>(vx, vy, vz, h, g[0], g[1], g[2]);
      T along = a.orbitals.unit ? g[0] * vx + g[1] * vy + g[2] * vz : T(0);  // v = vec/r~
      T cutoff_slope = T(-8) * a.per_rcut2 * (p.root * p.root * p.root) * cutoff_root_slope<T>(p.u);
      T radial = cutoff_slope * value + T(1.3862943611198906188) * slope * p.inverse;  // 2 ln 2: powers of two
      bool inside = r2 < a.rcut2;  // threads without a point are far away
#pragma unroll
      for (int x = 0; x < 3; ++x) {
        T v = x == 0 ? vx : x == 1 ? vy : vz, vec = x == 0 ? dx : x == 1 ? dy : dz;
        T part = inside ? p.cutoff * scale * (g[x] - along * v) + radial * vec : T(0);
        thread.d[x] -= part;
        add_sum<Block>(&shared.force[c][x], i, part);
      }
    }
  }

  template <class Block>
  DCHARGE_INLINE void load_grad(Block& block, const Arguments& a, int64_t m0) {
    auto& shared = block.shared;
    int64_t n_waves = a.orbitals.n_waves;
#pragma unroll
    for (int k = 0; k < n_comp; ++k) {
      block.each([&](int i, Thread&) {
#pragma unroll 2
        for (int at = i; at < kThreads * B; at += kThreads) {
          int p = at / B, b = at % B;
          bool inside = p >= shared.begin && p < shared.end && m0 + b < n_waves;
          shared.row_of[p][b] = inside ? a.grad[(shared.row[p] * n_comp + k) * n_waves + m0 + b] : T(0);
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

  // Adds what a window left in shared memory to the results.
  template <class Block>
  DCHARGE_INLINE void emit(Block& block, const Arguments& a, int64_t type, int64_t m0, int n) {
    auto& shared = block.shared;
    block.each([&](int i, Thread& thread) {
#pragma unroll
      for (int b = 0; b < B; ++b) {
        add_sum<Block>(&shared.d_type[0][b], i, thread.type[0][b]);
        add_sum<Block>(&shared.d_type[1][b], i, thread.type[1][b]);
      }
    });
    block.each([&](int i, Thread&) {
      int64_t n_waves = a.orbitals.n_waves;
      if (a.parameters) {
        if (i < B && m0 + i < n_waves) {
          int64_t at = type * n_waves + m0 + i;
          atomic_add(a.d_center + at, -2.0 * static_cast<double>(a.exponent[at]) * shared.d_type[0][i]);
          atomic_add(a.d_exponent + at, static_cast<double>(shared.d_type[1][i]));
        }
#pragma unroll 1
        for (int at = i; at < n * B; at += kThreads) {
          int c = at / B, b = at % B;
          if (m0 + b < n_waves) {
            atomic_add(a.d_coefficients + shared.source[c] * n_waves + m0 + b, static_cast<double>(shared.d_c[c][b]));
          }
        }
      }
      if (a.positions) {
#pragma unroll 1
        for (int at = i; at < 3 * n; at += kThreads) {
          atomic_add(a.d_atoms + 3 * shared.source[at / 3] + at % 3, static_cast<double>(shared.force[at / 3][at % 3]));
        }
      }
    });
  }

  template <class Block>
  DCHARGE_INLINE void run(Block& block, const Arguments& a, int64_t item) {
    auto& shared = block.shared;
    for_each_frame<T>(block, a.points, item, [&] {
      block.each([&](int, Thread& thread) { thread.d[0] = thread.d[1] = thread.d[2] = 0; });
      for (int64_t type = 0; type < a.orbitals.n_types; ++type) {
        for (int64_t m0 = 0; m0 < a.orbitals.n_waves; m0 += B) {
          for_each_window<T>(block, a.points.bins, type, [&](int n) {
            if (n == 0) {
              return;
            }
            load_grad(block, a, m0);
            Parts::load_tables(block, a, type, m0, n);
            block.each([&](int i, Thread& thread) {
#pragma unroll 1
              for (int at = i; at < n * B; at += kThreads) {
                shared.d_c[at / B][at % B] = 0;
              }
#pragma unroll 1
              for (int at = i; at < n * 3; at += kThreads) {
                shared.force[at / 3][at % 3] = 0;
              }
#pragma unroll
              for (int b = 0; b < B; ++b) {
                thread.type[0][b] = thread.type[1][b] = 0;
              }
              if (i < 2 * B) {
                shared.d_type[i / B][i % B] = 0;
              }
            });
            block.each([&](int i, Thread& thread) {
#pragma unroll 1
              for (int c = 0; c < n; ++c) {
                add(block, a, i, c, thread);
              }
            });
            emit(block, a, type, m0, n);
          });
        }
      }
      block.each([&](int i, Thread& thread) {
        if (a.positions && i >= shared.begin && i < shared.end) {
          for (int x = 0; x < 3; ++x) {
            a.d_points[3 * shared.row[i] + x] = static_cast<double>(thread.d[x]);
          }
        }
      });
    });
  }
};

}  // namespace dcharge
