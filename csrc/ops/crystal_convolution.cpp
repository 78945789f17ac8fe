// crystal_convolution and its adjoint on the CPU.
#include <tuple>

#include "cpu/crystal.hpp"
#include "ops/crystal_arguments.hpp"

namespace dcharge {
namespace {

constexpr int64_t kNodesAtOnce = 64;  // what one thread takes at a time

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

// Python checks the same with better words.
void check_edges(const CrystalTensors& t, double cutoff) {
  const int64_t *first = data<int64_t>(t.edge_offset), *to = data<int64_t>(t.edge_target);
  const double* d = data<double>(t.edge_distance);
  int64_t n_edges = t.edge_target.size(0);
  bool good = first[0] == 0 && first[t.n_nodes] == n_edges, known = true, near = true;
  for (int64_t i = 0; i < t.n_nodes; ++i) {
    good &= first[i] <= first[i + 1];
  }
  for (int64_t e = 0; e < n_edges; ++e) {
    known &= to[e] >= 0 && to[e] < t.n_nodes;
    near &= d[e] >= 0 && d[e] <= cutoff;
  }
  require(good, "edge_offset: values must grow from 0 to the number of edges");
  require(known, "edge_target: values must lie in 0.." + std::to_string(t.n_nodes - 1) + " (nodes of center)");
  require(near, "edge_distance: values in 0..cutoff expected");
}

template <class T>
CrystalGraph<T> make_graph(const CrystalTensors& t) {
  return {t.n_nodes,
          t.width / 2,
          t.table.size(0),
          t.per_knot,
          data<T>(t.center),
          data<T>(t.neighbor),
          data<T>(t.table),
          t.center.stride(0),
          t.neighbor.stride(0),
          data<int64_t>(t.edge_offset),
          data<int64_t>(t.edge_target),
          data<double>(t.edge_distance)};
}

template <class T>
Tensor run(const CrystalTensors& t) {
  Tensor out = new_output(t.center, {t.n_nodes, t.width / 2}, t.dtype);
  CrystalGraph<T> graph = make_graph<T>(t);
  for_each_dynamic((t.n_nodes + kNodesAtOnce - 1) / kNodesAtOnce, [] { return 0; },
                   [&](int64_t part, int) {
                     int64_t begin = part * kNodesAtOnce;
                     kernels_of<T>().crystal_convolution(graph, begin, std::min(t.n_nodes, begin + kNodesAtOnce),
                                                         mutable_data<T>(out));
                   });
  return out;
}

// A thread takes one slice of the features of all nodes: it alone adds to these columns of the gradients.
template <class T>
Gradients run_backward(const CrystalTensors& t, const Tensor& grad) {
  Tensor g = take("grad", grad, t.dtype, {t.n_nodes, t.width / 2});
  auto zeros = [&](int64_t n) {
    Tensor out = new_output(t.center, {n, t.width}, t.dtype);
    std::fill_n(mutable_data<T>(out), n * t.width, T(0));
    return out;
  };
  Gradients out{zeros(t.n_nodes), zeros(t.n_nodes), zeros(t.table.size(0))};
  CrystalGraph<T> graph = make_graph<T>(t);
  CrystalGradients<T> gradients{mutable_data<T>(std::get<0>(out)), mutable_data<T>(std::get<1>(out)),
                                mutable_data<T>(std::get<2>(out))};
  const KernelsOf<T>& kernels = kernels_of<T>();
  for_each_dynamic(
      (graph.n_features + kernels.width - 1) / kernels.width, [] { return 0; },
      [&](int64_t slice, int) { kernels.crystal_convolution_backward(graph, data<T>(g), slice, gradients); });
  return out;
}

Tensor crystal_convolution(const Tensor& center, const Tensor& neighbor, const Tensor& edge_offset,
                           const Tensor& edge_target, const Tensor& edge_distance, const Tensor& table, double cutoff) {
  CrystalTensors t(center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff);
  check_edges(t, cutoff);
  return (t.dtype == ScalarType::Float ? run<float> : run<double>)(t);
}

Gradients crystal_convolution_backward(const Tensor& grad, const Tensor& center, const Tensor& neighbor,
                                       const Tensor& edge_offset, const Tensor& edge_target,
                                       const Tensor& edge_distance, const Tensor& table, double cutoff) {
  CrystalTensors t(center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff);
  check_edges(t, cutoff);
  return (t.dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(t, grad);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) {
  m.impl("crystal_convolution", TORCH_BOX(&dcharge::crystal_convolution));
  m.impl("crystal_convolution_backward", TORCH_BOX(&dcharge::crystal_convolution_backward));
}
