// crystal_network on the CPU: graphs of local environments and the layers behind them, without leaving the caches.
#include <tuple>

#include "core/cubic.hpp"
#include "cpu/crystal.hpp"
#include "ops/environment_arguments.hpp"

namespace dcharge {
namespace {

constexpr int64_t kNodesAtOnce = 256;              // of a batch of points, in round numbers
constexpr int64_t kPairBytes = int64_t(32) << 20;  // of what is kept of pairs of atoms, less the last batch's

// The graphs of some points as the kernels take them.
struct BatchGraphs {
  std::vector<int64_t> row;
  std::vector<int32_t> node_offset, species, pair_offset, pair_target, pair, probe_offset, probe_target;
  std::vector<double> distance;
  std::vector<uint8_t> near;

  BatchGraphs() { clear(); }

  void clear() {
    for (auto* part : {&species, &pair_target, &pair, &probe_target}) {
      part->clear();
    }
    for (auto* part : {&node_offset, &pair_offset, &probe_offset}) {
      part->assign(1, 0);
    }
    row.clear();
    distance.clear();
    near.clear();
  }

  int64_t n_nodes() const { return node_offset.back(); }

  void add(int64_t point, const Environment& graph, const int64_t* atom_type, int64_t n_species) {
    int32_t start = node_offset.back(), n = static_cast<int32_t>(graph.atom.size());
    row.push_back(point);
    node_offset.push_back(start + n);
    near.resize(start + n, 0);
    for (int32_t i = 0; i < n; ++i) {
      species.push_back(static_cast<int32_t>(i ? atom_type[graph.atom[i]] : n_species));
      distance.push_back(graph.distance[i]);
      for (int32_t e = graph.first[i]; e < graph.first[i + 1]; ++e) {
        const Environment::Edge& edge = graph.edges[e];
        if (edge.pair >= 0) {
          pair_target.push_back(start + edge.target);
          pair.push_back(edge.pair);
        } else {
          probe_target.push_back(start + edge.target);
          near[start + (i ? i : edge.target)] = 1;
        }
      }
      pair_offset.push_back(static_cast<int32_t>(pair.size()));
      probe_offset.push_back(static_cast<int32_t>(probe_target.size()));
    }
  }

  CrystalBatch view() const {
    return {static_cast<int64_t>(row.size()),
            n_nodes(),
            node_offset.data(),
            species.data(),
            distance.data(),
            near.data(),
            pair_offset.data(),
            pair_target.data(),
            pair.data(),
            probe_offset.data(),
            probe_target.data()};
  }
};

// Tables of the pairs of atoms of some points, which grow as graphs name pairs.
template <class T>
class PairTables {
 public:
  explicit PairTables(const CrystalNetwork<T>& network)
      : network_(network), terms_(network.n_layers - 1), at_(network.n_layers - 1), view_{nullptr, at_.data()} {}

  void clear() { done_ = 0; }
  bool full() const { return done_ * (2 * network_.n_layers - 1) * network_.padded * int64_t(sizeof(T)) > kPairBytes; }

  void grow(const Surroundings& around, const int64_t* atom_type) {
    int64_t n = around.n_pairs();
    if (n == done_) {
      return;
    }
    auto room = [n](std::vector<T>& rows, int64_t width) {
      if (rows.size() < static_cast<size_t>(n * width)) {
        rows.resize(2 * n * width);
      }
      return rows.data();
    };
    for (size_t layer = 0; layer < terms_.size(); ++layer) {
      at_[layer] = room(terms_[layer], 2 * network_.padded);
    }
    view_ = {room(message_, network_.padded), at_.data()};
    species_.clear();
    for (int64_t i = 2 * done_; i < 2 * n; ++i) {
      species_.push_back(static_cast<int32_t>(atom_type[around.pair_atoms()[i]]));
    }
    kernels_of<T>().crystal_pairs(network_, done_, n - done_, around.pair_distance() + done_, species_.data(), view_);
    done_ = n;
  }

  const CrystalPairs<T>& view() const { return view_; }

 private:
  const CrystalNetwork<T>& network_;
  std::vector<T> message_;
  std::vector<std::vector<T>> terms_;
  std::vector<T*> at_;
  std::vector<int32_t> species_;
  CrystalPairs<T> view_;
  int64_t done_ = 0;
};

// What one thread works with.
template <class T>
struct State {
  Plan::Tile tile;
  Surroundings surroundings;
  Environment graph;
  BatchGraphs batch;
  PairTables<T> pairs;
  Scratch scratch{nullptr};
  int64_t room = 0;  // nodes that the scratch is for
  std::vector<T> out;

  State(const EnvironmentShape& shape, const CrystalNetwork<T>& network) : surroundings(shape), pairs(network) {}

