// Checked arguments of probe_messages and its adjoint, for CPU and CUDA.
#pragma once

#include "core/probe.hpp"
#include "ops/check.hpp"

namespace dcharge {

// Tensors that both ops take, contiguous and kept alive.
struct ProbeTensors {
  ScalarType dtype;
  GeometryTensors geometry;
  Tensor states, table;
  Probe probe;

  ProbeTensors(const GeometryTensors& g, const Tensor& states_, const Tensor& table_, double rcut,
               int32_t device = kCpu)
      : dtype(states_.scalar_type()),
        geometry(g),
        states(take("states", states_, dtype, {g.atoms.size(0), -1, kStates, -1}, device)),
        table(take("table", table_, dtype, {states.size(1), kFilters, -1, states.size(3)}, device)),
        probe{rcut, static_cast<double>(table.size(2) - 1) / rcut, table.size(2), states.size(1), states.size(3)} {
    require(dtype == ScalarType::Float || dtype == ScalarType::Double, "states: float32 or float64 expected");
    require(rcut > 0, "rcut: a positive length expected");
    require(probe.n_layers >= 1 && probe.n_features >= 1, "states: at least one layer and one feature expected");
    require(probe.n_knots >= kFewestKnots && probe.n_knots < (int64_t(1) << 31), "table: at least 4 knots expected");
    require(g.atoms.size(0) < (int64_t(1) << 31), "atoms: fewer than 2^31 expected");
  }
};

}  // namespace dcharge
