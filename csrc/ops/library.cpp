// Registers the schemas, and C entry points with which Python asks for the instruction set and GPUs of this build.
#include <torch/csrc/stable/library.h>

#include "cpu/dispatch.hpp"
#include "ops/schemas.hpp"

#ifndef DCHARGE_CUDA_ARCHITECTURES
#define DCHARGE_CUDA_ARCHITECTURES ""
#endif

STABLE_TORCH_LIBRARY(dcharge, m) { dcharge::define_ops(m); }

extern "C" {
__attribute__((visibility("default"))) const char* dcharge_isa() { return dcharge::kernels().name; }
__attribute__((visibility("default"))) int dcharge_select_isa(const char* name) {
  return dcharge::select_kernels(name) ? 1 : 0;
}
// Whether weights of moments_network in bfloat16 are to come in pairs (ops/moments_network.py).
__attribute__((visibility("default"))) int dcharge_bfloat16() { return dcharge::network_bfloat16() != nullptr; }
// Empty without CUDA kernels.
__attribute__((visibility("default"))) const char* dcharge_cuda_architectures() { return DCHARGE_CUDA_ARCHITECTURES; }
}
