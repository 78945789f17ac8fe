#include "cpu/dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace dcharge {
namespace baseline {
extern const Kernels kernels;
}
#ifdef DCHARGE_X86
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512bf16 {
void network(const Network<float>&, const float*, int64_t, float*, void*);
}
#endif

namespace {

// nullptr where this CPU or build lacks the set.
const Kernels* find(const char* name) {
#ifdef DCHARGE_X86
  __builtin_cpu_init();
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  if (!std::strcmp(name, "avx512")) {
    return has_avx512 ? &avx512::kernels : nullptr;
  }
  if (!std::strcmp(name, "avx2")) {
    return has_avx2 ? &avx2::kernels : nullptr;
  }
#endif
  return !std::strcmp(name, "baseline") ? &baseline::kernels : nullptr;
}

const Kernels* choose() {
  if (const char* wanted = std::getenv("DCHARGE_ISA")) {
    if (const Kernels* found = find(wanted)) {
      return found;
    }
  }
  for (const char* name : {"avx512", "avx2"}) {
    if (const Kernels* found = find(name)) {
      return found;
    }
  }
  return &baseline::kernels;
}

std::atomic<const Kernels*>& active() {
  static std::atomic<const Kernels*> table{choose()};
  return table;
}

}  // namespace

const Kernels& kernels() { return *active().load(); }

NetworkBfloat16 network_bfloat16() {
#ifdef DCHARGE_X86
  if (&kernels() == &avx512::kernels && __builtin_cpu_supports("avx512bf16")) {
    return &avx512bf16::network;
  }
#endif
  return nullptr;
}

bool select_kernels(const char* name) {
  const Kernels* found = find(name);
  if (found) {
    active().store(found);
  }
  return found != nullptr;
}

}  // namespace dcharge
