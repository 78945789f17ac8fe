// gram and its adjoint.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {

template <class T>
int gram(const GramArguments<T>& arguments, Stream stream) {
  return launch_blocks<GramBlock<T, sizeof(T) == 4 ? 48 : 64>>(arguments, stream);
}

template <class T>
int gram_backward(const GramArguments<T>& arguments, Stream stream) {
  return launch_blocks<GramBackwardBlock<T, sizeof(T) == 4 ? 64 : 80>>(arguments, stream);
}

template int gram<float>(const GramArguments<float>&, Stream);
template int gram<double>(const GramArguments<double>&, Stream);
template int gram_backward<float>(const GramArguments<float>&, Stream);
template int gram_backward<double>(const GramArguments<double>&, Stream);

}  // namespace cuda
}  // namespace dcharge
