#include "cpu/plan.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>

#include "core/spatial_sort.hpp"

namespace dcharge {
namespace {

// Neither nan nor so large that the number of cells to wrap by overflows an integer.
bool usable(double coordinate) { return std::fabs(coordinate) < 1e12; }

// Members of every frame as CSR: index sorted by frame, stable.
struct ByFrame {
  std::vector<int64_t> first, index;

  ByFrame(const char* name, const int64_t* frame, int64_t n, int64_t n_frames) : first(n_frames + 1, 0), index(n) {
    for (int64_t i = 0; i < n; ++i) {
      if (frame[i] < 0 || frame[i] >= n_frames) {
        throw std::runtime_error(std::string(name) + ": values must lie in 0.." + std::to_string(n_frames - 1) +
                                 " (frames of cell), got " + std::to_string(frame[i]));
      }
      ++first[frame[i] + 1];
    }
    for (int64_t f = 0; f < n_frames; ++f) {
      first[f + 1] += first[f];
    }
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (int64_t i = 0; i < n; ++i) {
      index[next[frame[i]]++] = i;
    }
  }
};

}  // namespace

Plan::Plan(const Geometry& g, double rcut, int64_t n_types, const ParallelFor& parallel)
    : rcut_(rcut), n_types_(n_types), points_(3 * g.n_points), row_(g.n_points) {
  ByFrame points("point_frame", g.point_frame, g.n_points, g.n_frames);
  ByFrame atoms("atom_frame", g.atom_frame, g.n_atoms, g.n_frames);
  for (int64_t i = 0; i < g.n_atoms && g.atom_type; ++i) {
    if (g.atom_type[i] < 0 || g.atom_type[i] >= n_types) {
      throw std::runtime_error("atom_type: values must lie in 0.." + std::to_string(n_types - 1) + " (n_types), got " +
                               std::to_string(g.atom_type[i]));
    }
  }
  for (int64_t i = 0; i < 3 * g.n_atoms; ++i) {
    if (!usable(g.atoms[i])) {
      throw std::runtime_error("atoms: row " + std::to_string(i / 3) + " is not a finite number");
    }
  }
  frames_.resize(g.n_frames);
  for (int64_t f = 0; f < g.n_frames; ++f) {
    if (points.first[f + 1] > points.first[f]) {
      add_frame(g, f, points.index.data() + points.first[f], points.first[f + 1] - points.first[f],
                atoms.index.data() + atoms.first[f], atoms.first[f + 1] - atoms.first[f], parallel);
    }
  }
}

void Plan::add_frame(const Geometry& g, int64_t f, const int64_t* row, int64_t n_row, const int64_t* atom,
                     int64_t n_atom, const ParallelFor& parallel) {
  Lattice lattice = make_lattice(g.cell + 9 * f, g.pbc + 3 * f);
  double centre[3];
  lattice.fractional(g.points + 3 * row[0], centre);
  for (double& f : centre) {
    f = std::isfinite(f) ? f : 0;  // that point is reported below
  }

  // wrapped points and their bounding boxes, one pair of boxes per part
  constexpr int64_t kPart = 4096;
  int64_t n_parts = (n_row + kPart - 1) / kPart;
  std::vector<double> wrapped(3 * n_row);
  std::vector<Box> fractional(n_parts), cartesian(n_parts);
  std::atomic<bool> finite{true};
  parallel(n_parts, 4, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      for (int64_t i = part * kPart; i < std::min(n_row, (part + 1) * kPart); ++i) {
        double* r = wrapped.data() + 3 * i;
        double frac[3];
        int64_t shift[3];
        std::copy_n(g.points + 3 * row[i], 3, r);
        if (!(usable(r[0]) && usable(r[1]) && usable(r[2]))) {
          finite = false;
          r[0] = r[1] = r[2] = 0;
        }
        wrap(lattice, centre, r, frac, shift);
        fractional[part].include(frac);
        cartesian[part].include(r);
      }
    }
  });
  if (!finite) {
    throw std::runtime_error("points: a coordinate is not a finite number");
  }
  Box box, bounds;
  for (int64_t part = 0; part < n_parts; ++part) {
    box.include(fractional[part].low);
    box.include(fractional[part].high);
    bounds.include(cartesian[part].low);
    bounds.include(cartesian[part].high);
  }

  Frame& frame = frames_[f];
  for (int64_t i = 0; i < n_atom; ++i) {
    add_images(lattice, box, rcut_, g.atoms + 3 * atom[i], atom[i], false, frame.images);
  }
  frame.type.resize(frame.images.size());
  for (int64_t i = 0; i < frame.images.size(); ++i) {
    frame.type[i] = g.atom_type ? g.atom_type[frame.images.source[i]] : 0;
  }
  frame.cells = std::make_unique<CellList>(frame.images, 0.5 * rcut_);

  // counting sort along the Morton curve, stable
  int64_t base = tiles_.empty() ? 0 : tiles_.back().first + tiles_.back().count;
  MortonGrid grid(bounds.low, bounds.high, n_row);
  std::vector<uint32_t> key(n_row);
  parallel(n_parts, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * kPart; i < std::min(n_row, end * kPart); ++i) {
      key[i] = grid.key(wrapped.data() + 3 * i);
    }
  });
  std::vector<int64_t> next(grid.n_keys + 1, 0);
  for (int64_t i = 0; i < n_row; ++i) {
    ++next[key[i] + 1];
  }
  for (int64_t k = 0; k < grid.n_keys; ++k) {
    next[k + 1] += next[k];
  }
  for (int64_t i = 0; i < n_row; ++i) {
    int64_t at = base + next[key[i]]++;
    std::copy_n(wrapped.data() + 3 * i, 3, points_.data() + 3 * at);
    row_[at] = row[i];
  }
  for (int64_t i = 0; i < n_row; i += kTilePoints) {
    tiles_.push_back({f, base + i, std::min(kTilePoints, n_row - i)});
  }
}

