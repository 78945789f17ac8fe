// How a call over many points is cut: per frame explicit periodic images of the atoms in a cell list, points in
// spatial order, tiles of a few hundred points that share one list of candidate atoms. No list is stored for points.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/arguments.hpp"
#include "core/cell_list.hpp"
#include "core/lattice.hpp"
#include "cpu/kernels.hpp"

namespace dcharge {

// Runs body(begin, end) over parts of [0, n), possibly at once; results may not depend on the cut.
using ParallelFor = std::function<void(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body)>;

constexpr int64_t kTilePoints = 512;

class Plan {
 public:
  // Raises std::runtime_error naming the argument where an index is out of range or a coordinate is not finite.
  Plan(const Geometry& geometry, double rcut, int64_t n_types, const ParallelFor& parallel);

  int64_t n_tiles() const { return static_cast<int64_t>(tiles_.size()); }

  // Buffers of one thread, reused from tile to tile.
  struct Tile {
    TilePoints points;
    Candidates atoms;
    int64_t n_candidates;
    std::vector<int64_t> source;  // atom of every candidate

    std::vector<double> x, y, z, cx, cy, cz;
    std::vector<int64_t> row, first, found;
  };

  // Fills `tile` with the points and candidates of tile i; groups of `width` consecutive points are compact.
  void load(int64_t i, int64_t width, Tile& tile) const;

 private:
  struct Frame {
    Images images;
    std::vector<int64_t> type;
    std::unique_ptr<CellList> cells;
  };
  struct Span {
    int64_t frame, first, count;
  };

  void add_frame(const Geometry& g, int64_t frame, const int64_t* row, int64_t n_row, const int64_t* atom,
                 int64_t n_atom, const ParallelFor& parallel);

  double rcut_;
  int64_t n_types_;
  std::vector<Frame> frames_;
  std::vector<Span> tiles_;
  std::vector<double> points_;  // wrapped, in spatial order [n_points, 3]
  std::vector<int64_t> row_;    // place of every point in the caller's arrays
};

}  // namespace dcharge
