// pair_messages, its adjoint and message_network on the CPU, for blocks of pairs whose hidden values stay in the second-level cache: a
// pair's softplus, the matrix product of the block, the filters, the sum over a point's pairs.
#include "cpu/messages.hpp"

#include "core/cubic.hpp"
#include "cpu/kernels/dense.hpp"
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/gate.hpp"
#include "cpu/kernels/tile.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr int64_t kPairsAtOnce = 48;  // a multiple of kSumRows for all instruction sets

template <class T>
struct MessagePair {
  T weight[4];     // of the four rows of the table
  const T* knots;  // the first of them
  int64_t knot, point, atom;
};

// Where a block of pairs is worked on. Rows are a cache line longer than a power of two, else they share their places
// in the first-level cache.
template <class T>
struct MessageBlock {
  const MessageGraph<T>& m;
  int64_t n = 0, rows = 0;          // pairs, and whole groups of rows of a product
  int64_t hidden_row, feature_row;  // from row to row
  T *hidden, *slope, *node;         // hidden values, their slopes, the node network's output
  MessagePair<T> pair[kPairsAtOnce];

  static size_t bytes(const MessageGraph<T>& m) {
    return kPairsAtOnce * (2 * (m.hidden + kPad) + m.features + kPad) * sizeof(T);
  }

  MessageBlock(const MessageGraph<T>& graph, void* memory)
      : m(graph), hidden_row(m.hidden + kPad), feature_row(m.features + kPad) {
    hidden = static_cast<T*>(memory);
    slope = hidden + kPairsAtOnce * hidden_row;
    node = slope + kPairsAtOnce * hidden_row;
  }

  // Pairs first .. first + n - 1; `point` is that of the first pair or one before, then that of the last.
  void take(int64_t first, int64_t end, int64_t& point) {
    n = end - first < kPairsAtOnce ? end - first : kPairsAtOnce;
    rows = whole_rows(n, kSumRows<T>);
    for (int64_t r = 0; r < n; ++r) {
      MessagePair<T>& p = pair[r];
      while (m.offset[point + 1] <= first + r) {
        ++point;
      }
      double s, weight[4];
      p.point = point;
      p.atom = m.atom[first + r];
      p.knot = first_knot(m.distance[first + r] * m.per_knot, m.n_knots, &s);
      p.knots = m.table + p.knot * m.features;
      cubic_weights(s, weight);
      for (int k = 0; k < 4; ++k) {
        p.weight[k] = static_cast<T>(weight[k]);
      }
    }
  }

  // Softplus of the first layer, shifted, and its slopes; zeros beyond the last pair.
  template <bool Slopes>
  void fill_hidden() {
    for (int64_t r = 0; r < n; ++r) {
      const T *sent = m.sent + pair[r].atom * m.hidden, *received = m.received + pair[r].point * m.hidden;
      T *to = hidden + r * hidden_row, *slopes = slope + r * hidden_row;
      for (int64_t c = 0; c < m.hidden; c += kLanes<T>) {
        Vec<T> x = T(kPerLn2) * (load<T>(sent + c) + load<T>(received + c)), value;
        if constexpr (Slopes) {
          Vec<T> s;
          value = softplus_with_slope<T>(x, s);
          store<T>(slopes + c, s);
        } else {
          value = softplus_of<T>(x);
        }
        store<T>(to + c, T(kLn2) * (value - T(1)));
      }
    }
    __builtin_memset(hidden + n * hidden_row, 0, (rows - n) * hidden_row * sizeof(T));
  }

  void fill_node() {
    rows_by_panels<T>(
        hidden, hidden_row, rows, m.weight, m.features / kPad, m.n_hidden, [&](int64_t c) { return load<T>(m.bias + c); },
        [&](int64_t r, int64_t c, Vec<T> v) { store<T>(node + r * feature_row + c, v); });
  }
};

template <class T>
struct Filter {
  Vec<T> weight[4];
  const T* knots;
  int64_t row;

  Filter(const MessagePair<T>& p, int64_t features) : knots(p.knots), row(features) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      weight[k] = set1(p.weight[k]);
    }
  }

  Vec<T> operator()(int64_t feature) const {
    Vec<T> sum = weight[0] * load<T>(knots + feature);
#pragma GCC unroll 4
    for (int k = 1; k < 4; ++k) {
      sum += weight[k] * load<T>(knots + k * row + feature);
    }
    return sum;
  }
};

template <class T>
DCHARGE_INLINE void add_to(T* p, Vec<T> v) {
  store<T>(p, load<T>(p) + v);
}

// What is left without a hidden layer: out_i = sum_j w(r_ij) sent_j.
template <class T>
void filtered_sums(const MessageGraph<T>& m, int64_t first, int64_t last, T* out, void* scratch) {
  MessageBlock<T> block(m, scratch);
  int64_t end = m.offset[last], point = first;
  for (int64_t e = m.offset[first]; e < end; e += block.n) {
    block.take(e, end, point);
    for (int64_t r = 0; r < block.n; ++r) {
      Filter<T> filter(block.pair[r], m.features);
      const T* sent = m.sent + block.pair[r].atom * m.features;
      T* to = out + block.pair[r].point * m.features;
      for (int64_t f = 0; f < m.features; f += kLanes<T>) {
        add_to<T>(to + f, load<T>(sent + f) * filter(f));
      }
    }
  }
}