void Plan::load(int64_t index, int64_t width, Tile& tile) const {
  const Span& span = tiles_[index];
  const Frame& frame = frames_[span.frame];
  SortPoint sorted[kTilePoints];
  for (int64_t i = 0; i < span.count; ++i) {
    std::copy_n(points_.data() + 3 * (span.first + i), 3, sorted[i].r);
    sorted[i].row = row_[span.first + i];
  }
  sort_groups(sorted, sorted + span.count, width);
  Box bounds;
  tile.x.resize(span.count);
  tile.y.resize(span.count);
  tile.z.resize(span.count);
  tile.row.resize(span.count);
  for (int64_t i = 0; i < span.count; ++i) {
    bounds.include(sorted[i].r);
    tile.x[i] = sorted[i].r[0];
    tile.y[i] = sorted[i].r[1];
    tile.z[i] = sorted[i].r[2];
    tile.row[i] = sorted[i].row;
  }
  tile.points = {span.count, tile.x.data(), tile.y.data(), tile.z.data(), tile.row.data()};

  double low[3], high[3];
  for (int a = 0; a < 3; ++a) {
    low[a] = bounds.low[a] - rcut_;
    high[a] = bounds.high[a] + rcut_;
  }
  const Images& images = frame.images;
  double reach2 = rcut_ * rcut_ * (1 + 1e-9);
  tile.found.clear();
  tile.first.assign(n_types_ + 1, 0);
  frame.cells->query(low, high, [&](int64_t i) {
    double r[3] = {images.x[i], images.y[i], images.z[i]}, d2 = 0;
    for (int a = 0; a < 3; ++a) {
      double d = std::max({0.0, bounds.low[a] - r[a], r[a] - bounds.high[a]});
      d2 += d * d;
    }
    if (d2 < reach2) {
      tile.found.push_back(i);
      ++tile.first[frame.type[i] + 1];
    }
  });
  for (int64_t t = 0; t < n_types_; ++t) {
    tile.first[t + 1] += tile.first[t];
  }
  tile.n_candidates = static_cast<int64_t>(tile.found.size());
  tile.cx.resize(tile.n_candidates);
  tile.cy.resize(tile.n_candidates);
  tile.cz.resize(tile.n_candidates);
  tile.source.resize(tile.n_candidates);
  std::vector<int64_t> next(tile.first.begin(), tile.first.end() - 1);
  for (int64_t i : tile.found) {
    int64_t at = next[frame.type[i]]++;
    tile.cx[at] = images.x[i];
    tile.cy[at] = images.y[i];
    tile.cz[at] = images.z[i];
    tile.source[at] = images.source[i];
  }
  tile.atoms = {tile.cx.data(), tile.cy.data(), tile.cz.data(), tile.first.data(), tile.source.data()};
}

}  // namespace dcharge
