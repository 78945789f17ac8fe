// Adjoint of probe_messages.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {

template <class T>
int probe_messages_backward(const ProbeArguments<T>& arguments, Stream stream) {
  return launch_blocks<ProbeMessagesBackwardBlock<T, 128>>(arguments, stream);
}

template int probe_messages_backward<float>(const ProbeArguments<float>&, Stream);
template int probe_messages_backward<double>(const ProbeArguments<double>&, Stream);

}  // namespace cuda
}  // namespace dcharge
