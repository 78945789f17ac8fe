// Device cell list: atoms sorted into bins of the unit cell, by fractional coordinate, without explicit images. A query
// runs over unwrapped bin numbers; the whole cells it passes are the periodic shift. Nothing here allocates, sorts or
// synchronises: the caller sorts the keys, every function handles one element. The same code runs on host and device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/arguments.hpp"
#include "core/atomic.hpp"
#include "core/lattice.hpp"

namespace dcharge {

// One frame as the kernels see it.
struct Frame {
  Lattice lattice;
  int64_t n[3];   // bins along the axes
  int64_t first;  // bins of all frames before
};

struct Bins {
  Geometry geometry;
  int64_t n_types, n_slots;  // a slot is a bin of one type; slots of a frame: type-major
  double rcut;
  const Frame* frames;
  int64_t* bounds;  // [n_frames, 3, 2]: ordered bits of the atoms' least and greatest coordinate along open axes
  int64_t* first;   // [n_slots + 1]: atoms of slot s are first[s]..first[s + 1]
  double* r;        // [n_atoms, 3] wrapped, sorted by slot
  int64_t* source;  // [n_atoms] index in the caller's arrays
  int64_t* cells;   // [n_atoms, 3] cells added by wrapping, or null
};

enum Complaint { kAtomValue, kPointValue, kAtomFrame, kPointFrame, kAtomType, kComplaints };

// Bins about half a cutoff wide, about as many as atoms: memory is known before anything runs on the device.
inline std::vector<Frame> make_frames(const double* cell, const bool* pbc, int64_t n_frames, int64_t n_atoms,
                                      double rcut) {
  std::vector<Frame> frames(n_frames);
  int64_t most = std::max<int64_t>(1, n_atoms / std::max<int64_t>(1, n_frames)), first = 0;
  for (int64_t f = 0; f < n_frames; ++f) {
    Frame& frame = frames[f];
    frame.lattice = make_lattice(cell + 9 * f, pbc + 3 * f);
    for (int a = 0; a < 3; ++a) {
      // the extent along an open axis is only known on the device
      double n = frame.lattice.pbc[a] ? 2 / (frame.lattice.per_height[a] * rcut) : 64.0;
      frame.n[a] = static_cast<int64_t>(std::min(std::max(n, 1.0), static_cast<double>(most)));
    }
    while (static_cast<double>(frame.n[0]) * frame.n[1] * frame.n[2] > static_cast<double>(most)) {
      int64_t& n = *std::max_element(frame.n, frame.n + 3);
      n = (n + 1) / 2;
    }
    frame.first = first;
    first += frame.n[0] * frame.n[1] * frame.n[2];
  }
  return frames;
}

inline int64_t count_bins(const std::vector<Frame>& frames) {
  return frames.empty() ? 0 : frames.back().first + frames.back().n[0] * frames.back().n[1] * frames.back().n[2];
}

// Integers in the order of the numbers they stand for, so that integer atomics find extrema.
DCHARGE_INLINE int64_t ordered_bits(double x) {
  int64_t i;
  memcpy(&i, &x, sizeof i);
  return i < 0 ? i ^ INT64_MAX : i;
}

DCHARGE_INLINE double from_ordered_bits(int64_t i) {
  double x;
  i = i < 0 ? i ^ INT64_MAX : i;
  memcpy(&x, &i, sizeof x);
  return x;
}

DCHARGE_INLINE bool usable(double x) { return x > -1e12 && x < 1e12; }

DCHARGE_INLINE bool usable(const double* r) { return usable(r[0]) && usable(r[1]) && usable(r[2]); }

// Marks what is wrong with point or atom i; all marked arguments are errors, and nothing else runs.
DCHARGE_INLINE void check_point(const Geometry& g, int64_t i, int64_t* complaints) {
  if (!usable(g.points + 3 * i)) {
    complaints[kPointValue] = 1;
  }
  if (g.point_frame && (g.point_frame[i] < 0 || g.point_frame[i] >= g.n_frames)) {
    complaints[kPointFrame] = 1;
  }
}

DCHARGE_INLINE void check_atom(const Geometry& g, int64_t n_types, int64_t i, int64_t* complaints) {
  if (!usable(g.atoms + 3 * i)) {
    complaints[kAtomValue] = 1;
  }
  if (g.atom_frame && (g.atom_frame[i] < 0 || g.atom_frame[i] >= g.n_frames)) {
    complaints[kAtomFrame] = 1;
  }
  if (g.atom_type && (g.atom_type[i] < 0 || g.atom_type[i] >= n_types)) {
    complaints[kAtomType] = 1;
  }
}

// Without index arrays everything belongs to frame 0 and type 0.
DCHARGE_INLINE int64_t at_or_zero(const int64_t* index, int64_t i) { return index ? index[i] : 0; }

DCHARGE_INLINE void wrapped(const Frame& frame, const double* from, double* r, double* f, int64_t* cells) {
  const double middle[3] = {0.5, 0.5, 0.5};
  r[0] = from[0];
  r[1] = from[1];
  r[2] = from[2];
  wrap(frame.lattice, middle, r, f, cells);
}

DCHARGE_INLINE void clear_bounds(const Bins& bins, int64_t i) { bins.bounds[i] = i % 2 ? INT64_MIN : INT64_MAX; }

DCHARGE_INLINE void widen_bounds(const Bins& bins, int64_t i) {
  const Geometry& g = bins.geometry;
  int64_t frame = at_or_zero(g.atom_frame, i);
  const Lattice& lattice = bins.frames[frame].lattice;
  double f[3];
  lattice.fractional(g.atoms + 3 * i, f);
  for (int a = 0; a < 3; ++a) {
    if (!lattice.pbc[a]) {
      atomic_min(bins.bounds + (frame * 3 + a) * 2, ordered_bits(f[a]));
      atomic_max(bins.bounds + (frame * 3 + a) * 2 + 1, ordered_bits(f[a]));
    }
  }
}

// The part of a fractional axis that is cut into bins. Open axes without atoms have low > high.
struct Axis {
  double low, high, per_bin;