template <class T>
void filtered_sums_backward(const MessageGraph<T>& m, const T* grad, int64_t first, int64_t last,
                            const MessageGradients<T>& d, void* scratch) {
  MessageBlock<T> block(m, scratch);
  int64_t end = m.offset[last], point = first;
  for (int64_t e = m.offset[first]; e < end; e += block.n) {
    block.take(e, end, point);
    for (int64_t r = 0; r < block.n; ++r) {
      Filter<T> filter(block.pair[r], m.features);
      const T *g = grad + block.pair[r].point * m.features, *sent = m.sent + block.pair[r].atom * m.features;
      T *d_sent = d.sent + block.pair[r].atom * m.features, *knots = d.table + block.pair[r].knot * m.features;
      for (int64_t f = 0; f < m.features; f += kLanes<T>) {
        Vec<T> of = load<T>(g + f), d_filter = of * load<T>(sent + f);
        add_to<T>(d_sent + f, of * filter(f));
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          add_to<T>(knots + k * m.features + f, filter.weight[k] * d_filter);
        }
      }
    }
  }
}

// Shifted softplus: ln(1 + e^x) - ln 2.
template <class T>
DCHARGE_INLINE Vec<T> shifted_softplus(Vec<T> x) {
  return T(kLn2) * (softplus_of<T>(T(kPerLn2) * x) - T(1));
}

template <class T>
DCHARGE_INLINE Vec<T> sigmoid(Vec<T> x) {
  return reciprocal(T(1) + growth(T(-kPerLn2) * x));
}

// What the points of a block of message_network need: states, the receiver's part of their messages, hidden values of the
// gate, sums of messages, two more; and a block of pairs.
template <class T>
struct NetworkScratch {
  T *state, *received, *gate, *sum, *hidden, *next;
  void* pairs;
  int64_t bytes = 0;

  NetworkScratch(const MessageNetwork<T>& n, void* memory) {
    auto* at = static_cast<char*>(memory);
    auto part = [&](T*& pointer, int64_t width) {
      pointer = reinterpret_cast<T*>(at + bytes);
      bytes += kMessagePoints * (width + kPad) * int64_t(sizeof(T));
    };
    part(state, n.features);
    part(received, n.hidden);
    part(gate, n.features);
    part(sum, n.features);
    part(hidden, n.features);
    part(next, n.features);
    pairs = at + bytes;
    MessageGraph<T> graph{};
    graph.hidden = n.hidden;
    graph.features = n.features;
    bytes += static_cast<int64_t>(MessageBlock<T>::bytes(graph));
  }
};

}  // namespace

template <class T>
size_t message_network_scratch(const MessageNetwork<T>& n) {
  return static_cast<size_t>(NetworkScratch<T>(n, nullptr).bytes);
}

template <class T>
void message_network(const MessageNetwork<T>& n, int64_t first, int64_t last, T* out, void* scratch) {
  NetworkScratch<T> m(n, scratch);
  int64_t F = n.features, H = n.hidden, count = last - first, rows = whole_rows(count, kSumRows<T>);
  MessageGraph<T> graph{};
  graph.n_hidden = graph.hidden = H;
  graph.n_features = graph.features = F;
  graph.n_knots = n.n_knots;
  graph.per_knot = n.per_knot;
  graph.received = m.received;
  graph.offset = n.offset + first;
  graph.atom = n.atom;
  graph.distance = n.distance;
  const T *w = n.weights, *v = n.vectors;
  // start(c) + x . w of all rows; then the next weights
  auto product = [&](const T* x, int64_t columns, int64_t k, auto finish) {
    rows_by_panels<T>(x, k, rows, w, columns / kPad, k, [&](int64_t c) { return load<T>(v + c); }, finish);
    w += columns * k;
    v += columns;
  };
  __builtin_memset(m.sum + count * F, 0, (rows - count) * F * sizeof(T));
  for (int64_t layer = 0; layer < n.n_layers; ++layer) {
    graph.sent = n.first;
    if (layer > 0) {
      product(m.state, H + F, F, [&](int64_t r, int64_t c, Vec<T> x) {
        if (c < H) {
          store<T>(m.received + r * H + c, x);
        } else {
          store<T>(m.gate + r * F + c - H, shifted_softplus<T>(x));
        }
      });
      graph.sent = n.sent + (layer - 1) * n.n_atoms * H;
      graph.weight = w;
      graph.bias = v;
      w += F * H;
      v += F;
    }
    graph.table = n.table + layer * n.n_knots * F;
    pair_messages<T>(graph, 0, count, m.sum, m.pairs);
    product(m.sum, F, F, [&](int64_t r, int64_t c, Vec<T> x) { store<T>(m.hidden + r * F + c, shifted_softplus<T>(x)); });
    if (layer == 0) {  // without a state the gate is the same for all points: v holds how much is let through
      const T* open = v + F;
      product(m.hidden, F, F, [&](int64_t r, int64_t c, Vec<T> x) { store<T>(m.state + r * F + c, x * load<T>(open + c)); });
      v += F;
    } else {
      product(m.hidden, F, F, [&](int64_t r, int64_t c, Vec<T> x) { store<T>(m.next + r * F + c, x); });
      product(m.gate, F, F, [&](int64_t r, int64_t c, Vec<T> x) {
        Vec<T> to = load<T>(m.next + r * F + c);
        T* state = m.state + r * F + c;
        store<T>(state, to + sigmoid<T>(x) * (load<T>(state) - to));
      });
    }
  }
  __builtin_memcpy(out + first * F, m.state, count * F * sizeof(T));
}