  void run(const CrystalNetwork<T>& network, const int64_t* atom_type, int64_t width, T* to, int64_t* n_nodes) {
    const KernelsOf<T>& kernels = kernels_of<T>();
    pairs.grow(surroundings, atom_type);
    if (batch.n_nodes() > room) {
      room = batch.n_nodes() + kNodesAtOnce;
      scratch = make_scratch(kernels.crystal_network_scratch(network, room));
    }
    out.resize(batch.row.size() * width);
    kernels.crystal_network(network, pairs.view(), batch.view(), out.data(), scratch.get());
    for (size_t p = 0; p < batch.row.size(); ++p) {
      std::copy_n(out.data() + p * width, width, to + batch.row[p] * width);
      n_nodes[batch.row[p]] = batch.node_offset[p + 1] - batch.node_offset[p];
    }
    batch.clear();
    if (pairs.full()) {
      surroundings.forget_pairs();
      pairs.clear();
    }
  }
};

using Means = std::tuple<Tensor, Tensor>;

template <class T>
Means run(const GeometryTensors& g, const EnvironmentShape& shape, const CrystalNetwork<T>& network, int64_t n_species,
          ScalarType dtype) {
  int64_t n_means = network.all_layers ? network.n_layers + 1 : 1, width = n_means * network.n_features;
  Tensor out = new_output(g.points, {g.points.size(0), n_means, network.n_features}, dtype);
  Tensor count = new_output(g.points, {g.points.size(0)}, ScalarType::Long);
  const int64_t* atom_type = data<int64_t>(*g.atom_type);
  Geometry untyped = g.view();  // candidates in the order of the images
  untyped.atom_type = nullptr;
  Plan plan(untyped, shape.reach, 1, torch_parallel);
  T* to = mutable_data<T>(out);
  int64_t* n_nodes = mutable_data<int64_t>(count);
  for_each_dynamic(
      plan.n_tiles(), [&] { return std::make_unique<State<T>>(shape, network); },
      [&](int64_t i, std::unique_ptr<State<T>>& state) {
        State<T>& s = *state;
        plan.load(i, kEnvironmentGroup, s.tile);
        s.surroundings.for_each_part(s.tile, [&](int64_t begin, int64_t end) {
          s.pairs.clear();
          for (int64_t p = begin; p < end; ++p) {
            s.surroundings.find(s.tile, p, s.graph);
            s.batch.add(s.tile.row[p], s.graph, atom_type, n_species);
            if (s.batch.n_nodes() >= kNodesAtOnce || p + 1 == end) {
              s.run(network, atom_type, width, to, n_nodes);
            }
          }
        });
      });
  return {out, count};
}

Means crystal_network(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
                      const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, const Tensor& state,
                      const Tensor& center, const Tensor& neighbor, const Tensor& weights, const Tensor& bias,
                      const Tensor& table, const Tensor& scale, const Tensor& shift, int64_t n_features,
                      bool all_layers, double cutoff, double rcut, int64_t neighbors, double tie) {
  GeometryTensors geometry(points, point_frame, atoms, atom_type, atom_frame, cell, pbc);
  EnvironmentShape shape = make_environment_shape(rcut, neighbors, tie);
  ScalarType dtype = state.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "state: float32 or float64 expected");
  require(cutoff >= 2 * shape.reach * (1 - 1e-12), "cutoff: at least 2 (rcut + tie) expected");
  int64_t padded = (n_features + kPad - 1) / kPad * kPad;
  require(n_features >= 1 && padded <= kMostCrystalFeatures, "n_features: out of range");
  Tensor x = take("state", state, dtype, {-1, padded});
  Tensor tables = take("table", table, dtype, {-1, -1, 2 * padded});
  int64_t rows = x.size(0), n_layers = tables.size(0), n_knots = tables.size(1);
  require(rows >= 1, "state: a row for the probe expected");
  for (int64_t i = 0; i < geometry.atoms.size(0); ++i) {
    int64_t type = data<int64_t>(*geometry.atom_type)[i];
    require(type >= 0 && type < rows - 1, "atom_type: values must lie in 0.." + std::to_string(rows - 2));
  }
  require(n_layers >= 1 && n_knots >= kFewestKnots && n_knots < (int64_t(1) << 31), "table: wrong shape");
  Tensor c = take("center", center, dtype, {rows, 2 * padded}),
         n = take("neighbor", neighbor, dtype, {rows, 2 * padded});
  Tensor w = take("weights", weights, dtype, {n_layers - 1, 4 * padded / kPad, n_features, kPad});
  Tensor b = take("bias", bias, dtype, {n_layers - 1, 4 * padded});
  Tensor factor = take("scale", scale, dtype, {n_layers, padded}),
         added = take("shift", shift, dtype, {n_layers, padded});
  auto call = [&](auto zero) {
    using T = decltype(zero);
    CrystalNetwork<T> network{
        n_layers,   n_features,      padded,          n_knots,       static_cast<double>(n_knots - 1) / cutoff,
        all_layers, data<T>(x),      data<T>(c),      data<T>(n),    data<T>(w),
        data<T>(b), data<T>(tables), data<T>(factor), data<T>(added)};
    return run<T>(geometry, shape, network, rows - 1, dtype);
  };
  return dtype == ScalarType::Float ? call(float{}) : call(double{});
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) { m.impl("crystal_network", TORCH_BOX(&dcharge::crystal_network)); }
