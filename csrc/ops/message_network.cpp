// message_network on the CPU: all layers of DeepDFT's invariant probe network, blocks of points in the caches.
#include "core/cubic.hpp"
#include "cpu/messages.hpp"
#include "ops/message_arguments.hpp"

namespace dcharge {
namespace {

template <class T>
Tensor run(const MessageNetwork<T>& network, int64_t n_points, const Tensor& like) {
  const KernelsOf<T>& kernels = kernels_of<T>();
  Tensor out = new_output(like, {n_points, network.features}, like.scalar_type());
  T* to = mutable_data<T>(out);
  for_each_dynamic(
      (n_points + kMessagePoints - 1) / kMessagePoints,
      [&] { return make_scratch(kernels.message_network_scratch(network)); },
      [&](int64_t i, Scratch& scratch) {
        int64_t first = i * kMessagePoints;
        kernels.message_network(network, first, std::min(first + kMessagePoints, n_points), to, scratch.get());
      });
  return out;
}

Tensor message_network(const Tensor& first, const Tensor& sent, const Tensor& offset, const Tensor& atom,
                       const Tensor& distance, const Tensor& table, const Tensor& weights, const Tensor& vectors,
                       double rcut) {
  ScalarType dtype = first.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, "first: float32 or float64 expected");
  Tensor f = take("first", first, dtype, {-1, -1});
  int64_t n_atoms = f.size(0), F = f.size(1);
  Tensor tables = take("table", table, dtype, {-1, -1, F});
  int64_t n_layers = tables.size(0), n_knots = tables.size(1), further = n_layers - 1;
  require(n_layers >= 1 && n_knots >= kFewestKnots && n_knots < (int64_t(1) << 31), "table: wrong shape");
  Tensor s = take("sent", sent, dtype, {further, n_atoms, -1});
  int64_t H = s.size(2);
  require(F >= kPad && F % kPad == 0 && H >= kPad && H % kPad == 0, "first, sent: rows of multiples of 16 expected");
  Tensor w = take("weights", weights, dtype, {2 * F * F + further * (F * (H + F) + H * F + 3 * F * F)});
  Tensor v = take("vectors", vectors, dtype, {3 * F + further * (H + F + F + 3 * F)});
  Tensor o = take("pair_offset", offset, ScalarType::Long, {-1});
  require(o.size(0) >= 1, "pair_offset: at least one number expected");
  Tensor a = take("pair_atom", atom, ScalarType::Long, {-1});
  Tensor d = take("distance", distance, ScalarType::Double, {a.size(0)});
  check_pairs(o, a, d, n_atoms, rcut);
  auto call = [&](auto zero) {
    using T = decltype(zero);
    MessageNetwork<T> network{n_layers,         n_atoms,          n_knots,
                              F,                H,                static_cast<double>(n_knots - 1) / rcut,
                              data<T>(f),       data<T>(s),       data<int64_t>(o),
                              data<int64_t>(a), data<double>(d),  data<T>(tables),
                              data<T>(w),       data<T>(v)};
    return run<T>(network, o.size(0) - 1, f);
  };
  return dtype == ScalarType::Float ? call(float{}) : call(double{});
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) { m.impl("message_network", TORCH_BOX(&dcharge::message_network)); }
