// pair_messages, filtered_sums and their adjoints on the CPU.
#include <tuple>

#include "core/cubic.hpp"
#include "cpu/messages.hpp"
#include "ops/message_arguments.hpp"

namespace dcharge {
namespace {

constexpr int64_t kPairsPerPart = 480;           // what one thread takes at a time
constexpr int64_t kPairsPerSum = 4096;           // of an adjoint, whose sums over all pairs are kept apart
constexpr int64_t kMostSums = 64;                // sets of them
constexpr int64_t kMostSummed = int64_t(1) << 24;  // numbers in all sets, unless one has more

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

struct MessageTensors {
  ScalarType dtype;
  int64_t n_points, n_atoms, n_pairs, n_hidden, n_features, n_knots;
  Tensor sent, received, offset, atom, distance, weight, bias, table;
  double rcut;

  MessageTensors(const Tensor& sent_, const Tensor& received_, const Tensor& offset_, const Tensor& atom_,
                 const Tensor& distance_, const Tensor& weight_, const Tensor& bias_, const Tensor& table_,
                 double rcut_)
      : dtype(sent_.scalar_type()),
        sent(take("sent", sent_, dtype, {-1, -1})),
        received(take("received", received_, dtype, {-1, sent.size(1)})),
        offset(take("pair_offset", offset_, ScalarType::Long, {received.size(0) + 1})),
        atom(take("pair_atom", atom_, ScalarType::Long, {-1})),
        distance(take("distance", distance_, ScalarType::Double, {atom.size(0)})),
        weight(take("weight", weight_, dtype, {-1, sent.size(1)})),
        bias(take("bias", bias_, dtype, {weight.size(0)})),
        table(take("table", table_, dtype, {-1, weight.size(0)})),
        rcut(rcut_) {
    n_points = received.size(0);
    n_atoms = sent.size(0);
    n_pairs = atom.size(0);
    n_hidden = sent.size(1);
    n_features = weight.size(0);
    n_knots = table.size(0);
    require(dtype == ScalarType::Float || dtype == ScalarType::Double, "sent: float32 or float64 expected");
    require(n_hidden >= 1 && n_features >= 1, "weight: at least one row and one column expected");
    require(n_knots >= kFewestKnots && n_knots < (int64_t(1) << 31), "table: at least 4 knots expected");
    check_pairs(offset, atom, distance, n_atoms, rcut);
  }
};

template <class T>
T* make_numbers(Scratch& memory, int64_t n) {
  memory = make_scratch(n * sizeof(T));
  return static_cast<T*>(memory.get());
}

// Rows with zeros up to `padded` columns: the tensor's own where there is nothing to add.
template <class T>
struct PaddedRows {
  Scratch memory;
  const T* rows;

  PaddedRows(const Tensor& t, int64_t n, int64_t width, int64_t padded) : rows(data<T>(t)) {
    if (width == padded) {
      return;
    }
    T* to = make_numbers<T>(memory, n * padded);
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(rows + i * width, width, to + i * padded);
      std::fill_n(to + i * padded + width, padded - width, T(0));
    }
    rows = to;
  }
};

// Rows of `padded` columns that a kernel writes, for a tensor of `width`.
template <class T>
struct PaddedOutput {
  Tensor tensor;
  Scratch memory;
  T* rows;
  int64_t n, width, padded;

  PaddedOutput(const Tensor& like, int64_t n_, int64_t width_, int64_t padded_, ScalarType dtype)
      : tensor(new_output(like, {n_, width_}, dtype)), n(n_), width(width_), padded(padded_) {
    rows = width == padded ? mutable_data<T>(tensor) : make_numbers<T>(memory, n * padded);
  }

  Tensor done() {
    if (width != padded) {
      copy_rows(rows, n, width, padded, mutable_data<T>(tensor));
    }
    return tensor;
  }

  static void copy_rows(const T* from, int64_t n, int64_t width, int64_t padded, T* to) {
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(from + i * padded, width, to + i * width);
    }
  }
};

// To what columns are padded: whole panels of a product, and whole tiles of the adjoint.
template <class T>
int64_t padding() {
  return std::max<int64_t>(kPad, 2 * kernels_of<T>().width);
}

int64_t whole(int64_t n, int64_t tile) { return (n + tile - 1) / tile * tile; }

