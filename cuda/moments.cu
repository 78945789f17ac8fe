// radial_moments.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {
namespace {

// Functions per pass and registers of every kernel, float32 and float64. Accumulators take components x functions
// registers (twice that in float64); the budget leaves room for the pair and for at least two blocks per processor.
template <class T, int L>
struct Shape;
// clang-format off
template <> struct Shape<float, 0> { static constexpr int functions = 32, registers = 128; };
template <> struct Shape<float, 1> { static constexpr int functions = 32, registers = 255; };
template <> struct Shape<float, 2> { static constexpr int functions = 16, registers = 255; };
template <> struct Shape<float, 3> { static constexpr int functions = 8, registers = 255; };
template <> struct Shape<double, 0> { static constexpr int functions = 16, registers = 128; };
template <> struct Shape<double, 1> { static constexpr int functions = 16, registers = 255; };
template <> struct Shape<double, 2> { static constexpr int functions = 8, registers = 255; };
template <> struct Shape<double, 3> { static constexpr int functions = 4, registers = 255; };
// clang-format on

template <class T, int L>
int run(const Points& points, const Radial& radial, T* out, Stream stream) {
  MomentsArguments<T> arguments{points, radial, make_pair_constants<T>(radial), out};
  if constexpr (sizeof(T) == 4 && L == 1) {  // the model's default: no function is computed in vain
    if (radial.n_radial <= 20) {
      return launch_blocks<MomentsBlock<T, L, 20, 168>>(arguments, stream);
    }
  }
  return launch_blocks<MomentsBlock<T, L, Shape<T, L>::functions, Shape<T, L>::registers>>(arguments, stream);
}

}  // namespace

template <class T>
int moments(const Points& points, const Radial& radial, T* out, Stream stream) {
  return (radial.l_max == 0   ? run<T, 0>
          : radial.l_max == 1 ? run<T, 1>
          : radial.l_max == 2 ? run<T, 2>
                              : run<T, 3>)(points, radial, out, stream);
}

template int moments<float>(const Points&, const Radial&, float*, Stream);
template int moments<double>(const Points&, const Radial&, double*, Stream);

}  // namespace cuda
}  // namespace dcharge
