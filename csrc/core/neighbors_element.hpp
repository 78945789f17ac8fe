// Neighbour list, one centre per element: pairs are counted, then written and sorted in place.
#pragma once

#include "core/bins.hpp"

namespace dcharge {

struct NeighborsArguments {
  Bins bins;           // points are the centres; one frame, one type
  bool same;           // the centres are the atoms: an atom is not its own neighbour, its images are
  int64_t* count;      // [n] pairs of every centre
  const int64_t* end;  // [n] running sum of count
  int64_t n_edges;
  int64_t* index;  // [2, n_edges]
  int32_t* shift;  // [n_edges, 3]
};

// visit(j, shift) for all neighbours of centre i.
template <class F>
DCHARGE_INLINE void visit_neighbors(const NeighborsArguments& a, int64_t i, F visit) {
  const Bins& bins = a.bins;
  double r[3], f[3];
  int64_t cells[3];
  wrapped(bins.frames[0], bins.geometry.points + 3 * i, r, f, cells);
  Query query = make_query(bins, 0, 0, f, f);
  for (int64_t index = 0; index < query.n_segments; ++index) {
    Segment s = make_segment(bins, 0, query, index);
    for (int64_t m = s.begin; m < s.end; ++m) {
      double d2 = 0;
      int32_t shift[3];
      bool zero = true;
      for (int c = 0; c < 3; ++c) {
        double d = bins.r[3 * m + c] + s.shift[c] - r[c];
        d2 += d * d;
        shift[c] = static_cast<int32_t>(s.cells[c] + bins.cells[3 * m + c] - cells[c]);
        zero = zero && shift[c] == 0;
      }
      if (d2 < bins.rcut * bins.rcut && !(a.same && zero && bins.source[m] == i)) {
        visit(bins.source[m], shift);
      }
    }
  }
}

DCHARGE_INLINE void count_neighbors_of(const NeighborsArguments& a, int64_t i) {
  int64_t n = 0;
  visit_neighbors(a, i, [&](int64_t, const int32_t*) { ++n; });
  a.count[i] = n;
}

// Pairs of one centre, ordered by (j, shift).
struct NeighborRow {
  int64_t* j;
  int32_t* shift;

  DCHARGE_HD bool less(int64_t a, int64_t b) const {
    if (j[a] != j[b]) {
      return j[a] < j[b];
    }
    for (int c = 0; c < 3; ++c) {
      if (shift[3 * a + c] != shift[3 * b + c]) {
        return shift[3 * a + c] < shift[3 * b + c];
      }
    }
    return false;
  }

  DCHARGE_HD void swap(int64_t a, int64_t b) const {
    int64_t t = j[a];
    j[a] = j[b];
    j[b] = t;
    for (int c = 0; c < 3; ++c) {
      int32_t u = shift[3 * a + c];
      shift[3 * a + c] = shift[3 * b + c];
      shift[3 * b + c] = u;
    }
  }

  DCHARGE_HD void sink(int64_t top, int64_t n) const {
    for (int64_t child = 2 * top + 1; child < n; child = 2 * top + 1) {
      child += child + 1 < n && less(child, child + 1);
      if (!less(top, child)) {
        return;
      }
      swap(top, child);
      top = child;
    }
  }

  DCHARGE_HD void heap_sort(int64_t n) const {
    for (int64_t top = n / 2; top-- > 0;) {
      sink(top, n);
    }
    for (int64_t last = n; last-- > 1;) {
      swap(0, last);
      sink(0, last);
    }
  }
};

DCHARGE_INLINE void fill_neighbors_of(const NeighborsArguments& a, int64_t i) {
  int64_t begin = i > 0 ? a.end[i - 1] : 0, e = begin;
  visit_neighbors(a, i, [&](int64_t j, const int32_t* shift) {
    a.index[e] = i;
    a.index[a.n_edges + e] = j;
    for (int c = 0; c < 3; ++c) {
      a.shift[3 * e + c] = shift[c];
    }
    ++e;
  });
  NeighborRow{a.index + a.n_edges + begin, a.shift + 3 * begin}.heap_sort(e - begin);
}

}  // namespace dcharge
