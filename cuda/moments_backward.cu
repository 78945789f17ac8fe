// Adjoint of radial_moments.
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
template <> struct Shape<double, 0> { static constexpr int functions = 16, registers = 168; };
template <> struct Shape<double, 1> { static constexpr int functions = 16, registers = 255; };
template <> struct Shape<double, 2> { static constexpr int functions = 4, registers = 255; };
template <> struct Shape<double, 3> { static constexpr int functions = 2, registers = 255; };
// clang-format on

template <class T, int L>
int run(const Points& points, const Radial& radial, const T* grad, double* d_points, double* d_atoms, Stream stream) {
  using Block = MomentsBackwardBlock<T, L, Shape<T, L>::functions, Shape<T, L>::registers>;
  return launch_blocks<Block>({points, radial, make_pair_constants<T>(radial), grad, d_points, d_atoms}, stream);
}

}  // namespace

template <class T>
int moments_backward(const Points& points, const Radial& radial, const T* grad, double* d_points, double* d_atoms,
                     Stream stream) {
  return (radial.l_max == 0   ? run<T, 0>
          : radial.l_max == 1 ? run<T, 1>
          : radial.l_max == 2 ? run<T, 2>
                              : run<T, 3>)(points, radial, grad, d_points, d_atoms, stream);
}

template int moments_backward<float>(const Points&, const Radial&, const float*, double*, double*, Stream);
template int moments_backward<double>(const Points&, const Radial&, const double*, double*, double*, Stream);

}  // namespace cuda
}  // namespace dcharge
