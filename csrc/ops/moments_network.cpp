#include "ops/contraction.hpp"

namespace dcharge {
namespace {

template <class T>
Tensor run(const Tensor& moments, const Tensor& coefficients, const Tensor& offset, int64_t m,
           const std::vector<int64_t>& axis, bool per_l, const Tensor& weights, const Tensor& vectors,
           const std::vector<int64_t>& widths, const std::vector<int64_t>& skips, int64_t n_output, bool bf16) {
  ScalarType dtype = moments.scalar_type();
  require(moments.dim() == 4, "moments: wrong shape");
  int64_t n = moments.size(0), n_types = moments.size(1), n_comp = moments.size(2), n_radial = moments.size(3);
  int64_t l_max = degree_of(n_comp), m_padded = padded_columns(m);
  require(m >= 1 && n_output >= 1 && !widths.empty() && widths.size() == skips.size(), "network: no layers");
  Contraction<T> contraction = make_contraction<T>(m, l_max, axis, per_l);
  Tensor p = take("moments", moments, dtype, {n, n_types, n_comp, n_radial});
  Tensor c = take("coefficients", coefficients, dtype, {l_max + 1, m_padded / kPad, n_types * n_radial, kPad});
  Tensor shift = take("offset", offset, dtype, {m_padded});
  contraction.c = data<T>(c);
  contraction.offset = data<T>(shift);
  int64_t n_input = 0;
  for (int64_t a : axis) {
    n_input += a * (a + 1) / 2 + (m - a) * a;
  }
  bool pairs = weights.scalar_type() == ScalarType::BFloat16;
  NetworkBfloat16 with_pairs = network_bfloat16();
  if (pairs) {
    require(bf16 && dtype == ScalarType::Float && with_pairs, "weights: bfloat16 is not for these kernels");
  }
  require(!bf16 || dtype == ScalarType::Float, "bf16: needs moments in float32");
  int64_t n_weights = 0, n_vectors = 0, k = n_input;
  for (size_t i = 0; i < widths.size(); ++i) {
    int64_t padded = padded_columns(widths[i]);
    require(widths[i] >= 1 && skips[i] >= 0 && skips[i] <= 2, "widths, skips: out of range");
    require(skips[i] == 0 || (i > 0 && widths[i] == skips[i] * widths[i - 1]), "skips: do not fit the widths");
    n_weights += padded * (pairs ? padded_columns(k) : k);
    n_vectors += 2 * padded;
    k = widths[i];
  }
  n_vectors += n_output * (padded_columns(k) + 1);
  Tensor w = take("weights", weights, pairs ? ScalarType::BFloat16 : dtype, {n_weights});
  Tensor v = take("vectors", vectors, dtype, {n_vectors});
  Network<T> network{contraction,
                     n_types,
                     n_comp,
                     n_radial,
                     n_input,
                     static_cast<int64_t>(widths.size()),
                     n_output,
                     widths.data(),
                     skips.data(),
                     pairs  ? NetworkOperands::bfloat16
                     : bf16 ? NetworkOperands::rounded
                            : NetworkOperands::exact,
                     w.const_data_ptr(),
                     data<T>(v)};
  Tensor out = new_output(p, {n, n_output}, dtype);
  const T* from = data<T>(p);
  T* to = mutable_data<T>(out);
  const KernelsOf<T>& kernel = kernels_of<T>();
  auto call = kernel.network;
  if constexpr (std::is_same_v<T, float>) {
    call = pairs ? with_pairs : call;
  }
  constexpr int64_t kPart = 4 * kNetworkRows;
  int64_t row = n_types * n_comp * n_radial;
  for_each_dynamic((n + kPart - 1) / kPart, [&] { return make_scratch(kernel.network_scratch(network)); },
                   [&](int64_t i, Scratch& scratch) {
                     int64_t start = i * kPart, count = std::min(kPart, n - start);
                     call(network, from + start * row, count, to + start * n_output, scratch.get());
                   });
  return out;
}

Tensor moments_network(const Tensor& moments, const Tensor& coefficients, const Tensor& offset, int64_t m,
                       const std::vector<int64_t>& axis, bool per_l, const Tensor& weights, const Tensor& vectors,
                       const std::vector<int64_t>& widths, const std::vector<int64_t>& skips, int64_t n_output,
                       bool bf16) {
  ScalarType dtype = moments.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "moments: float32 or float64 expected");
  return (dtype == ScalarType::Float ? run<float> : run<double>)(moments, coefficients, offset, m, axis, per_l,
                                                                 weights, vectors, widths, skips, n_output, bf16);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) { m.impl("moments_network", TORCH_BOX(&dcharge::moments_network)); }
