#include <array>
#include <tuple>

#include "core/cell_list.hpp"
#include "core/lattice.hpp"
#include "ops/check.hpp"

namespace dcharge {
namespace {

struct Pair {
  int64_t i, j;
  std::array<int32_t, 3> shift;
};

std::tuple<Tensor, Tensor> neighbors(const Tensor& positions, const Tensor& cell, const Tensor& pbc, double cutoff,
                                     const std::optional<Tensor>& targets) {
  Tensor atoms = take("positions", positions, ScalarType::Double, {-1, 3});
  Tensor rows = take("cell", cell, ScalarType::Double, {3, 3});
  Tensor periodic = take("pbc", pbc, ScalarType::Bool, {3});
  Tensor centres = targets ? take("targets", *targets, ScalarType::Double, {-1, 3}) : atoms;
  require(cutoff > 0, "cutoff: a positive length expected");
  const double *r = data<double>(atoms), *p = data<double>(centres);
  int64_t n_atoms = atoms.size(0), n = centres.size(0);
  for (const Tensor* t : {&atoms, &centres}) {
    for (int64_t i = 0; i < 3 * t->size(0); ++i) {
      require(std::isfinite(data<double>(*t)[i]), "positions, targets: a coordinate is not a finite number");
    }
  }
  Lattice lattice = make_lattice(data<double>(rows), data<bool>(periodic));

  std::vector<double> wrapped(p, p + 3 * n);
  std::vector<int64_t> shift(3 * n);
  Box box;
  double middle[3] = {0.5, 0.5, 0.5};
  for (int64_t i = 0; i < n; ++i) {
    double f[3];
    wrap(lattice, middle, wrapped.data() + 3 * i, f, shift.data() + 3 * i);
    box.include(f);
  }
  Images images;
  for (int64_t j = 0; j < n_atoms && n > 0; ++j) {
    add_images(lattice, box, cutoff, r + 3 * j, j, true, images);
  }
  CellList cells(images, 0.5 * cutoff);

  constexpr int64_t kPart = 64;
  std::vector<std::vector<Pair>> parts((n + kPart - 1) / kPart);
  torch::stable::parallel_for(0, static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      std::vector<Pair>& out = parts[part];
      for (int64_t i = part * kPart; i < std::min(n, (part + 1) * kPart); ++i) {
        const double* c = wrapped.data() + 3 * i;
        double low[3] = {c[0] - cutoff, c[1] - cutoff, c[2] - cutoff};
        double high[3] = {c[0] + cutoff, c[1] + cutoff, c[2] + cutoff};
        size_t first = out.size();
        cells.query(low, high, [&](int64_t g) {
          double d[3] = {images.x[g] - c[0], images.y[g] - c[1], images.z[g] - c[2]};
          if (dot(d, d) >= cutoff * cutoff) {
            return;
          }
          Pair pair{i, images.source[g], {}};
          bool zero = true;
          for (int a = 0; a < 3; ++a) {
            pair.shift[a] = static_cast<int32_t>(images.shift[3 * g + a] - shift[3 * i + a]);
            zero = zero && pair.shift[a] == 0;
          }
          if (targets || pair.i != pair.j || !zero) {
            out.push_back(pair);
          }
        });
        std::sort(out.begin() + first, out.end(),
                  [](const Pair& a, const Pair& b) { return std::tie(a.j, a.shift) < std::tie(b.j, b.shift); });
      }
    }
  });
  int64_t n_edges = 0;
  for (const auto& part : parts) {
    n_edges += static_cast<int64_t>(part.size());
  }
  Tensor index = torch::stable::new_empty(atoms, {2, n_edges}, ScalarType::Long);
  Tensor shifts = torch::stable::new_empty(atoms, {n_edges, 3}, ScalarType::Int);
  int64_t* to = mutable_data<int64_t>(index);
  int32_t* to_shift = mutable_data<int32_t>(shifts);
  int64_t e = 0;
  for (const auto& part : parts) {
    for (const Pair& pair : part) {
      to[e] = pair.i;
      to[n_edges + e] = pair.j;
      std::copy_n(pair.shift.data(), 3, to_shift + 3 * e++);
    }
  }
  return {index, shifts};
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) { m.impl("neighbors", TORCH_BOX(&dcharge::neighbors)); }
