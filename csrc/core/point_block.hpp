// A block of threads, one point each, and the atoms it may see. Block logic is written in phases: block.each(f) runs
// f(thread number, thread state) for all threads and waits for all of them. On the device that is the code of one
// thread and a barrier, on the host a loop, so g++ and its sanitizers run what the GPU will run. What stands between
// two phases is evaluated by every thread alike.
#pragma once

#include "core/bins.hpp"

namespace dcharge {

constexpr int kThreads = 128;
constexpr int kCandidates = 256;
constexpr int kParts = 8;  // of the points, for the first half of a reduction

template <class T>
struct alignas(4 * sizeof(T)) Candidate {
  T x, y, z, unused;
};

template <class T>
struct PointShared {
  double position[6][kThreads];  // wrapped Cartesian, then fractional
  int64_t frame[kThreads], row[kThreads];
  double part[12][kParts], box[12];  // least, then greatest of `position`
  // what all threads agree on is kept here, as their registers hold sums
  int64_t frame_now;
  int begin, end, total;
  Query query;
  int count[kThreads], offset[kThreads];
  Candidate<T> candidate[kCandidates];  // relative to the centre of the box
  int64_t source[kCandidates];          // atom of every candidate
};

template <class T>
struct PointThread {
  T x, y, z;  // relative to the centre of the box; far away where the thread's point is in another frame
};

struct Points {
  const int64_t* order;  // points along the Hilbert curve
  Bins bins;
};

DCHARGE_INLINE int64_t n_point_blocks(int64_t n_points) { return (n_points + kThreads - 1) / kThreads; }

// Calls visit(atom, candidate position) for the atoms of a segment that are within the cutoff of the block's box.
template <class T, class F>
DCHARGE_INLINE void visit_segment(const Bins& bins, const PointShared<T>& shared, int64_t index, F visit) {
  Segment s = make_segment(bins, shared.frame_now, shared.query, index);
  double reach2 = bins.rcut * bins.rcut * (1 + 1e-9);
#pragma unroll 1
  for (int64_t m = s.begin; m < s.end; ++m) {
    double r[3], d2 = 0;
    for (int a = 0; a < 3; ++a) {
      r[a] = bins.r[3 * m + a] + s.shift[a];
      double below = shared.box[a] - r[a], above = r[a] - shared.box[6 + a];
      double d = below > 0 ? below : above > 0 ? above : 0;
      d2 += d * d;
    }
    if (d2 < reach2) {
      visit(m, r);
    }
  }
}

template <class T>
DCHARGE_INLINE double box_centre(const PointShared<T>& shared, int a) {
  return 0.5 * (shared.box[a] + shared.box[6 + a]);
}

// For every frame of block `index`: visit() with shared.frame_now, the box of its points shared.begin..shared.end of
// the block, and the threads' coordinates set.
template <class T, class Block, class F>
DCHARGE_INLINE void for_each_frame(Block& block, const Points& points, int64_t index, F visit) {
  auto& shared = block.shared;
  const Geometry& g = points.bins.geometry;
  block.each([&](int i, auto&) {
    int64_t at = index * kThreads + i;
    if (at < g.n_points) {
      int64_t row = points.order[at], cells[3];
      double r[3], f[3];
      shared.row[i] = row;
      shared.frame[i] = at_or_zero(g.point_frame, row);
      wrapped(points.bins.frames[shared.frame[i]], g.points + 3 * row, r, f, cells);
      for (int a = 0; a < 3; ++a) {
        shared.position[a][i] = r[a];
        shared.position[3 + a][i] = f[a];
      }
    } else {
      shared.frame[i] = -1;
    }
    if (i == 0) {
      shared.end = 0;
    }
  });
  while (shared.end < kThreads && shared.frame[shared.end] >= 0) {
    block.each([](int, auto&) {});  // all have looked at shared.end
    block.each([&](int i, auto&) {
      if (i == 0) {
        shared.begin = shared.end;
        shared.frame_now = shared.frame[shared.begin];
        while (shared.end < kThreads && shared.frame[shared.end] == shared.frame_now) {
          ++shared.end;
        }
      }
    });
    block.each([&](int i, auto&) {
      if (i < 12 * kParts) {
        int which = i / kParts, part = i % kParts;
        constexpr int width = kThreads / kParts;
        double extreme = which < 6 ? INFINITY : -INFINITY;
        for (int p = part * width; p < (part + 1) * width; ++p) {
          if (p >= shared.begin && p < shared.end) {
            double v = shared.position[which % 6][p];
            extreme = which < 6 ? (v < extreme ? v : extreme) : (v > extreme ? v : extreme);
          }
        }
        shared.part[which][part] = extreme;
      }
    });
    block.each([&](int i, auto&) {
      if (i < 12) {
        double extreme = shared.part[i][0];
        for (int part = 1; part < kParts; ++part) {
          double v = shared.part[i][part];
          extreme = i < 6 ? (v < extreme ? v : extreme) : (v > extreme ? v : extreme);
        }
        shared.box[i] = extreme;
      }
    });
    block.each([&](int i, auto& thread) {
      bool here = i >= shared.begin && i < shared.end;
      thread.x = here ? static_cast<T>(shared.position[0][i] - box_centre(shared, 0)) : T(1e15);
      thread.y = here ? static_cast<T>(shared.position[1][i] - box_centre(shared, 1)) : T(0);
      thread.z = here ? static_cast<T>(shared.position[2][i] - box_centre(shared, 2)) : T(0);
    });
    visit();
  }
  block.each([](int, auto&) {});  // as above, before the next block's points
}

// Lists the atoms of one type near the block, at most kCandidates at a time in shared.candidate: visit(number of them);
// at least once, if only for none. Their order depends on the geometry alone.
template <class T, class Block, class F>
DCHARGE_INLINE void for_each_window(Block& block, const Bins& bins, int64_t type, F visit) {
  auto& shared = block.shared;
  block.each([](int, auto&) {});  // all have looked at the query before
  block.each([&](int i, auto&) {
    if (i == 0) {
      shared.query = make_query(bins, shared.frame_now, type, shared.box + 3, shared.box + 9);
    }
  });
  for (int base = 0; base < shared.query.n_segments || base == 0; base += kThreads) {
    block.each([&](int i, auto&) {
      int count = 0;
      if (base + i < shared.query.n_segments) {
        visit_segment(bins, shared, base + i, [&](int64_t, const double*) { ++count; });
      }
      shared.count[i] = count;
    });
    block.each([&](int i, auto&) {
      int offset = 0;
#pragma unroll 4
      for (int other = 0; other < i; ++other) {
        offset += shared.count[other];
      }
      shared.offset[i] = offset;
      if (i == kThreads - 1) {
        shared.total = offset + shared.count[i];
      }
    });
    for (int done = 0; done < shared.total || (base == 0 && done == 0); done += kCandidates) {
      int n = shared.total - done < kCandidates ? shared.total - done : kCandidates;
      block.each([&](int i, auto&) {
        int to = shared.offset[i] - done;
        if (shared.count[i] == 0 || to >= n || to + shared.count[i] <= 0) {
          return;
        }
        visit_segment(bins, shared, base + i, [&](int64_t atom, const double* r) {
          if (to >= 0 && to < n) {
            shared.candidate[to] = {static_cast<T>(r[0] - box_centre(shared, 0)),
                                    static_cast<T>(r[1] - box_centre(shared, 1)),
                                    static_cast<T>(r[2] - box_centre(shared, 2)), T(0)};
            shared.source[to] = bins.source[atom];
          }
          ++to;
        });
      });
      visit(n);
    }
  }
}

}  // namespace dcharge
