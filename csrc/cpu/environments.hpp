// Graphs of local environments (docs/architecture.md, "Local environments"): the points of a tile, one after the other,
// from lists of the atoms around every atom that all points near each other share.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/plan.hpp"

namespace dcharge {

struct EnvironmentShape {
  double reach;  // rcut + tie: atoms nearer than this are nodes
  int64_t neighbors;
  double tie;
};

// The graph of one point; node 0 is the probe, nodes 1.. are atoms sorted by (atom, shift).
struct Environment {
  struct Edge {
    double distance;
    int32_t target;  // node
    int32_t pair;    // of two atoms: number of this pair in Surroundings; -1: one end is the probe
  };
  std::vector<int64_t> atom;     // [n_nodes], -1 for the probe
  std::vector<double> distance;  // [n_nodes] from the probe
  std::vector<int32_t> first;    // [n_nodes + 1], edges of every node
  std::vector<Edge> edges;       // of a node sorted by (distance, target)
};

// Atoms (images included) around some points, and for every one of them the others by distance. Lists are made when
// they are first asked for, and the far part of one is sorted when it is first reached.
class Surroundings {
 public:
  explicit Surroundings(const EnvironmentShape& shape) : shape_(shape) {}

  // Cuts the points of a tile into parts that few atoms are near to and calls visit(first point, end) with the atoms of
  // this part in place.
  template <class Visit>
  void for_each_part(const Plan::Tile& tile, Visit visit) {
    start(tile);
    split(tile, 0, tile.points.n, visit);
  }

  // The graph of point i of the part at hand.
  void find(const Plan::Tile& tile, int64_t i, Environment& out);

  // Pairs of atoms that edges of the part's points have named so far, or since forget_pairs: distance and both atoms.
  int64_t n_pairs() const { return static_cast<int64_t>(pair_distance_.size()); }
  const double* pair_distance() const { return pair_distance_.data(); }
  const int64_t* pair_atoms() const { return pair_atoms_.data(); }  // [n_pairs, 2]: centre, neighbour
  void forget_pairs();

 private:
  static constexpr int64_t kFewAtoms = 192, kFewPoints = 4;
  static constexpr int64_t kNear = 48;  // entries of a list that are sorted at first

  struct Entry {
    double distance;
    int32_t atom, pair;  // pair -1: not named yet
  };
  struct List {
    int64_t sorted = -1;  // entries in order; -1: not made
    std::vector<Entry> entries;
  };

  void start(const Plan::Tile& tile);
  void select(const Plan::Tile& tile, int64_t begin, int64_t end, const std::vector<int64_t>& from,
              std::vector<int64_t>& to) const;
  void take(const std::vector<int64_t>& candidates, const Plan::Tile& tile);
  void make_list(int64_t atom);
  void sort_on(List& list);
  void edges_of_atom(int64_t atom, double from_probe, Environment& out);
  void edges_of_probe(Environment& out);

  template <class Visit>
  void split(const Plan::Tile& tile, int64_t begin, int64_t end, Visit& visit) {
    std::vector<int64_t> candidates;
    select(tile, begin, end, parents_.back(), candidates);
    if (static_cast<int64_t>(candidates.size()) <= kFewAtoms || end - begin <= kFewPoints) {
      take(candidates, tile);
      visit(begin, end);
      return;
    }
    parents_.push_back(std::move(candidates));
    int64_t middle = begin + ((end - begin) / kFewPoints + 1) / 2 * kFewPoints;
    split(tile, begin, middle, visit);
    split(tile, middle, end, visit);
    parents_.pop_back();
  }

  EnvironmentShape shape_;
  std::vector<std::vector<int64_t>> parents_;
  std::vector<double> x_, y_, z_;
  std::vector<int64_t> source_;
  std::vector<List> lists_;
  std::vector<int32_t> node_, members_;  // node of every atom at the point at hand or -1; atoms that are nodes
  std::vector<Environment::Edge> near_;
  std::vector<double> pair_distance_;
  std::vector<int64_t> pair_atoms_;
};

}  // namespace dcharge
