// Checked arguments of crystal_convolution and its adjoint, for CPU and CUDA.
#pragma once

#include "core/cubic.hpp"
#include "ops/check.hpp"

namespace dcharge {

struct CrystalTensors {
  ScalarType dtype;
  int64_t n_nodes, width;  // width: 2 n_features
  Tensor center, neighbor, edge_offset, edge_target, edge_distance, table;
  double per_knot;

  CrystalTensors(const Tensor& center_, const Tensor& neighbor_, const Tensor& offset, const Tensor& target,
                 const Tensor& distance, const Tensor& table_, double cutoff, int32_t device = kCpu)
      : dtype(center_.scalar_type()),
        n_nodes(center_.dim() == 2 ? center_.size(0) : -1),
        width(center_.dim() == 2 ? center_.size(1) : -1),
        center(take_rows("center", center_, device)),
        neighbor(take_rows("neighbor", neighbor_, device)),
        edge_offset(take("edge_offset", offset, ScalarType::Long, {n_nodes + 1}, device)),
        edge_target(take("edge_target", target, ScalarType::Long, {-1}, device)),
        edge_distance(take("edge_distance", distance, ScalarType::Double, {edge_target.size(0)}, device)),
        table(take("table", table_, dtype, {-1, width}, device)),
        per_knot(static_cast<double>(table.size(0) - 1) / cutoff) {
    require(dtype == ScalarType::Float || dtype == ScalarType::Double, "center: float32 or float64 expected");
    require(width >= 2 && width % 2 == 0, "center: an even number of columns expected");
    require(cutoff > 0, "cutoff: a positive length expected");
    require(table.size(0) >= kFewestKnots && table.size(0) < (int64_t(1) << 31), "table: at least 4 knots expected");
  }

 private:
  // A matrix whose rows may be apart: the columns of a wider one need no copy.
  Tensor take_rows(const char* name, const Tensor& t, int32_t device) const {
    bool in_place = t.dim() == 2 && t.get_device_index() == device && t.is_cpu() == (device == kCpu) &&
                    t.scalar_type() == dtype && t.size(0) == n_nodes && t.size(1) == width && t.stride(1) == 1 &&
                    t.stride(0) >= width;
    return in_place ? t : take(name, t, dtype, {n_nodes, width}, device);
  }
};

}  // namespace dcharge