// What the kernels read: padded rows, and the weight in panels.
template <class T>
struct Graph {
  MessageGraph<T> view;

  Graph(const MessageTensors& t, bool adjoint) : Graph(t, adjoint, padding<T>()) {}

 private:
  int64_t hidden, features;
  PaddedRows<T> sent, received, table, bias;
  Scratch weight, weight_turned;

  // [padded / 16][k][16] of w[column * column_step + i * step], i < k
  static T* panels(Scratch& memory, int64_t padded, int64_t columns, int64_t k, const T* w, int64_t column_step,
                   int64_t step) {
    T *out = make_numbers<T>(memory, padded * k), *to = out;
    for (int64_t first = 0; first < padded; first += kPad) {
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t column = first; column < first + kPad; ++column) {
          *to++ = column < columns ? w[column * column_step + i * step] : T(0);
        }
      }
    }
    return out;
  }

  Graph(const MessageTensors& t, bool adjoint, int64_t tile)
      : hidden(whole(t.n_hidden, tile)),
        features(whole(t.n_features, tile)),
        sent(t.sent, t.n_atoms, t.n_hidden, hidden),
        received(t.received, t.n_points, t.n_hidden, hidden),
        table(t.table, t.n_knots, t.n_features, features),
        bias(t.bias, 1, t.n_features, features) {
    const T* w = data<T>(t.weight);
    T* by_hidden = panels(weight, features, t.n_features, t.n_hidden, w, t.n_hidden, 1);
    T* by_feature = adjoint ? panels(weight_turned, hidden, t.n_hidden, t.n_features, w, 1, t.n_hidden) : nullptr;
    view = {t.n_hidden,
            t.n_features,
            hidden,
            features,
            t.n_knots,
            static_cast<double>(t.n_knots - 1) / t.rcut,
            sent.rows,
            received.rows,
            data<int64_t>(t.offset),
            data<int64_t>(t.atom),
            data<double>(t.distance),
            table.rows,
            bias.rows,
            by_hidden,
            by_feature};
  }
};

// First points of parts with about `pairs` pairs, and the end.
std::vector<int64_t> parts_of(const Tensor& pair_offset, int64_t pairs) {
  const int64_t* offset = data<int64_t>(pair_offset);
  int64_t n_points = pair_offset.size(0) - 1;
  std::vector<int64_t> first{0};
  for (int64_t i = 0; i < n_points; ++i) {
    if (offset[i + 1] - offset[first.back()] >= pairs || i + 1 == n_points) {
      first.push_back(i + 1);
    }
  }
  return first;
}

// out [n_points, n_features] of all parts.
template <class T>
Tensor summed(const MessageGraph<T>& m, const Tensor& offset, const Tensor& like) {
  const KernelsOf<T>& kernels = kernels_of<T>();
  PaddedOutput<T> out(like, offset.size(0) - 1, m.n_features, m.features, like.scalar_type());
  std::vector<int64_t> first = parts_of(offset, kPairsPerPart);
  for_each_dynamic(
      static_cast<int64_t>(first.size()) - 1, [&] { return make_scratch(kernels.message_scratch(m)); },
      [&](int64_t i, Scratch& scratch) {
        kernels.pair_messages(m, first[i], first[i + 1], out.rows, scratch.get());
      });
  return out.done();
}

// Sums over all pairs of `size` numbers: work(first point, end, numbers to add to, scratch). Every set of them belongs to
// some points and is theirs alone: same bits for any number of threads.
template <class T, class Work>
T* summed_apart(const MessageGraph<T>& m, const Tensor& offset, int64_t n_pairs, int64_t size, Scratch& memory,
                Work work) {
  int64_t most = std::clamp<int64_t>(kMostSummed / size, 1, kMostSums);
  std::vector<int64_t> first = parts_of(offset, std::max(kPairsPerSum, (n_pairs + most - 1) / most));
  int64_t n_sums = static_cast<int64_t>(first.size()) - 1;
  T* sums = make_numbers<T>(memory, n_sums * size);
  for_each_dynamic(
      n_sums, [&] { return make_scratch(kernels_of<T>().message_scratch(m)); },
      [&](int64_t i, Scratch& scratch) {
        std::fill_n(sums + i * size, size, T(0));
        work(first[i], first[i + 1], sums + i * size, scratch.get());
      });
  torch_parallel(size, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = 1; i < n_sums; ++i) {
      const T* from = sums + i * size;
      for (int64_t k = begin; k < end; ++k) {
        sums[k] += from[k];
      }
    }
  });
  return sums;
}

