// probe_messages and its adjoint on the CPU.
#include "ops/probe_arguments.hpp"

namespace dcharge {
namespace {

constexpr int64_t kTilesPerItem = 8;       // of a prediction, at most: what one thread takes at a time
constexpr int64_t kPairsAtOnce = 1 << 14;  // that pass by one slice of the filters
constexpr int64_t kTilesPerBlock = 32;     // of an adjoint: whose pairs are held at the same time

// Rows [n_atoms, n_layers, 5, n_features] or [n_layers, 3, n_knots, n_features] as slices of features
// (cpu/kernels.hpp).
struct Packing {
  int64_t n_layers, n_features, c, n_slices;  // numbers per row of a slice, slices of one layer

  Packing(const Probe& p, int64_t width, int64_t vectors)
      : n_layers(p.n_layers), n_features(p.n_features), c(width * vectors), n_slices((n_features + c - 1) / c) {}

  // visit(packed row, row, number of features) for the rows of `groups` (atoms, knots) of `members` (states, filters);
  // place(layer, group, member): the row among the caller's.
  template <class Place, class Visit>
  void for_each_row(int64_t groups, int64_t members, Place place, Visit visit) const {
    torch_parallel(n_layers * n_slices, 1, [&](int64_t begin, int64_t end) {
      for (int64_t slice = begin; slice < end; ++slice) {
        int64_t layer = slice / n_slices, feature = slice % n_slices * c, n = std::min(c, n_features - feature);
        for (int64_t group = 0; group < groups; ++group) {
          for (int64_t member = 0; member < members; ++member) {
            visit(((slice * groups + group) * members + member) * c, place(layer, group, member) * n_features + feature,
                  n);
          }
        }
      }
    });
  }

  template <class Visit>
  void for_each_state(int64_t n_atoms, Visit visit) const {
    for_each_row(
        n_atoms, kStates,
        [&](int64_t layer, int64_t atom, int64_t k) { return (atom * n_layers + layer) * kStates + k; }, visit);
  }

  template <class Visit>
  void for_each_filter(int64_t n_knots, Visit visit) const {
    for_each_row(
        n_knots, kFilters,
        [&](int64_t layer, int64_t knot, int64_t q) { return (layer * kFilters + q) * n_knots + knot; }, visit);
  }
};

template <class T>
struct Tables {
  Packing packing;
  int64_t n_states, n_filters;  // numbers
  Scratch states, table;
  ProbeTables<T> view;

  explicit Tables(const ProbeTensors& t) : Tables(t, kernels_of<T>().width) {}

 private:
  // two vectors where no slice is half padding
  static int64_t vectors(const Probe& p, int64_t width) { return (p.n_features + width - 1) / width % 2 ? 1 : 2; }

  Tables(const ProbeTensors& t, int64_t width)
      : packing(t.probe, width, vectors(t.probe, width)),
        n_states(packing.n_layers * packing.n_slices * t.geometry.atoms.size(0) * kStates * packing.c),
        n_filters(packing.n_layers * packing.n_slices * t.probe.n_knots * kFilters * packing.c),
        states(make_scratch(n_states * sizeof(T))),
        table(make_scratch(n_filters * sizeof(T))) {
    auto pack = [&](T* to, const T* from) {
      return [to, from, c = packing.c](int64_t packed, int64_t row, int64_t n) {
        std::copy_n(from + row, n, to + packed);
        std::fill_n(to + packed + n, c - n, T(0));
      };
    };
    auto *to_states = static_cast<T*>(states.get()), *to_table = static_cast<T*>(table.get());
    packing.for_each_state(t.geometry.atoms.size(0), pack(to_states, data<T>(t.states)));
    packing.for_each_filter(t.probe.n_knots, pack(to_table, data<T>(t.table)));
    view = {to_states, to_table, t.geometry.atoms.size(0), vectors(t.probe, width)};
  }
};

// Pairs of the points of some tiles.
template <class T>
struct PairList {
  std::vector<ProbePair<T>> pair;  // as large as it ever was
  std::vector<int64_t> row, first{0};
  std::vector<double> square;

  void clear() {
    row.clear();
    first.resize(1);
  }
  int64_t size() const { return first.back(); }
  ProbePairs<T> view() const { return {static_cast<int64_t>(row.size()), row.data(), first.data(), pair.data()}; }

