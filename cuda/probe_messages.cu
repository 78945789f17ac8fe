// probe_messages.
#include "cuda/kernels.hpp"
#include "cuda/launch.hpp"

namespace dcharge {
namespace cuda {

template <class T>
int probe_messages(const ProbeArguments<T>& arguments, Stream stream) {
  return launch_blocks<ProbeMessagesBlock<T, 96>>(arguments, stream);
}

template int probe_messages<float>(const ProbeArguments<float>&, Stream);
template int probe_messages<double>(const ProbeArguments<double>&, Stream);

}  // namespace cuda
}  // namespace dcharge
