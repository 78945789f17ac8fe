#include "ops/contraction.hpp"

namespace dcharge {
namespace {

constexpr int64_t kGrain = 64;

Radial scratch_shape(int64_t l_max) { return {1, 0, 1, 1, l_max, 1}; }

template <class T>
Tensor run(const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  int64_t n = a.size(0), n_comp = a.size(1), m = a.size(2), l_max = degree_of(n_comp);
  Tensor from = take("a", a, a.scalar_type(), {n, n_comp, m});
  Contraction<T> c = make_contraction<T>(m, l_max, axis, per_l);
  Tensor out = new_output(from, {n, c.row_length}, a.scalar_type());
  const T* src = data<T>(from);
  T* dst = mutable_data<T>(out);
  const KernelsOf<T>& kernel = kernels_of<T>();
  torch::stable::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    Scratch scratch = make_scratch(kernel.scratch(scratch_shape(l_max), c.m_padded));
    kernel.gram(c, end - begin, n_comp, src + begin * n_comp * m, dst + begin * c.row_length, scratch.get());
  });
  return out;
}

template <class T>
Tensor run_backward(const Tensor& grad, const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  int64_t n = a.size(0), n_comp = a.size(1), m = a.size(2), l_max = degree_of(n_comp);
  Tensor from = take("a", a, a.scalar_type(), {n, n_comp, m});
  Contraction<T> c = make_contraction<T>(m, l_max, axis, per_l);
  Tensor d = take("grad", grad, a.scalar_type(), {n, c.row_length});
  Tensor out = new_output(from, {n, n_comp, m}, a.scalar_type());
  const T *src = data<T>(from), *d_src = data<T>(d);
  T* dst = mutable_data<T>(out);
  const KernelsOf<T>& kernel = kernels_of<T>();
  torch::stable::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    Scratch scratch = make_scratch(kernel.scratch(scratch_shape(l_max), c.m_padded));
    kernel.gram_backward(c, end - begin, n_comp, d_src + begin * c.row_length, src + begin * n_comp * m,
                         dst + begin * n_comp * m, scratch.get());
  });
  return out;
}

void check(const Tensor& a) {
  require(a.dim() == 3, "a: wrong shape");
  ScalarType dtype = a.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "a: float32 or float64 expected");
}

Tensor gram(const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  check(a);
  return (a.scalar_type() == ScalarType::Float ? run<float> : run<double>)(a, axis, per_l);
}

Tensor gram_backward(const Tensor& grad, const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  check(a);
  return (a.scalar_type() == ScalarType::Float ? run_backward<float> : run_backward<double>)(grad, a, axis, per_l);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) {
  m.impl("gram", TORCH_BOX(&dcharge::gram));
  m.impl("gram_backward", TORCH_BOX(&dcharge::gram_backward));
}