template <class T>
Tensor run(const MessageTensors& t) {
  return summed<T>(Graph<T>(t, false).view, t.offset, t.received);
}

template <class T>
Gradients run_backward(const MessageTensors& t, const Tensor& grad) {
  Graph<T> graph(t, true);
  const MessageGraph<T>& m = graph.view;
  PaddedRows<T> g(take("grad", grad, t.dtype, {t.n_points, t.n_features}), t.n_points, t.n_features, m.features);
  PaddedOutput<T> d_received(t.received, t.n_points, t.n_hidden, m.hidden, t.dtype);
  const int64_t sizes[] = {t.n_atoms * m.hidden, m.features * m.hidden, m.features, t.n_knots * m.features};
  Scratch memory;
  T* sums = summed_apart<T>(m, t.offset, t.n_pairs, sizes[0] + sizes[1] + sizes[2] + sizes[3], memory,
                            [&](int64_t first, int64_t last, T* sent, void* scratch) {
                              T *weight = sent + sizes[0], *bias = weight + sizes[1];
                              std::fill(d_received.rows + first * m.hidden, d_received.rows + last * m.hidden, T(0));
                              kernels_of<T>().pair_messages_backward(
                                  m, g.rows, first, last, {sent, d_received.rows, weight, bias, bias + sizes[2]},
                                  scratch);
                            });
  auto tensor = [&](std::vector<int64_t> shape, const T* from, int64_t n, int64_t width, int64_t padded) {
    Tensor out = new_output(t.sent, std::move(shape), t.dtype);
    PaddedOutput<T>::copy_rows(from, n, width, padded, mutable_data<T>(out));
    return out;
  };
  const T *weight = sums + sizes[0], *bias = weight + sizes[1], *table = bias + sizes[2];
  return {tensor({t.n_atoms, t.n_hidden}, sums, t.n_atoms, t.n_hidden, m.hidden), d_received.done(),
          tensor({t.n_features, t.n_hidden}, weight, t.n_features, t.n_hidden, m.hidden),
          tensor({t.n_features}, bias, 1, t.n_features, m.features),
          tensor({t.n_knots, t.n_features}, table, t.n_knots, t.n_features, m.features)};
}

struct FilteredTensors {
  ScalarType dtype;
  int64_t n_atoms, n_features, n_knots;
  Tensor sent, offset, atom, distance, table;
  double rcut;

  FilteredTensors(const Tensor& sent_, const Tensor& offset_, const Tensor& atom_, const Tensor& distance_,
                  const Tensor& table_, double rcut_)
      : dtype(sent_.scalar_type()),
        sent(take("sent", sent_, dtype, {-1, -1})),
        offset(take("pair_offset", offset_, ScalarType::Long, {-1})),
        atom(take("pair_atom", atom_, ScalarType::Long, {-1})),
        distance(take("distance", distance_, ScalarType::Double, {atom.size(0)})),
        table(take("table", table_, dtype, {-1, sent.size(1)})),
        rcut(rcut_) {
    n_atoms = sent.size(0);
    n_features = sent.size(1);
    n_knots = table.size(0);
    require(dtype == ScalarType::Float || dtype == ScalarType::Double, "sent: float32 or float64 expected");
    require(n_features >= 1, "sent: at least one column expected");
    require(offset.size(0) >= 1, "pair_offset: at least one number expected");
    require(n_knots >= kFewestKnots && n_knots < (int64_t(1) << 31), "table: at least 4 knots expected");
    check_pairs(offset, atom, distance, n_atoms, rcut);
  }
};

template <class T>
struct FilteredGraph {
  int64_t features;
  PaddedRows<T> sent, table;
  MessageGraph<T> view{};

  explicit FilteredGraph(const FilteredTensors& t)
      : features(whole(t.n_features, padding<T>())),
        sent(t.sent, t.n_atoms, t.n_features, features),
        table(t.table, t.n_knots, t.n_features, features) {
    view.n_features = t.n_features;
    view.features = features;
    view.n_knots = t.n_knots;
    view.per_knot = static_cast<double>(t.n_knots - 1) / t.rcut;
    view.sent = sent.rows;
    view.offset = data<int64_t>(t.offset);
    view.atom = data<int64_t>(t.atom);
    view.distance = data<double>(t.distance);
    view.table = table.rows;
  }
};