template <class T>
size_t message_scratch(const MessageGraph<T>& m) {
  return MessageBlock<T>::bytes(m);
}

template <class T>
void pair_messages(const MessageGraph<T>& m, int64_t first, int64_t last, T* out, void* scratch) {
  __builtin_memset(out + first * m.features, 0, (last - first) * m.features * sizeof(T));
  if (m.weight == nullptr) {
    filtered_sums(m, first, last, out, scratch);
    return;
  }
  MessageBlock<T> block(m, scratch);
  int64_t end = m.offset[last], point = first;
  for (int64_t e = m.offset[first]; e < end; e += block.n) {
    block.take(e, end, point);
    block.template fill_hidden<false>();
    block.fill_node();
    for (int64_t r = 0; r < block.n; ++r) {
      Filter<T> filter(block.pair[r], m.features);
      const T* node = block.node + r * block.feature_row;
      T* to = out + block.pair[r].point * m.features;
      for (int64_t f = 0; f < m.features; f += kLanes<T>) {
        add_to<T>(to + f, load<T>(node + f) * filter(f));
      }
    }
  }
}

template <class T>
void pair_messages_backward(const MessageGraph<T>& m, const T* grad, int64_t first, int64_t last,
                            const MessageGradients<T>& d, void* scratch) {
  if (m.weight == nullptr) {
    filtered_sums_backward(m, grad, first, last, d, scratch);
    return;
  }
  MessageBlock<T> block(m, scratch);
  int64_t end = m.offset[last], point = first;
  for (int64_t e = m.offset[first]; e < end; e += block.n) {
    block.take(e, end, point);
    block.template fill_hidden<true>();
    block.fill_node();
    for (int64_t r = 0; r < block.n; ++r) {  // node becomes its gradient
      Filter<T> filter(block.pair[r], m.features);
      const T* g = grad + block.pair[r].point * m.features;
      T *node = block.node + r * block.feature_row, *knots = d.table + block.pair[r].knot * m.features;
      for (int64_t f = 0; f < m.features; f += kLanes<T>) {
        Vec<T> of = load<T>(g + f), d_filter = of * load<T>(node + f), d_node = of * filter(f);
        store<T>(node + f, d_node);
        add_to<T>(d.bias + f, d_node);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          add_to<T>(knots + k * m.features + f, filter.weight[k] * d_filter);
        }
      }
    }
    add_columns_by_columns<T>(block.node, block.feature_row, m.features, block.hidden, block.hidden_row, m.hidden,
                              block.n, d.weight);
    rows_by_panels<T>(
        block.node, block.feature_row, block.rows, m.weight_turned, m.hidden / kPad, m.n_features,
        [](int64_t) { return Vec<T>{}; },
        [&](int64_t r, int64_t c, Vec<T> v) {
          T* slope = block.slope + r * block.hidden_row + c;
          store<T>(slope, v * load<T>(slope));
        });
    for (int64_t r = 0; r < block.n; ++r) {
      T *sent = d.sent + block.pair[r].atom * m.hidden, *received = d.received + block.pair[r].point * m.hidden;
      const T* slope = block.slope + r * block.hidden_row;
      for (int64_t c = 0; c < m.hidden; c += kLanes<T>) {
        Vec<T> d_hidden = load<T>(slope + c);
        add_to<T>(sent + c, d_hidden);
        add_to<T>(received + c, d_hidden);
      }
    }
  }
}

#define DCHARGE_MESSAGES(T)                                                                      \
  template size_t message_scratch<T>(const MessageGraph<T>&);                                    \
  template void pair_messages<T>(const MessageGraph<T>&, int64_t, int64_t, T*, void*);           \
  template void pair_messages_backward<T>(const MessageGraph<T>&, const T*, int64_t, int64_t,    \
                                          const MessageGradients<T>&, void*);                    \
  template size_t message_network_scratch<T>(const MessageNetwork<T>&);                          \
  template void message_network<T>(const MessageNetwork<T>&, int64_t, int64_t, T*, void*);
DCHARGE_MESSAGES(float)
DCHARGE_MESSAGES(double)

}  // namespace DCHARGE_ISA
}  // namespace dcharge