  void add(const Probe& probe, const Plan::Tile& tile) {
    square.resize(tile.n_candidates);
    for (int64_t i = 0; i < tile.points.n; ++i) {
      auto room = static_cast<size_t>(size() + tile.n_candidates);
      if (pair.size() < room) {
        pair.resize(2 * room);
      }
      int64_t n = kernels_of<T>().probe_pairs(probe, tile.points, i, tile.atoms, square.data(), pair.data() + size());
      row.push_back(tile.points.row[i]);
      first.push_back(size() + n);
    }
  }
};

template <class T>
Tensor run(const ProbeTensors& t) {
  Tensor out =
      new_output(t.states, {t.geometry.points.size(0), t.probe.n_layers, kComponents, t.probe.n_features}, t.dtype);
  Plan plan(t.geometry.view(), t.probe.rcut, 1, torch_parallel);
  Tables<T> tables(t);
  struct State {
    Plan::Tile tile;
    PairList<T> pairs;
  };
  int64_t share = plan.n_tiles() / (4 * torch::stable::get_num_threads());
  int64_t step = std::clamp<int64_t>(share, 1, kTilesPerItem);
  for_each_dynamic((plan.n_tiles() + step - 1) / step, [] { return State{}; },
                   [&](int64_t item, State& s) {
                     int64_t end = std::min(plan.n_tiles(), (item + 1) * step);
                     for (int64_t i = item * step; i < end; ++i) {
                       plan.load(i, kernels_of<T>().width, s.tile);
                       s.pairs.add(t.probe, s.tile);
                       if (s.pairs.size() >= kPairsAtOnce || i + 1 == end) {
                         kernels_of<T>().probe_messages(t.probe, tables.view, s.pairs.view(), mutable_data<T>(out));
                         s.pairs.clear();
                       }
                     }
                   });
  return out;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// All sums in the order of the tiles or by one thread for a slice: same bits for any number of threads.
template <class T>
Gradients run_backward(const ProbeTensors& t, const Tensor& grad, bool positions, bool parameters) {
  const KernelsOf<T>& kernels = kernels_of<T>();
  const Probe& probe = t.probe;
  int64_t n = t.geometry.points.size(0), n_atoms = t.geometry.atoms.size(0);
  Tensor g = take("grad", grad, t.dtype, {n, probe.n_layers, kComponents, probe.n_features});
  Tensor d_points = torch::stable::new_zeros(t.geometry.points, {positions ? n : 0, 3});
  Tensor d_atoms = torch::stable::new_zeros(t.geometry.atoms, {positions ? n_atoms : 0, 3});
  Plan plan(t.geometry.view(), probe.rcut, 1, torch_parallel);
  Tables<T> tables(t);
  std::vector<T> d_states(parameters ? tables.n_states : 0), d_table(parameters ? tables.n_filters : 0);
  std::vector<PairList<T>> pairs(std::min(kTilesPerBlock, plan.n_tiles()));
  std::vector<std::vector<double>> d_pairs(positions ? pairs.size() : 0);

  for (int64_t first = 0; first < plan.n_tiles(); first += kTilesPerBlock) {
    int64_t n_tiles = std::min(kTilesPerBlock, plan.n_tiles() - first);
    for_each_dynamic(
        n_tiles, [] { return Plan::Tile{}; },
        [&](int64_t i, Plan::Tile& tile) {
          plan.load(first + i, kernels.width, tile);
          pairs[i].clear();
          pairs[i].add(probe, tile);
          if (positions) {
            d_pairs[i].resize(4 * pairs[i].size());
            kernels.probe_positions(probe, tables.view, pairs[i].view(), data<T>(g), d_pairs[i].data());
          }
        });
    if (parameters) {
      for_each_dynamic(
          probe.n_layers * tables.packing.n_slices, [] { return 0; },
          [&](int64_t slice, int) {
            for (int64_t i = 0; i < n_tiles; ++i) {
              kernels.probe_parameters(probe, tables.view, pairs[i].view(), slice, data<T>(g), d_states.data(),
                                       d_table.data());
            }
          });
    }
    for (int64_t i = 0; i < n_tiles && positions; ++i) {
      for (size_t p = 0; p < pairs[i].row.size(); ++p) {
        for (int64_t e = pairs[i].first[p]; e < pairs[i].first[p + 1]; ++e) {
          for (int x = 0; x < 3; ++x) {
            mutable_data<double>(d_points)[3 * pairs[i].row[p] + x] += d_pairs[i][4 * e + x];
            mutable_data<double>(d_atoms)[3 * pairs[i].pair[e].atom + x] -= d_pairs[i][4 * e + x];
          }
        }
      }
    }
  }

  auto like = [&](const Tensor& of) {
    return torch::stable::new_empty(of, {parameters ? of.size(0) : 0, of.size(1), of.size(2), of.size(3)});
  };
  Gradients out{d_points, d_atoms, like(t.states), like(t.table)};
  if (parameters) {
    auto unpack = [&](const Tensor& to, const std::vector<T>& from) {
      return [&from, into = mutable_data<T>(to)](int64_t packed, int64_t row, int64_t count) {
        std::copy_n(from.data() + packed, count, into + row);
      };
    };
    tables.packing.for_each_state(n_atoms, unpack(std::get<2>(out), d_states));
    tables.packing.for_each_filter(probe.n_knots, unpack(std::get<3>(out), d_table));
  }
  return out;
}

Tensor probe_messages(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_frame,
                      const Tensor& cell, const Tensor& pbc, const Tensor& states, const Tensor& table, double rcut) {
  ProbeTensors t({points, point_frame, atoms, std::nullopt, atom_frame, cell, pbc}, states, table, rcut);
  return (t.dtype == ScalarType::Float ? run<float> : run<double>)(t);
}

Gradients probe_messages_backward(const Tensor& grad, const Tensor& points, const Tensor& point_frame,
                                  const Tensor& atoms, const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc,
                                  const Tensor& states, const Tensor& table, double rcut, bool positions,
                                  bool parameters) {
  ProbeTensors t({points, point_frame, atoms, std::nullopt, atom_frame, cell, pbc}, states, table, rcut);
  require(positions || parameters, "positions, parameters: at least one of the gradients expected");
  return (t.dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(t, grad, positions, parameters);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) {
  m.impl("probe_messages", TORCH_BOX(&dcharge::probe_messages));
  m.impl("probe_messages_backward", TORCH_BOX(&dcharge::probe_messages_backward));
}
