// Cells, wrapping and explicit periodic images, in float64. Cells are rows, lengths Angstrom.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/macros.hpp"

namespace dcharge {

struct Lattice {
  double cell[3][3];     // rows; those of non-periodic axes are unit vectors orthogonal to all others
  double inverse[3][3];  // fractional = Cartesian . inverse
  double per_height[3];  // 1 / perpendicular height of every axis
  bool pbc[3];

  DCHARGE_HD void fractional(const double* r, double* f) const {
    for (int a = 0; a < 3; ++a) {
      f[a] = r[0] * inverse[0][a] + r[1] * inverse[1][a] + r[2] * inverse[2][a];
    }
  }
};

inline void cross(const double* a, const double* b, double* c) {
  c[0] = a[1] * b[2] - a[2] * b[1];
  c[1] = a[2] * b[0] - a[0] * b[2];
  c[2] = a[0] * b[1] - a[1] * b[0];
}

inline double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Rows of non-periodic axes have no meaning: they are replaced, so that the cell can always be inverted.
inline Lattice make_lattice(const double* rows, const bool* pbc) {
  Lattice out;
  double (*c)[3] = out.cell;
  int periodic[3], n_periodic = 0;
  for (int a = 0; a < 3; ++a) {
    out.pbc[a] = pbc[a];
    if (!pbc[a]) {
      continue;
    }
    periodic[n_periodic++] = a;
    for (int i = 0; i < 3; ++i) {
      c[a][i] = rows[3 * a + i];
      if (!std::isfinite(c[a][i])) {
        throw std::runtime_error("cell: a periodic cell vector is not finite");
      }
    }
  }
  auto normalize = [](double* v) {
    double length = std::sqrt(dot(v, v));
    for (int i = 0; i < 3; ++i) {
      v[i] /= length;
    }
  };
  double scale = 1.0;  // product of the lengths of the periodic vectors: what a volume is small against
  for (int k = 0; k < n_periodic; ++k) {
    scale *= std::sqrt(dot(c[periodic[k]], c[periodic[k]]));
  }
  auto degenerate = [] {
    throw std::runtime_error("cell: the periodic cell vectors are linearly dependent (zero volume)");
  };
  if (!(scale > 0)) {
    degenerate();
  }
  if (n_periodic == 0) {
    for (int a = 0; a < 3; ++a) {
      for (int i = 0; i < 3; ++i) {
        c[a][i] = a == i;
      }
    }
  } else if (n_periodic == 1) {
    const double* p = c[periodic[0]];
    double *u = c[(periodic[0] + 1) % 3], *v = c[(periodic[0] + 2) % 3];
    int flat = 0;  // the Cartesian axis along which p is shortest is safe to cross with
    for (int i = 1; i < 3; ++i) {
      flat = std::fabs(p[i]) < std::fabs(p[flat]) ? i : flat;
    }
    double e[3] = {flat == 0 ? 1.0 : 0.0, flat == 1 ? 1.0 : 0.0, flat == 2 ? 1.0 : 0.0};
    cross(p, e, u);
    normalize(u);
    cross(p, u, v);
    normalize(v);
  } else if (n_periodic == 2) {
    double* v = c[3 - periodic[0] - periodic[1]];
    cross(c[periodic[0]], c[periodic[1]], v);
    if (std::sqrt(dot(v, v)) <= 1e-9 * scale) {
      degenerate();
    }
    normalize(v);
  }
  double faces[3][3];
  for (int a = 0; a < 3; ++a) {
    cross(c[(a + 1) % 3], c[(a + 2) % 3], faces[a]);
  }
  double volume = dot(c[0], faces[0]);
  if (std::fabs(volume) <= 1e-9 * scale) {
    degenerate();
  }
  for (int a = 0; a < 3; ++a) {
    for (int i = 0; i < 3; ++i) {
      out.inverse[i][a] = faces[a][i] / volume;
    }
    out.per_height[a] = std::sqrt(dot(faces[a], faces[a])) / std::fabs(volume);
  }
  return out;
}

// Box in fractional coordinates.
struct Box {
  double low[3] = {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity(),
                   std::numeric_limits<double>::infinity()};
  double high[3] = {-std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                    -std::numeric_limits<double>::infinity()};

  void include(const double* f) {
    for (int a = 0; a < 3; ++a) {
      low[a] = f[a] < low[a] ? f[a] : low[a];
      high[a] = f[a] > high[a] ? f[a] : high[a];
    }
  }
};

// Moves r by whole cells along periodic axes so that its fractional coordinates lie within half a cell of `centre`
// (compact sets of points stay compact); f receives them, shift the number of cells added.
DCHARGE_HD inline void wrap(const Lattice& lattice, const double* centre, double* r, double* f, int64_t* shift) {
  lattice.fractional(r, f);
  for (int a = 0; a < 3; ++a) {
    shift[a] = 0;
    if (!lattice.pbc[a]) {
      continue;
    }
    double n = std::floor(f[a] - centre[a] + 0.5);
    shift[a] = -static_cast<int64_t>(n);
    if (n != 0) {
      f[a] -= n;
      for (int i = 0; i < 3; ++i) {
        r[i] -= n * lattice.cell[a][i];
      }
    }
  }
}

// Images of atoms: position r[source] + shift.cell.
struct Images {
  std::vector<double> x, y, z;
  std::vector<int64_t> source;
  std::vector<int32_t> shift;  // [n, 3]; only where asked for
  int64_t size() const { return static_cast<int64_t>(x.size()); }
};

// All images of one atom within `cutoff` of a box of fractional coordinates, appended to `out`. Widening the box by
// cutoff / height is right for any skew and for cells smaller than the cutoff.
inline void add_images(const Lattice& lattice, const Box& box, double cutoff, const double* r, int64_t source,
                       bool with_shift, Images& out) {
  double f[3];
  int64_t first[3], last[3];
  lattice.fractional(r, f);
  for (int a = 0; a < 3; ++a) {
    double reach = cutoff * lattice.per_height[a] * (1 + 1e-9) + 1e-12;
    double low = box.low[a] - reach - f[a], high = box.high[a] + reach - f[a];
    if (lattice.pbc[a]) {
      first[a] = static_cast<int64_t>(std::ceil(low));
      last[a] = static_cast<int64_t>(std::floor(high));
    } else {
      first[a] = low <= 0 && high >= 0 ? 0 : 1;
      last[a] = 0;
    }
  }
  for (int64_t i = first[0]; i <= last[0]; ++i) {
    for (int64_t j = first[1]; j <= last[1]; ++j) {
      for (int64_t k = first[2]; k <= last[2]; ++k) {
        double n[3] = {static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)};
        double p[3] = {r[0], r[1], r[2]};
        for (int a = 0; a < 3; ++a) {
          for (int c = 0; c < 3 && n[a] != 0; ++c) {
            p[c] += n[a] * lattice.cell[a][c];
          }
        }
        out.x.push_back(p[0]);
        out.y.push_back(p[1]);
        out.z.push_back(p[2]);
        out.source.push_back(source);
        if (with_shift) {
          out.shift.insert(out.shift.end(),
                           {static_cast<int32_t>(i), static_cast<int32_t>(j), static_cast<int32_t>(k)});
        }
      }
    }
  }
}

}  // namespace dcharge
