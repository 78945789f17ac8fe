// Checked arguments of the ops on local environments.
#pragma once

#include "cpu/environments.hpp"
#include "ops/check.hpp"

namespace dcharge {

constexpr int64_t kEnvironmentGroup = 4;  // points in a row that are compact

inline EnvironmentShape make_environment_shape(double rcut, int64_t neighbors, double tie) {
  require(rcut > 0, "rcut: a positive length expected");
  require(neighbors >= 1, "neighbors: a positive integer expected");
  require(tie >= 0, "tie: a length >= 0 expected");
  return {rcut + tie, neighbors, tie};
}

}  // namespace dcharge
