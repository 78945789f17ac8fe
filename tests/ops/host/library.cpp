// The CUDA implementation of the ops, compiled for the CPU and registered as torch.ops.dcharge_host.
#include <torch/csrc/stable/library.h>

#include "ops/schemas.hpp"

STABLE_TORCH_LIBRARY(dcharge_host, m) { dcharge::define_ops(m); }
