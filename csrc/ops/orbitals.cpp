// orbital_sums, ead, ead_network and the adjoint of orbital_sums on the CPU.
#include "ops/contraction.hpp"
#include "ops/orbital_arguments.hpp"

namespace dcharge {
namespace {

template <class T>
struct Tables {
  std::vector<T> exponent;  // in powers of two
  OrbitalTables<T> view;

  explicit Tables(const OrbitalTensors& t) {
    const T* from = data<T>(t.exponent);
    for (int64_t i = 0; i < t.exponent.numel(); ++i) {
      require(from[i] <= 0, "exponent: values <= 0 expected");
      exponent.push_back(static_cast<T>(from[i] * 1.4426950408889634074));
    }
    view = {data<T>(t.coefficients),
            data<T>(t.center),
            exponent.data(),
            t.point_atoms(),
            data<int64_t>(t.geometry.point_frame),
            nullptr};
  }
};

// Calls work(points, atoms, scratch) for all tiles.
template <class T, class Work>
void for_tiles(const OrbitalTensors& t, size_t scratch, Work work) {
  Plan plan(t.geometry.view(), t.orbitals.rcut, t.orbitals.n_types, torch_parallel);
  for_each_dynamic(
      plan.n_tiles(), [&] { return TileState{{}, make_scratch(scratch)}; },
      [&](int64_t i, TileState& s) {
        plan.load(i, kernels_of<T>().width, s.tile);
        work(s.tile.points, s.tile.atoms, s.scratch.get());
      });
}

// Runs `kernel` (orbital_sums or ead) over all tiles.
template <class T, class Kernel>
void run(const OrbitalTensors& t, const OrbitalTables<T>& tables, Kernel kernel, T* out) {
  for_tiles<T>(t, kernels_of<T>().orbital_scratch(t.orbitals),
               [&](const TilePoints& points, const Candidates& atoms, void* scratch) {
                 kernel(t.orbitals, tables, points, atoms, out, scratch);
               });
}

template <class T>
Tensor run_sums(const OrbitalTensors& t) {
  Tables<T> tables(t);
  Tensor out = new_output(t.coefficients, {t.geometry.points.size(0), t.n_comp(), t.orbitals.n_waves}, t.dtype);
  run<T>(t, tables.view, kernels_of<T>().orbital_sums, mutable_data<T>(out));
  return out;
}

template <class T>
Tensor run_ead(const OrbitalTensors& t, const std::optional<Tensor>& field_sum) {
  Tables<T> tables(t);
  std::optional<Tensor> field;
  if (field_sum) {
    field = take("field_sum", *field_sum, t.dtype, {t.geometry.cell.size(0), t.n_comp(), t.orbitals.n_waves});
    tables.view.field_sum = data<T>(*field);
  }
  Tensor out = new_output(t.coefficients, {t.geometry.points.size(0), n_features(t.orbitals)}, t.dtype);
  run<T>(t, tables.view, kernels_of<T>().ead, mutable_data<T>(out));
  return out;
}

struct NetworkTensors {
  Tensor scale, constant;
  std::optional<Tensor> vacuum;
  Tensor weights, vectors;
};

template <class T>
Tensor run_ead_network(const OrbitalTensors& t, const NetworkTensors& n, const std::vector<int64_t>& widths,
                       int64_t n_output, bool norm, bool tanh_like) {
  require(n.constant.dim() == 4 && n.scale.dim() == 2, "scale, constant: wrong shape");
  int64_t n_rows = n.constant.size(0), n_states = n.constant.size(1), n_waves = n.scale.size(1);
  require(n_states >= 1 && n_waves * n_states == t.orbitals.n_waves, "constant: states do not fit the coefficients");
  require(n_rows == 1 || n_rows == t.geometry.cell.size(0), "constant: one row or one for every frame expected");
  require(widths.size() >= 2 && widths.front() == widths.back() && n_output >= 1, "widths: do not fit a block");
  Tensor scale = take("scale", n.scale, t.dtype, {t.n_comp(), n_waves});
  Tensor constant = take("constant", n.constant, t.dtype, {n_rows, n_states, t.n_comp(), n_waves});
  std::optional<Tensor> vacuum;
  if (n.vacuum) {
    vacuum = take("vacuum", *n.vacuum, t.dtype, {n_rows, n_states, n_output});
  }
  int64_t n_input = (t.orbitals.l_max + 1) * n_waves * (n_waves + 1) / 2, n_weights = 0, n_vectors = 0, k = n_input;
  for (size_t i = 0; i < widths.size(); ++i) {
    require(widths[i] >= 1, "widths: positive numbers expected");
    n_weights += k * padded_columns(widths[i]);
    n_vectors += padded_columns(widths[i]) + (i ? (norm ? 4 : 2) * k : 0);
    k = widths[i];
  }
  n_vectors += 2 * k + n_output * (k + 1);
  Tensor weights = take("weights", n.weights, t.dtype, {n_weights});
  Tensor vectors = take("vectors", n.vectors, t.dtype, {n_vectors});
  EadNetwork<T> network{
      {n_input, static_cast<int64_t>(widths.size()), n_output, widths.data(), norm, tanh_like, data<T>(weights),
       data<T>(vectors)},
      n_states,
      n_waves,
      data<T>(scale),
      data<T>(constant),
      vacuum ? data<T>(*vacuum) : nullptr,
      n_rows == 1};
  Tables<T> tables(t);
  const KernelsOf<T>& kernels = kernels_of<T>();
  Tensor out = new_output(t.coefficients, {t.geometry.points.size(0), n_states, n_output}, t.dtype);
  T* to = mutable_data<T>(out);
  size_t scratch = std::max(kernels.orbital_scratch(t.orbitals), kernels.ead_network_scratch(t.orbitals, network));
  for_tiles<T>(t, scratch, [&](const TilePoints& points, const Candidates& atoms, void* memory) {
    kernels.ead_network(t.orbitals, tables.view, network, points, atoms, to, memory);
  });
  return out;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
void copy_to(const Tensor& to, const std::vector<double>& from) {
  std::copy(from.begin(), from.end(), mutable_data<T>(to));
}

template <class T>
Gradients run_backward(const OrbitalTensors& t, const Tensor& grad, bool positions, bool parameters) {
  const KernelsOf<T>& kernels = kernels_of<T>();
  Tables<T> tables(t);
  int64_t n = t.geometry.points.size(0), n_atoms = t.geometry.atoms.size(0), n_waves = t.orbitals.n_waves;
  int64_t columns = (parameters ? n_waves : 0) + (positions ? 3 : 0);
  int64_t n_types = parameters ? t.orbitals.n_types * 2 * n_waves : 0;
  Tensor d = take("grad", grad, t.dtype, {n, t.n_comp(), n_waves});
  Tensor d_points = torch::stable::new_empty(t.geometry.points, {positions ? n : 0, 3});
  Plan plan(t.geometry.view(), t.orbitals.rcut, t.orbitals.n_types, torch_parallel);

  // what every tile adds to atoms and types is kept and summed in the order of the tiles: same bits for any threads
  struct Part {
    std::vector<double> candidates, types;
    std::vector<int64_t> source;
  };
  struct State : TileState {
    std::vector<T> lanes;
  };
  std::vector<Part> parts(plan.n_tiles());
  for_each_dynamic(
      plan.n_tiles(), [&] { return State{{{}, make_scratch(kernels.orbital_scratch(t.orbitals))}, {}}; },
      [&](int64_t i, State& s) {
        plan.load(i, kernels.width, s.tile);
        Part& part = parts[i];
        part.candidates.resize(s.tile.n_candidates * columns);
        part.types.resize(n_types);
        part.source = s.tile.source;
        s.lanes.resize((part.candidates.size() + part.types.size()) * kernels.width);
        OrbitalGradients<T> to{positions,
                               parameters,
                               positions ? mutable_data<double>(d_points) : nullptr,
                               part.candidates.data(),
                               part.types.data(),
                               s.lanes.data()};
        kernels.orbital_sums_backward(t.orbitals, tables.view, s.tile.points, s.tile.atoms, data<T>(d), to,
                                      s.scratch.get());
      });

  std::vector<double> atoms(n_atoms * columns), types(n_types);
  for (const Part& part : parts) {
    for (size_t c = 0; c < part.source.size(); ++c) {
      for (int64_t m = 0; m < columns; ++m) {
        atoms[part.source[c] * columns + m] += part.candidates[c * columns + m];
      }
    }
    for (int64_t i = 0; i < n_types; ++i) {
      types[i] += part.types[i];
    }
  }
  Tensor d_atoms = torch::stable::new_empty(t.geometry.atoms, {positions ? n_atoms : 0, 3});
  for (int64_t i = 0; i < n_atoms && positions; ++i) {
    std::copy_n(atoms.data() + (i + 1) * columns - 3, 3, mutable_data<double>(d_atoms) + 3 * i);
  }
  Tensor d_coefficients = torch::stable::new_empty(t.coefficients, {parameters ? n_atoms : 0, n_waves});
  Tensor d_center = torch::stable::new_empty(t.center, {parameters ? t.orbitals.n_types : 0, n_waves});
  Tensor d_exponent = torch::stable::new_empty(d_center, {d_center.size(0), n_waves});
  for (int64_t i = 0; i < d_coefficients.numel(); ++i) {
    mutable_data<T>(d_coefficients)[i] = static_cast<T>(atoms[i / n_waves * columns + i % n_waves]);
  }
  for (int64_t i = 0; i < d_center.numel(); ++i) {
    int64_t at = i / n_waves * 2 * n_waves + i % n_waves;
    mutable_data<T>(d_center)[i] = static_cast<T>(-2.0 * data<T>(t.exponent)[i] * types[at]);
    mutable_data<T>(d_exponent)[i] = static_cast<T>(types[at + n_waves]);
  }
  return {d_points, d_atoms, d_coefficients, d_center, d_exponent};
}

Tensor orbital_sums(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
                    const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, const Tensor& coefficients,
                    const Tensor& center, const Tensor& exponent, const std::optional<Tensor>& point_atom, double rcut,
                    double soft, int64_t l_max, bool unit) {
  OrbitalTensors t({points, point_frame, atoms, atom_type, atom_frame, cell, pbc}, coefficients, center, exponent,
                   point_atom, rcut, soft, l_max, unit);
  return (t.dtype == ScalarType::Float ? run_sums<float> : run_sums<double>)(t);
}

Gradients orbital_sums_backward(const Tensor& grad, const Tensor& points, const Tensor& point_frame,
                                const Tensor& atoms, const Tensor& atom_type, const Tensor& atom_frame,
                                const Tensor& cell, const Tensor& pbc, const Tensor& coefficients, const Tensor& center,
                                const Tensor& exponent, const std::optional<Tensor>& point_atom, double rcut,
                                double soft, int64_t l_max, bool unit, bool positions, bool parameters) {
  OrbitalTensors t({points, point_frame, atoms, atom_type, atom_frame, cell, pbc}, coefficients, center, exponent,
                   point_atom, rcut, soft, l_max, unit);
  require(positions || parameters, "positions, parameters: at least one of the gradients expected");
  return (t.dtype == ScalarType::Float ? run_backward<float> : run_backward<double>)(t, grad, positions, parameters);
}

Tensor ead(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
           const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, const Tensor& coefficients,
           const Tensor& center, const Tensor& exponent, const std::optional<Tensor>& point_atom,
           const std::optional<Tensor>& field_sum, double rcut, double soft, int64_t l_max, bool unit) {
  OrbitalTensors t({points, point_frame, atoms, atom_type, atom_frame, cell, pbc}, coefficients, center, exponent,
                   point_atom, rcut, soft, l_max, unit);
  return (t.dtype == ScalarType::Float ? run_ead<float> : run_ead<double>)(t, field_sum);
}

Tensor ead_network(const Tensor& points, const Tensor& point_frame, const Tensor& atoms, const Tensor& atom_type,
                   const Tensor& atom_frame, const Tensor& cell, const Tensor& pbc, const Tensor& coefficients,
                   const Tensor& center, const Tensor& exponent, const std::optional<Tensor>& point_atom,
                   const Tensor& scale, const Tensor& constant, const std::optional<Tensor>& vacuum,
                   const Tensor& weights, const Tensor& vectors, const std::vector<int64_t>& widths, int64_t n_output,
                   bool norm, bool tanh_like, double rcut, double soft, int64_t l_max, bool unit) {
  OrbitalTensors t({points, point_frame, atoms, atom_type, atom_frame, cell, pbc}, coefficients, center, exponent,
                   point_atom, rcut, soft, l_max, unit);
  NetworkTensors network{scale, constant, vacuum, weights, vectors};
  return (t.dtype == ScalarType::Float ? run_ead_network<float> : run_ead_network<double>)(t, network, widths, n_output,
                                                                                           norm, tanh_like);
}

}  // namespace
}  // namespace dcharge

STABLE_TORCH_LIBRARY_IMPL(dcharge, CPU, m) {
  m.impl("orbital_sums", TORCH_BOX(&dcharge::orbital_sums));
  m.impl("orbital_sums_backward", TORCH_BOX(&dcharge::orbital_sums_backward));
  m.impl("ead", TORCH_BOX(&dcharge::ead));
  m.impl("ead_network", TORCH_BOX(&dcharge::ead_network));
}
