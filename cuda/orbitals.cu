// orbital_sums.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {
namespace {

// Waves per pass and registers of every kernel, float32 and float64. Sums take components x waves registers (twice that
// in float64).
template <class T, int L>
struct Shape;
// clang-format off
template <> struct Shape<float, 0> { static constexpr int waves = 8, registers = 96; };
template <> struct Shape<float, 1> { static constexpr int waves = 8, registers = 128; };
template <> struct Shape<float, 2> { static constexpr int waves = 8, registers = 168; };
template <> struct Shape<double, 0> { static constexpr int waves = 8, registers = 128; };
template <> struct Shape<double, 1> { static constexpr int waves = 8, registers = 168; };
template <> struct Shape<double, 2> { static constexpr int waves = 4, registers = 255; };
// clang-format on

template <class T, int L>
int run(const OrbitalArguments<T>& arguments, Stream stream) {
  return launch_blocks<OrbitalSumsBlock<T, L, Shape<T, L>::waves, Shape<T, L>::registers>>(arguments, stream);
}

}  // namespace

template <class T>
int orbital_sums(const OrbitalArguments<T>& arguments, Stream stream) {
  int64_t l_max = arguments.orbitals.l_max;
  return (l_max == 0 ? run<T, 0> : l_max == 1 ? run<T, 1> : run<T, 2>)(arguments, stream);
}

template int orbital_sums<float>(const OrbitalArguments<float>&, Stream);
template int orbital_sums<double>(const OrbitalArguments<double>&, Stream);

}  // namespace cuda
}  // namespace dcharge
