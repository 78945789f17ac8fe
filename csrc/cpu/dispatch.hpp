// Chooses the kernels for the machine at hand.
#pragma once

#include "cpu/kernels.hpp"

namespace dcharge {

// The widest set the CPU supports, unless the environment variable DCHARGE_ISA (avx512, avx2, baseline) asks for
// another.
const Kernels& kernels();

// Switches to the set of that name for all later calls; false (nothing changed) where this CPU or build lacks it.
bool select_kernels(const char* name);

// The fitting net with operands in bfloat16, weights in pairs; nullptr where the set in use or this CPU has no
// instructions for it.
using NetworkBfloat16 = void (*)(const Network<float>&, const float* moments, int64_t n, float* out, void* scratch);
NetworkBfloat16 network_bfloat16();

}  // namespace dcharge
