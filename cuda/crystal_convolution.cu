// crystal_convolution and its adjoint.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {
namespace {

template <class T>
struct ConvolutionElement {
  using Arguments = CrystalArguments<T>;
  static constexpr int registers = 64;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { crystal_convolution_element(a, i); }
};

template <class T>
struct ConvolutionBackwardElement {
  using Arguments = CrystalArguments<T>;
  static constexpr int registers = 80;
  DCHARGE_INLINE void run(const Arguments& a, int64_t i) { crystal_convolution_backward_element(a, i); }
};

}  // namespace

template <class T>
int crystal_convolution(const CrystalArguments<T>& a, Stream stream) {
  return launch_elements<ConvolutionElement<T>>(a, a.n_nodes * a.n_features, stream);
}

template <class T>
int crystal_convolution_backward(const CrystalArguments<T>& a, Stream stream) {
  return launch_elements<ConvolutionBackwardElement<T>>(a, a.n_nodes * a.n_features, stream);
}

template int crystal_convolution<float>(const CrystalArguments<float>&, Stream);
template int crystal_convolution<double>(const CrystalArguments<double>&, Stream);
template int crystal_convolution_backward<float>(const CrystalArguments<float>&, Stream);
template int crystal_convolution_backward<double>(const CrystalArguments<double>&, Stream);

}  // namespace cuda
}  // namespace dcharge
