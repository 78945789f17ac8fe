#include "ops/contraction.hpp"
#include "ops/cuda/device.hpp"

namespace dcharge {
namespace {

template <class T>
GramArguments<T> make_arguments(const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  int64_t n_comp = a.size(1), m = a.size(2);
  Contraction<T> c = make_contraction<T>(m, degree_of(n_comp), axis, per_l);
  GramArguments<T> arguments{a.size(0), n_comp, m, c.row_length, per_l, {}, data<T>(a), nullptr, nullptr};
  std::copy(axis.begin(), axis.end(), arguments.axis);
  return arguments;
}

template <class T>
Tensor run(const Device& device, const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  GramArguments<T> arguments = make_arguments<T>(a, axis, per_l);
  Tensor out = device_empty(a, {arguments.n, arguments.row_length}, a.scalar_type());
  arguments.out = mutable_data<T>(out);
  require_launched(cuda::gram(arguments, device.stream()));
  return out;
}

template <class T>
Tensor run_backward(const Device& device, const Tensor& grad, const Tensor& a, const std::vector<int64_t>& axis,
                    bool per_l) {
  GramArguments<T> arguments = make_arguments<T>(a, axis, per_l);
  Tensor d = take_beside(a, "grad", grad, a.scalar_type(), {arguments.n, arguments.row_length});
  Tensor out = device_empty(a, {arguments.n, arguments.n_comp, arguments.m}, a.scalar_type());
  arguments.grad = data<T>(d);
  arguments.out = mutable_data<T>(out);
  require_launched(cuda::gram_backward(arguments, device.stream()));
  return out;
}

Tensor checked(const Tensor& a) {
  ScalarType dtype = a.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "a: float32 or float64 expected");
  return take_beside(a, "a", a, dtype, {-1, -1, -1});
}

Tensor gram(const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  Device device(a);
  Tensor from = checked(a);
  return (a.scalar_type() == ScalarType::Float ? run<float> : run<double>)(device, from, axis, per_l);
}

Tensor gram_backward(const Tensor& grad, const Tensor& a, const std::vector<int64_t>& axis, bool per_l) {
  Device device(a);
  Tensor from = checked(a);
  return (a.scalar_type() == ScalarType::Float ? run_backward<float> : run_backward<double>)(device, grad, from, axis,
                                                                                             per_l);
}

}  // namespace
}  // namespace dcharge

DCHARGE_DEVICE_IMPL(m) {
  m.impl("gram", TORCH_BOX(&dcharge::gram));
  m.impl("gram_backward", TORCH_BOX(&dcharge::gram_backward));
}
