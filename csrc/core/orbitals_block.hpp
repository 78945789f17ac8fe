// Orbital sums of a block of points and their adjoint: search, exponentials and sums in one pass, nothing per pair is
// stored (docs/architecture.md, "Orbital sums").
//
// A thread keeps B waves of all components of its point in registers; more waves than that are further passes, which
// walk the atoms again.
#pragma once

#include "core/orbitals.hpp"
#include "core/pair.hpp"
#include "core/point_block.hpp"

namespace dcharge {

template <class T>
struct OrbitalArguments {
  Points points;
  Orbitals orbitals;
  T rcut2, per_rcut2, soft2;
  const T* coefficients;       // [n_atoms, n_waves]
  const T *center, *exponent;  // [n_types, n_waves]
  const int64_t* point_atom;   // [n_points] or null
  T* out;                      // [n_points, n_comp, n_waves]
  // adjoint only
  const T* grad;                                   // like out
  bool positions, parameters;                      // which of the gradients are wanted
  double *d_points, *d_atoms;                      // [n_points, 3] written; [n_atoms, 3] added to
  double *d_coefficients, *d_center, *d_exponent;  // [n_atoms, n_waves], [n_types, n_waves] twice: added to
};

DCHARGE_INLINE float power_of_two(float x) { return exp2f(x); }
DCHARGE_INLINE double power_of_two(double x) { return exp2(x); }

// What both blocks need of the tables: B waves of one type and of the atoms listed.
template <class T, int B>
struct OrbitalShared : PointShared<T> {
  T row_of[kThreads][B + 1];  // one component of all points, on its way to or from memory
  T center[B], exponent[B];   // the latter in powers of two
  T c[kCandidates][B];
};

// One point and one atom.
template <class T>
struct OrbitalPair {
  T dx, dy, dz, inverse, r;  // vec, 1/r~, r~
  T u, root, cutoff;         // r^2/rcut^2 up to 1, f_c^(1/4), f_c
};

template <class T, int L, int B>
struct OrbitalParts {
  static constexpr int n_comp = n_monomials(L);

  template <class Shared>
  DCHARGE_INLINE OrbitalPair<T> pair(const OrbitalArguments<T>& a, const Shared& shared, int i, int c, T dx, T dy, T dz,
                                     T r2) {
    OrbitalPair<T> p;
    p.dx = dx;
    p.dy = dy;
    p.dz = dz;
    T soft2 = r2 + a.soft2;
    p.inverse = inverse_sqrt(soft2 > T(1e-30) ? soft2 : T(1e-30));
    p.r = soft2 * p.inverse;
    T u = r2 * a.per_rcut2;
    p.u = u < T(1) ? u : T(1);
    p.root = cutoff_root<T>(p.u);
    if (r2 < T(kSelfDistance2) && a.point_atom && a.point_atom[shared.row[i]] == shared.source[c]) {
      p.root = 0;
    }
    p.cutoff = p.root * p.root * (p.root * p.root);
    return p;
  }

  DCHARGE_INLINE void monomials(const OrbitalArguments<T>& a, const OrbitalPair<T>& p, T* A) {
    T scale = a.orbitals.unit ? p.inverse : T(1);
    cartesian_monomials<L, T>(p.dx * scale, p.dy * scale, p.dz * scale, A);
  }

  // Waves m0..m0+B-1 of the n atoms listed and of their type; waves beyond the last have c = 0.
  template <class Block>
  DCHARGE_INLINE void load_tables(Block& block, const OrbitalArguments<T>& a, int64_t type, int64_t m0, int n) {
    auto& shared = block.shared;
    block.each([&](int i, auto&) {
      int64_t n_waves = a.orbitals.n_waves;
      if (i < B) {
        bool inside = m0 + i < n_waves;
        shared.center[i] = inside ? a.center[type * n_waves + m0 + i] : T(0);
        shared.exponent[i] = inside ? a.exponent[type * n_waves + m0 + i] * T(1.4426950408889634074) : T(0);
      }
#pragma unroll 1
      for (int at = i; at < n * B; at += kThreads) {
        int c = at / B, b = at % B;
        shared.c[c][b] = m0 + b < n_waves ? a.coefficients[shared.source[c] * n_waves + m0 + b] : T(0);
      }
    });
  }
};

// Registers: the budget of the kernel, which the build enforces and cuda/check_registers.py checks.
template <class T, int L, int B, int Registers>
struct OrbitalSumsBlock : OrbitalParts<T, L, B> {
  static constexpr int threads = kThreads, registers = Registers, n_comp = n_monomials(L), waves = B;
  using Parts = OrbitalParts<T, L, B>;
  using Arguments = OrbitalArguments<T>;
  using Shared = OrbitalShared<T, B>;

  struct Thread : PointThread<T> {
    T sum[n_comp][B];
  };

  static int64_t n_items(const Arguments& a) {
    return n_point_blocks(a.points.bins.geometry.n_points) * ((a.orbitals.n_waves + B - 1) / B);
  }

  template <class Block>
  DCHARGE_INLINE void add(const Arguments& a, const Shared& shared, int i, int c, Thread& thread) {
    Candidate<T> atom = shared.candidate[c];
    T dx = atom.x - thread.x, dy = atom.y - thread.y, dz = atom.z - thread.z;
    T r2 = dx * dx + dy * dy + dz * dz;
    if (!Block::any(r2 < a.rcut2)) {
      return;
    }
    OrbitalPair<T> p = Parts::pair(a, shared, i, c, dx, dy, dz, r2);
    T A[n_comp];
    Parts::monomials(a, p, A);
#pragma unroll
    for (int k = 0; k < n_comp; ++k) {
      A[k] *= p.cutoff;
    }
#pragma unroll
    for (int b = 0; b < B; ++b) {
      T d = p.r - shared.center[b], weight = shared.c[c][b] * power_of_two(shared.exponent[b] * d * d);
#pragma unroll
      for (int k = 0; k < n_comp; ++k) {
        thread.sum[k][b] += A[k] * weight;
      }
    }
  }

  // Stores the sums of the points in the frame at hand, or adds them to what earlier windows left.
  template <class Block>
  DCHARGE_INLINE void emit(Block& block, const Arguments& a, int64_t m0, bool fresh) {
    auto& shared = block.shared;
    int64_t n_waves = a.orbitals.n_waves;
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
          if (p >= shared.begin && p < shared.end && m0 + b < n_waves) {
            T& to = a.out[(shared.row[p] * n_comp + k) * n_waves + m0 + b];
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
    int64_t n_passes = (a.orbitals.n_waves + B - 1) / B, m0 = item % n_passes * B;
    for_each_frame<T>(block, a.points, item / n_passes, [&] {
      bool fresh = true;
      for (int64_t type = 0; type < a.orbitals.n_types; ++type) {
        for_each_window<T>(block, a.points.bins, type, [&](int n) {
          if (n == 0 && !fresh) {
            return;
          }
          Parts::load_tables(block, a, type, m0, n);
          block.each([&](int i, Thread& thread) {
#pragma unroll
            for (int k = 0; k < n_comp; ++k) {
#pragma unroll
              for (int b = 0; b < B; ++b) {
                thread.sum[k][b] = 0;
              }
            }
#pragma unroll 1
            for (int c = 0; c < n; ++c) {
              add<Block>(a, shared, i, c, thread);
            }
          });
          emit(block, a, m0, fresh);
          fresh = false;
        });
      }
    });
  }
};

}  // namespace dcharge
