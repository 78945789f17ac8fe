// Checked arguments of the orbital ops, for CPU and CUDA.
#pragma once

#include "core/orbitals.hpp"
#include "ops/check.hpp"

namespace dcharge {

// Tensors that every orbital op takes, contiguous and kept alive.
struct OrbitalTensors {
  ScalarType dtype;
  GeometryTensors geometry;
  Orbitals orbitals;
  Tensor coefficients, center, exponent;
  std::optional<Tensor> point_atom;

  OrbitalTensors(const GeometryTensors& g, const Tensor& coefficients_, const Tensor& center_, const Tensor& exponent_,
                 const std::optional<Tensor>& point_atom_, double rcut, double soft, int64_t l_max, bool unit,
                 int32_t device = kCpu)
      : dtype(coefficients_.scalar_type()),
        geometry(g),
        orbitals{rcut, soft, l_max, 0, 0, unit},
        coefficients(take("coefficients", coefficients_, dtype, {g.atoms.size(0), -1}, device)),
        center(take("center", center_, dtype, {-1, coefficients.size(1)}, device)),
        exponent(take("exponent", exponent_, dtype, {center.size(0), coefficients.size(1)}, device)) {
    require(dtype == ScalarType::Float || dtype == ScalarType::Double, "coefficients: float32 or float64 expected");
    orbitals.n_types = center.size(0);
    orbitals.n_waves = center.size(1);
    require(orbitals.n_types >= 1 && orbitals.n_waves >= 1, "center: at least one type and one wave expected");
    require(rcut > 0, "rcut: a positive length expected");
    require(soft > 0 || (soft == 0 && !unit), "soft: a positive length (unit) or >= 0 (raw) expected");
    require(l_max >= 0 && l_max <= kMostDegree, "l_max: 0.." + std::to_string(kMostDegree) + " expected");
    if (point_atom_) {
      point_atom = take("point_atom", *point_atom_, ScalarType::Long, {g.points.size(0)}, device);
    }
  }

  int64_t n_comp() const { return n_monomials(static_cast<int>(orbitals.l_max)); }
  const int64_t* point_atoms() const { return point_atom ? data<int64_t>(*point_atom) : nullptr; }
};

// Shape of the Gram matrices of sums [n, n_comp, n_waves]; only l_max and n_waves are set.
inline Orbitals gram_shape(const Tensor& sums) {
  require(sums.dim() == 3, "sums: wrong shape");
  require(sums.scalar_type() == ScalarType::Float || sums.scalar_type() == ScalarType::Double,
          "sums: float32 or float64 expected");
  for (int l_max = 0; l_max <= kMostDegree; ++l_max) {
    if (n_monomials(l_max) == sums.size(1)) {
      return {0, 0, l_max, sums.size(2), 0, false};
    }
  }
  throw std::runtime_error("sums: 1, 4 or 10 components expected");
}

inline int64_t n_features(const Orbitals& o) { return (o.l_max + 1) * o.n_waves * (o.n_waves + 1) / 2; }

}  // namespace dcharge
