// Spatial order of points: a Morton curve for the coarse cut into tiles, a k-d tree inside a tile.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace dcharge {

// Spreads the low 10 bits of v to every third bit.
inline uint32_t spread_bits(uint32_t v) {
  v = (v | (v << 16)) & 0x030000FF;
  v = (v | (v << 8)) & 0x0300F00F;
  v = (v | (v << 4)) & 0x030C30C3;
  return (v | (v << 2)) & 0x09249249;
}

// Cubic boxes over the bounding box of n points, a few dozen points each, numbered along a Morton curve.
struct MortonGrid {
  double origin[3], per_edge;
  uint32_t top;
  int64_t n_keys;

  MortonGrid(const double* low, const double* high, int64_t n) {
    double extent = 0;
    for (int a = 0; a < 3; ++a) {
      origin[a] = low[a];
      extent = std::max(extent, high[a] - low[a]);
    }
    int bits = 0;
    while (bits < 7 && (int64_t(1) << (3 * bits)) < n / 32) {
      ++bits;
    }
    top = (1u << bits) - 1;
    n_keys = int64_t(1) << (3 * bits);
    per_edge = extent > 0 ? (top + 1) / extent : 0;
  }

  uint32_t key(const double* r) const {
    uint32_t k = 0;
    for (int a = 0; a < 3; ++a) {
      double i = (r[a] - origin[a]) * per_edge;
      k |= spread_bits(i >= top ? top : static_cast<uint32_t>(i < 0 ? 0 : i)) << a;
    }
    return k;
  }
};

struct SortPoint {
  double r[3];
  int64_t row;
};

// Reorders points [first, last) so that every run of `width` points (counted from the first) is a compact box.
inline void sort_groups(SortPoint* first, SortPoint* last, int64_t width) {
  int64_t n = last - first;
  if (n <= width) {
    return;
  }
  double low[3], high[3];
  for (int a = 0; a < 3; ++a) {
    low[a] = high[a] = first->r[a];
  }
  for (SortPoint* p = first + 1; p < last; ++p) {
    for (int a = 0; a < 3; ++a) {
      low[a] = std::min(low[a], p->r[a]);
      high[a] = std::max(high[a], p->r[a]);
    }
  }
  int axis = 0;
  for (int a = 1; a < 3; ++a) {
    axis = high[a] - low[a] > high[axis] - low[axis] ? a : axis;
  }
  SortPoint* middle = first + (n / width + 1) / 2 * width;
  middle = middle >= last ? first + width : middle;
  std::nth_element(first, middle, last, [axis](const SortPoint& a, const SortPoint& b) {
    return a.r[axis] < b.r[axis] || (a.r[axis] == b.r[axis] && a.row < b.row);
  });
  sort_groups(first, middle, width);
  sort_groups(middle, last, width);
}

}  // namespace dcharge