template <class T>
Tensor run_filtered(const FilteredTensors& t) {
  return summed<T>(FilteredGraph<T>(t).view, t.offset, t.sent);
}

template <class T>
std::tuple<Tensor, Tensor> run_filtered_backward(const FilteredTensors& t, const Tensor& grad) {
  FilteredGraph<T> graph(t);
  const MessageGraph<T>& m = graph.view;
  int64_t n_points = t.offset.size(0) - 1, n_sent = t.n_atoms * m.features;
  PaddedRows<T> g(take("grad", grad, t.dtype, {n_points, t.n_features}), n_points, t.n_features, m.features);
  Scratch memory;
  T* sums = summed_apart<T>(m, t.offset, t.atom.size(0), n_sent + t.n_knots * m.features, memory,
                            [&](int64_t first, int64_t last, T* sent, void* scratch) {
                              kernels_of<T>().pair_messages_backward(
                                  m, g.rows, first, last, {sent, nullptr, nullptr, nullptr, sent + n_sent}, scratch);
                            });
  auto tensor = [&](int64_t n, const T* from) {
    Tensor out = new_output(t.sent, {n, t.n_features}, t.dtype);
    PaddedOutput<T>::copy_rows(from, n, t.n_features, m.features, mutable_data<T>(out));
    return out;
  };
  return {tensor(t.n_atoms, sums), tensor(t.n_knots, sums + n_sent)};
}

Tensor filtered_sums(const Tensor& sent, const Tensor& offset, const Tensor& atom, const Tensor& distance,
                     const Tensor& table, double rcut) {
  FilteredTensors t(sent, offset, atom, distance, table, rcut);
  return (t.dtype == ScalarType::Float ? run_filtered<float> : run_filtered<double>)(t);
}

std::tuple<Tensor, Tensor> filtered_sums_backward(const Tensor& grad, const Tensor& sent, const Tensor& offset,
                                                  const Tensor& atom, const Tensor& distance, const Tensor& table,
                                                  double rcut) {
  FilteredTensors t(sent, offset, atom, distance, table, rcut);
  if (t.atom.size(0) == 0) {
    return {torch::stable::new_zeros(t.sent, {t.n_atoms, t.n_features}),
            torch::stable::new_zeros(t.table, {t.n_knots, t.n_features})};
  }
  return (t.dtype == ScalarType::Float ? run_filtered_backward<float> : run_filtered_backward<double>)(t, grad);
}

Tensor pair_messages(const Tensor& sent, const Tensor& received, const Tensor& offset, const Tensor& atom,
                     const Tensor& distance, const Tensor& weight, const Tensor& bias, const Tensor& table,
                     double rcut) {
  MessageTensors t(sent, received, offset, atom, distance, weight, bias, table, rcut);
  if (t.n_pairs == 0) {
    return torch::stable::new_zeros(t.received, {t.n_points, t.n_features});
  }
  return (t.dtype == ScalarType::Float ? run<float> : run<double>)(t);
}

Gradients pair_messages_backward(const Tensor& grad, const Tensor& sent, const Tensor& received, const Tensor& offset,
                                 const Tensor& atom, const Tensor& distance, const Tensor& weight, const Tensor& bias,
                                 const Tensor& table, double rcut) {
  MessageTensors t(sent, received, offset, atom, distance, weight, bias, table, rcut);
  if (t.n_pairs == 0) {
    auto zeros = [](const Tensor& of, std::vector<int64_t> shape) { return torch::stable::new_zeros(of, shape); };
    return {zeros(t.sent, {t.n_atoms, t.n_hidden}), zeros(t.received, {t.n_points, t.n_hidden}),
            zeros(t.weight, {t.n_features, t.n_hidden}), zeros(t.bias, {t.n_features}),
            zeros(t.table, {t.n_knots, t.n_features})};
  }
  return (t.dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(t, grad);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) {
  m.impl("pair_messages", TORCH_BOX(&dcharge::pair_messages));
  m.impl("pair_messages_backward", TORCH_BOX(&dcharge::pair_messages_backward));
  m.impl("filtered_sums", TORCH_BOX(&dcharge::filtered_sums));
  m.impl("filtered_sums_backward", TORCH_BOX(&dcharge::filtered_sums_backward));
}
