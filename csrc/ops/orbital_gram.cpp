#include "ops/orbital_arguments.hpp"

namespace dcharge {
namespace {

constexpr int64_t kGrain = 256;

// Work on rows [begin, end) of n with scratch of its own; groups of lanes stay whole.
template <class T, class F>
void for_rows(const Orbitals& shape, int64_t n, F work) {
  const KernelsOf<T>& kernels = kernels_of<T>();
  torch::stable::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    Scratch scratch = make_scratch(kernels.orbital_scratch(shape));
    work(kernels, begin, end, scratch.get());
  });
}

template <class T>
Tensor run(const Tensor& sums) {
  Orbitals shape = gram_shape(sums);
  int64_t n = sums.size(0), row = sums.size(1) * sums.size(2), features = n_features(shape);
  Tensor from = take("sums", sums, sums.scalar_type(), {n, -1, -1});
  Tensor out = new_output(from, {n, features}, sums.scalar_type());
  const T* s = data<T>(from);
  T* g = mutable_data<T>(out);
  for_rows<T>(shape, n, [&](const KernelsOf<T>& kernels, int64_t begin, int64_t end, void* scratch) {
    kernels.orbital_gram(shape, end - begin, s + begin * row, g + begin * features, scratch);
  });
  return out;
}

template <class T>
Tensor run_backward(const Tensor& grad, const Tensor& sums) {
  Orbitals shape = gram_shape(sums);
  int64_t n = sums.size(0), row = sums.size(1) * sums.size(2), features = n_features(shape);
  Tensor from = take("sums", sums, sums.scalar_type(), {n, -1, -1});
  Tensor d = take("grad", grad, sums.scalar_type(), {n, features});
  Tensor out = new_output(from, {n, sums.size(1), sums.size(2)}, sums.scalar_type());
  const T *s = data<T>(from), *g = data<T>(d);
  T* d_s = mutable_data<T>(out);
  for_rows<T>(shape, n, [&](const KernelsOf<T>& kernels, int64_t begin, int64_t end, void* scratch) {
    kernels.orbital_gram_backward(shape, end - begin, g + begin * features, s + begin * row, d_s + begin * row,
                                  scratch);
  });
  return out;
}

Tensor orbital_gram(const Tensor& sums) {
  return (sums.scalar_type() == ScalarType::Double ? run<double> : run<float>)(sums);
}

Tensor orbital_gram_backward(const Tensor& grad, const Tensor& sums) {
  return (sums.scalar_type() == ScalarType::Double ? run_backward<double> : run_backward<float>)(grad, sums);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) {
  m.impl("orbital_gram", TORCH_BOX(&dcharge::orbital_gram));
  m.impl("orbital_gram_backward", TORCH_BOX(&dcharge::orbital_gram_backward));
}
