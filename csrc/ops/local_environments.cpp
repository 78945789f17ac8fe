#include <tuple>

#include "ops/environment_arguments.hpp"

namespace dcharge {
namespace {

using Graphs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Graphs of the points of one tile, one behind the other.
struct TileGraphs {
  std::vector<int64_t> row, node_end, edge_end;  // of every point: its place in the caller's arrays, ends of its parts
  std::vector<int64_t> atom;                     // of all nodes
  std::vector<int32_t> edges_of_node;
  std::vector<int32_t> target;  // node of the same point
  std::vector<double> distance;

  void add(int64_t point, const Environment& graph) {
    row.push_back(point);
    atom.insert(atom.end(), graph.atom.begin(), graph.atom.end());
    for (size_t i = 0; i < graph.atom.size(); ++i) {
      edges_of_node.push_back(graph.first[i + 1] - graph.first[i]);
    }
    for (const Environment::Edge& edge : graph.edges) {
      target.push_back(edge.target);
      distance.push_back(edge.distance);
    }
    node_end.push_back(static_cast<int64_t>(atom.size()));
    edge_end.push_back(static_cast<int64_t>(target.size()));
  }
};

Graphs local_environments(const Tensor& points, const Tensor& point_frame, const Tensor& atoms,
                          const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, double rcut,
                          int64_t neighbors, double tie) {
  GeometryTensors geometry(points, point_frame, atoms, std::nullopt, atom_frame, cell, pbc);
  EnvironmentShape shape = make_environment_shape(rcut, neighbors, tie);
  Plan plan(geometry.view(), shape.reach, 1, torch_parallel);
  std::vector<TileGraphs> tiles(plan.n_tiles());
  struct State {
    Plan::Tile tile;
    Surroundings surroundings;
    Environment graph;
  };
  for_each_dynamic(
      plan.n_tiles(), [&] { return State{{}, Surroundings(shape), {}}; },
      [&](int64_t i, State& s) {
        plan.load(i, kEnvironmentGroup, s.tile);
        s.surroundings.for_each_part(s.tile, [&](int64_t begin, int64_t end) {
          for (int64_t p = begin; p < end; ++p) {
            s.surroundings.find(s.tile, p, s.graph);
            tiles[i].add(s.tile.row[p], s.graph);
          }
        });
      });

  int64_t n = geometry.points.size(0);
  Tensor node_offset = torch::stable::new_empty(geometry.atoms, {n + 1}, ScalarType::Long);
  int64_t* first_node = mutable_data<int64_t>(node_offset);
  std::vector<int64_t> first_edge(n + 1, 0);
  std::fill_n(first_node, n + 1, int64_t(0));
  for (const TileGraphs& t : tiles) {
    for (size_t p = 0; p < t.row.size(); ++p) {
      first_node[t.row[p] + 1] = t.node_end[p] - (p ? t.node_end[p - 1] : 0);
      first_edge[t.row[p] + 1] = t.edge_end[p] - (p ? t.edge_end[p - 1] : 0);
    }
  }
  for (int64_t p = 0; p < n; ++p) {
    first_node[p + 1] += first_node[p];
    first_edge[p + 1] += first_edge[p];
  }
  int64_t n_nodes = first_node[n], n_edges = first_edge[n];
  Tensor node_atom = new_output(geometry.atoms, {n_nodes}, ScalarType::Long);
  Tensor edge_offset = new_output(geometry.atoms, {n_nodes + 1}, ScalarType::Long);
  Tensor edge_target = new_output(geometry.atoms, {n_edges}, ScalarType::Long);
  Tensor edge_distance = new_output(geometry.atoms, {n_edges}, ScalarType::Double);
  int64_t *to_atom = mutable_data<int64_t>(node_atom), *to_offset = mutable_data<int64_t>(edge_offset);
  int64_t* to_target = mutable_data<int64_t>(edge_target);
  double* to_distance = mutable_data<double>(edge_distance);
  to_offset[0] = 0;
  for_each_dynamic(
      static_cast<int64_t>(tiles.size()), [] { return 0; },
      [&](int64_t i, int) {
        TileGraphs t = std::move(tiles[i]);
        int64_t node = 0, edge = 0;
        for (size_t p = 0; p < t.row.size(); ++p) {
          int64_t start = first_node[t.row[p]], at = first_edge[t.row[p]];
          for (int64_t k = start; node < t.node_end[p]; ++node, ++k) {
            to_atom[k] = t.atom[node];
            for (int32_t e = 0; e < t.edges_of_node[node]; ++e, ++edge, ++at) {
              to_target[at] = start + t.target[edge];
              to_distance[at] = t.distance[edge];
            }
            to_offset[k + 1] = at;
          }
        }
      });
  return {node_offset, node_atom, edge_offset, edge_target, edge_distance};
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) { m.impl("local_environments", TORCH_BOX(&dcharge::local_environments)); }
