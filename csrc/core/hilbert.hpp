// Order of points along a Hilbert curve: any run of consecutive points is connected, so a block of them is compact.
#pragma once

#include "core/bins.hpp"

namespace dcharge {

constexpr int kHilbertBits = 10;

// J. Skilling, AIP Conf. Proc. 707, 381 (2004): index of a cell of a cube with 2^kHilbertBits cells along every edge.
DCHARGE_INLINE int64_t hilbert_index(uint32_t x, uint32_t y, uint32_t z) {
  uint32_t c[3] = {x, y, z};
  for (uint32_t q = 1u << (kHilbertBits - 1); q > 1; q >>= 1) {
    for (int a = 0; a < 3; ++a) {
      if (c[a] & q) {
        c[0] ^= q - 1;
      } else {
        uint32_t t = (c[0] ^ c[a]) & (q - 1);
        c[0] ^= t;
        c[a] ^= t;
      }
    }
  }
  c[1] ^= c[0];
  c[2] ^= c[1];
  uint32_t t = 0;
  for (uint32_t q = 1u << (kHilbertBits - 1); q > 1; q >>= 1) {
    t ^= c[2] & q ? q - 1 : 0;
  }
  int64_t index = 0;
  for (int bit = kHilbertBits - 1; bit >= 0; --bit) {
    for (int a = 0; a < 3; ++a) {
      index = index << 1 | (((c[a] ^ t) >> bit) & 1);
    }
  }
  return index;
}

// Sorting by it puts the points frame by frame along the curve. Cells are cubes, so blocks are compact in slabs too.
DCHARGE_INLINE int64_t point_key(const Bins& bins, int64_t i) {
  const Geometry& g = bins.geometry;
  int64_t frame = at_or_zero(g.point_frame, i), cells[3];
  const Frame& of = bins.frames[frame];
  double r[3], f[3], at[3], extent = 0;
  wrapped(of, g.points + 3 * i, r, f, cells);
  for (int a = 0; a < 3; ++a) {
    double length;
    if (of.lattice.pbc[a]) {
      length = 1 / of.lattice.per_height[a];
      at[a] = f[a] * length;
    } else {  // points beyond the reach of all atoms have no moments: where they come does not matter
      Axis axis = bin_axis(bins, frame, a);
      length = axis.high - axis.low + 2 * bins.rcut;
      at[a] = f[a] - axis.low + bins.rcut;
    }
    extent = length > extent ? length : extent;
  }
  constexpr double top = (1 << kHilbertBits) - 1;
  uint32_t q[3];
  for (int a = 0; a < 3; ++a) {
    double cell = at[a] / extent * (1 << kHilbertBits);
    q[a] = static_cast<uint32_t>(cell > 0 ? cell < top ? cell : top : 0);
  }
  return frame << (3 * kHilbertBits) | hilbert_index(q[0], q[1], q[2]);
}

}  // namespace dcharge