  DCHARGE_HD int64_t bin(double f) const { return static_cast<int64_t>(floor((f - low) * per_bin)); }
};

DCHARGE_INLINE Axis bin_axis(const Bins& bins, int64_t frame, int a) {
  double n = static_cast<double>(bins.frames[frame].n[a]);
  if (bins.frames[frame].lattice.pbc[a]) {
    return {0, 1, n};
  }
  double low = from_ordered_bits(bins.bounds[(frame * 3 + a) * 2]);
  double high = from_ordered_bits(bins.bounds[(frame * 3 + a) * 2 + 1]);
  if (bins.bounds[(frame * 3 + a) * 2] > bins.bounds[(frame * 3 + a) * 2 + 1]) {
    return {1, 0, 0};
  }
  return {low, high, high > low ? n / (high - low) : 0};
}

DCHARGE_INLINE int64_t limited(int64_t i, int64_t n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }

DCHARGE_INLINE int64_t atom_slot(const Bins& bins, int64_t i) {
  const Geometry& g = bins.geometry;
  int64_t frame = at_or_zero(g.atom_frame, i), cells[3], at[3];
  const Frame& of = bins.frames[frame];
  double r[3], f[3];
  wrapped(of, g.atoms + 3 * i, r, f, cells);
  for (int a = 0; a < 3; ++a) {
    at[a] = limited(bin_axis(bins, frame, a).bin(f[a]), of.n[a]);
  }
  int64_t n = of.n[0] * of.n[1] * of.n[2];
  return of.first * bins.n_types + at_or_zero(g.atom_type, i) * n + (at[0] * of.n[1] + at[1]) * of.n[2] + at[2];
}

// Place i of the sorted atoms; order from a stable sort of their slots.
DCHARGE_INLINE void place_atom(const Bins& bins, const int64_t* order, int64_t i) {
  double f[3];
  int64_t cells[3], from = order[i];
  wrapped(bins.frames[at_or_zero(bins.geometry.atom_frame, from)], bins.geometry.atoms + 3 * from, bins.r + 3 * i, f,
          cells);
  bins.source[i] = from;
  for (int a = 0; a < 3 && bins.cells; ++a) {
    bins.cells[3 * i + a] = cells[a];
  }
}

// first[slot]: the number of sorted slots below it.
DCHARGE_INLINE void find_slot(const Bins& bins, const int64_t* sorted, int64_t slot) {
  int64_t low = 0, high = bins.geometry.n_atoms;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (sorted[middle] < slot) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  bins.first[slot] = low;
}

DCHARGE_INLINE int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Bins of one frame and type within the cutoff of a box of fractional coordinates. They are visited in segments: runs
// of bins along the last axis that share one periodic shift, so their atoms are consecutive.
struct Query {
  int64_t low[3], high[3], base, first_image, n_images, n_segments;
};

DCHARGE_INLINE Query make_query(const Bins& bins, int64_t frame, int64_t type, const double* low, const double* high) {
  const Frame& of = bins.frames[frame];
  Query q;
  q.n_segments = 0;
  for (int a = 0; a < 3; ++a) {
    Axis axis = bin_axis(bins, frame, a);
    double reach = bins.rcut * of.lattice.per_height[a] * (1 + 1e-9) + 1e-12;
    double from = low[a] - reach, to = high[a] + reach;
    if (!of.lattice.pbc[a]) {
      if (from > axis.high || to < axis.low || axis.low > axis.high) {
        return q;
      }
      from = from < axis.low ? axis.low : from;
      to = to > axis.high ? axis.high : to;
      q.low[a] = limited(axis.bin(from), of.n[a]);
      q.high[a] = limited(axis.bin(to), of.n[a]);
    } else {
      q.low[a] = axis.bin(from);
      q.high[a] = axis.bin(to);
    }
  }
  q.base = of.first * bins.n_types + type * of.n[0] * of.n[1] * of.n[2];
  q.first_image = floor_divide(q.low[2], of.n[2]);
  q.n_images = floor_divide(q.high[2], of.n[2]) - q.first_image + 1;
  q.n_segments = (q.high[0] - q.low[0] + 1) * (q.high[1] - q.low[1] + 1) * q.n_images;
  return q;
}

struct Segment {
  int64_t begin, end;  // sorted atoms
  int64_t cells[3];
  double shift[3];  // Cartesian
};

DCHARGE_INLINE Segment make_segment(const Bins& bins, int64_t frame, const Query& q, int64_t index) {
  const Frame& of = bins.frames[frame];
  int64_t image = q.first_image + index % q.n_images, column = index / q.n_images, n1 = q.high[1] - q.low[1] + 1;
  int64_t i = q.low[0] + column / n1, j = q.low[1] + column % n1;
  Segment s;
  s.cells[0] = floor_divide(i, of.n[0]);
  s.cells[1] = floor_divide(j, of.n[1]);
  s.cells[2] = image;
  int64_t row = ((i - s.cells[0] * of.n[0]) * of.n[1] + j - s.cells[1] * of.n[1]) * of.n[2];
  int64_t low = q.low[2] - image * of.n[2], high = q.high[2] - image * of.n[2];
  s.begin = bins.first[q.base + row + (low < 0 ? 0 : low)];
  s.end = bins.first[q.base + row + (high >= of.n[2] ? of.n[2] - 1 : high) + 1];
  for (int c = 0; c < 3; ++c) {
    s.shift[c] = 0;
    for (int a = 0; a < 3; ++a) {
      s.shift[c] += static_cast<double>(s.cells[a]) * of.lattice.cell[a][c];
    }
  }
  return s;
}

}  // namespace dcharge
