// A group of points, one per lane, and the atoms it may reach, streamed through a small buffer.
#pragma once

#include "cpu/kernels.hpp"
#include "cpu/kernels/vec.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr int kBuffer = 48;

constexpr int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// Lanes relative to the centre of their bounding box: float32 offsets keep full accuracy however large the cell is.
template <class T>
struct Group {
  Vec<T> x, y, z;
  double centre[3];
  T half[3];
  int n;  // lanes in use; the others repeat the last point
};

template <class T>
Group<T> load_group(const TilePoints& points, int64_t start) {
  constexpr int W = kLanes<T>;
  Group<T> g;
  g.n = points.n - start < W ? static_cast<int>(points.n - start) : W;
  const double* axes[3] = {points.x + start, points.y + start, points.z + start};
  T offset[3][W];
  for (int a = 0; a < 3; ++a) {
    double low = axes[a][0], high = axes[a][0];
    for (int i = 1; i < g.n; ++i) {
      low = axes[a][i] < low ? axes[a][i] : low;
      high = axes[a][i] > high ? axes[a][i] : high;
    }
    g.centre[a] = 0.5 * (low + high);
    g.half[a] = static_cast<T>(0.5 * (high - low));
    for (int i = 0; i < W; ++i) {
      offset[a][i] = static_cast<T>(axes[a][i < g.n ? i : g.n - 1] - g.centre[a]);
    }
  }
  g.x = load<T>(offset[0]);
  g.y = load<T>(offset[1]);
  g.z = load<T>(offset[2]);
  return g;
}

template <class T>
struct Buffer {
  T x[kBuffer], y[kBuffer], z[kBuffer], d2[kBuffer];  // relative to the group; squared distance from its box
  int64_t which[kBuffer];
};

// Calls flush(n) whenever the buffer holds n atoms of candidates [first, last) that the group may reach.
template <class T, class F>
DCHARGE_INLINE void stream(const Candidates& atoms, int64_t first, int64_t last, const Group<T>& g, T reach2,
                           Buffer<T>& buffer, F flush) {
  constexpr int kChunk = 64;
  T x[kChunk], y[kChunk], z[kChunk], d2[kChunk];
  int n = 0;
  for (int64_t base = first; base < last; base += kChunk) {
    int count = last - base < kChunk ? static_cast<int>(last - base) : kChunk;
    for (int i = 0; i < count; ++i) {
      x[i] = static_cast<T>(atoms.x[base + i] - g.centre[0]);
      y[i] = static_cast<T>(atoms.y[base + i] - g.centre[1]);
      z[i] = static_cast<T>(atoms.z[base + i] - g.centre[2]);
      T dx = (x[i] < 0 ? -x[i] : x[i]) - g.half[0], dy = (y[i] < 0 ? -y[i] : y[i]) - g.half[1];
      T dz = (z[i] < 0 ? -z[i] : z[i]) - g.half[2];
      dx = dx > 0 ? dx : 0;
      dy = dy > 0 ? dy : 0;
      dz = dz > 0 ? dz : 0;
      d2[i] = dx * dx + dy * dy + dz * dz;
    }
    for (int i = 0; i < count; ++i) {
      buffer.x[n] = x[i];
      buffer.y[n] = y[i];
      buffer.z[n] = z[i];
      buffer.d2[n] = d2[i];
      buffer.which[n] = base + i;
      n += d2[i] < reach2;
      if (n == kBuffer) {
        flush(n);
        n = 0;
      }
    }
  }
  if (n) {
    flush(n);
  }
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
