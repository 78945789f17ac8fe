// pair_messages and its adjoint on the CPU.
#include <tuple>

#include "core/cubic.hpp"
#include "cpu/messages.hpp"
#include "ops/check.hpp"

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
    require(rcut > 0, "rcut: a positive length expected");
    require(n_knots >= kFewestKnots && n_knots < (int64_t(1) << 31), "table: at least 4 knots expected");
    check_pairs();
  }

 private:
  // Python checks the same with better words.
  void check_pairs() const {
    const int64_t *first = data<int64_t>(offset), *to = data<int64_t>(atom);
    const double* d = data<double>(distance);
    bool good = first[0] == 0 && first[n_points] == n_pairs, known = true, near = true;
    for (int64_t i = 0; i < n_points; ++i) {
      good &= first[i] <= first[i + 1];
    }
    for (int64_t e = 0; e < n_pairs; ++e) {
      known &= to[e] >= 0 && to[e] < n_atoms;
      near &= d[e] >= 0 && d[e] <= rcut;
    }
    require(good, "pair_offset: values must grow from 0 to the number of pairs");
    require(known, "pair_atom: values must lie in 0.." + std::to_string(n_atoms - 1) + " (rows of sent)");
    require(near, "distance: values in 0..rcut expected");
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

// What the kernels read: padded rows, and the weight in panels of `panel` columns.
template <class T>
struct Graph {
  MessageGraph<T> view;

  Graph(const MessageTensors& t, bool adjoint) : Graph(t, adjoint, 2 * kernels_of<T>().width) {}

 private:
  int64_t hidden, features;
  PaddedRows<T> sent, received, table, bias;
  Scratch weight, weight_turned;

  static int64_t whole(int64_t n, int64_t panel) { return (n + panel - 1) / panel * panel; }

  // [padded / panel][k][panel] of w[column * column_step + i * step], i < k
  static T* panels(Scratch& memory, int64_t panel, int64_t padded, int64_t columns, int64_t k, const T* w,
                   int64_t column_step, int64_t step) {
    T *out = make_numbers<T>(memory, padded * k), *to = out;
    for (int64_t first = 0; first < padded; first += panel) {
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t column = first; column < first + panel; ++column) {
          *to++ = column < columns ? w[column * column_step + i * step] : T(0);
        }
      }
    }
    return out;
  }

  Graph(const MessageTensors& t, bool adjoint, int64_t panel)
      : hidden(whole(t.n_hidden, panel)),
        features(whole(t.n_features, panel)),
        sent(t.sent, t.n_atoms, t.n_hidden, hidden),
        received(t.received, t.n_points, t.n_hidden, hidden),
        table(t.table, t.n_knots, t.n_features, features),
        bias(t.bias, 1, t.n_features, features) {
    const T* w = data<T>(t.weight);
    T* by_hidden = panels(weight, panel, features, t.n_features, t.n_hidden, w, t.n_hidden, 1);
    T* by_feature = adjoint ? panels(weight_turned, panel, hidden, t.n_hidden, t.n_features, w, 1, t.n_hidden) : nullptr;
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
std::vector<int64_t> parts_of(const MessageTensors& t, int64_t pairs) {
  const int64_t* offset = data<int64_t>(t.offset);
  std::vector<int64_t> first{0};
  for (int64_t i = 0; i < t.n_points; ++i) {
    if (offset[i + 1] - offset[first.back()] >= pairs || i + 1 == t.n_points) {
      first.push_back(i + 1);
    }
  }
  return first;
}

template <class T>
Tensor run(const MessageTensors& t) {
  Graph<T> graph(t, false);
  const MessageGraph<T>& m = graph.view;
  const KernelsOf<T>& kernels = kernels_of<T>();
  PaddedOutput<T> out(t.received, t.n_points, t.n_features, m.features, t.dtype);
  std::vector<int64_t> first = parts_of(t, kPairsPerPart);
  for_each_dynamic(
      static_cast<int64_t>(first.size()) - 1, [&] { return make_scratch(kernels.message_scratch(m)); },
      [&](int64_t i, Scratch& scratch) {
        kernels.pair_messages(m, first[i], first[i + 1], out.rows, scratch.get());
      });
  return out.done();
}

// Every set of sums belongs to some points and is theirs alone: same bits for any number of threads.
template <class T>
Gradients run_backward(const MessageTensors& t, const Tensor& grad) {
  Graph<T> graph(t, true);
  const MessageGraph<T>& m = graph.view;
  const KernelsOf<T>& kernels = kernels_of<T>();
  PaddedRows<T> g(take("grad", grad, t.dtype, {t.n_points, t.n_features}), t.n_points, t.n_features, m.features);
  PaddedOutput<T> d_received(t.received, t.n_points, t.n_hidden, m.hidden, t.dtype);
  const int64_t sizes[] = {t.n_atoms * m.hidden, m.features * m.hidden, m.features, t.n_knots * m.features};
  int64_t size = sizes[0] + sizes[1] + sizes[2] + sizes[3];
  int64_t most = std::clamp<int64_t>(kMostSummed / size, 1, kMostSums);
  std::vector<int64_t> first = parts_of(t, std::max(kPairsPerSum, (t.n_pairs + most - 1) / most));
  int64_t n_sums = static_cast<int64_t>(first.size()) - 1;
  Scratch memory;
  T* sums = make_numbers<T>(memory, n_sums * size);
  for_each_dynamic(
      n_sums, [&] { return make_scratch(kernels.message_scratch(m)); },
      [&](int64_t i, Scratch& scratch) {
        T* sent = sums + i * size;
        T *weight = sent + sizes[0], *bias = weight + sizes[1];
        std::fill_n(sent, size, T(0));
        std::fill(d_received.rows + first[i] * m.hidden, d_received.rows + first[i + 1] * m.hidden, T(0));
        kernels.pair_messages_backward(m, g.rows, first[i], first[i + 1],
                                       {sent, d_received.rows, weight, bias, bias + sizes[2]}, scratch.get());
      });
  torch_parallel(size, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = 1; i < n_sums; ++i) {
      const T* from = sums + i * size;
      for (int64_t k = begin; k < end; ++k) {
        sums[k] += from[k];
      }
    }
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
}
