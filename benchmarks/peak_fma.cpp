// Peak rate of fused multiply-adds of one core with the vectors the kernels use; compiled by moments.py per instruction
// set. Prints the best of several runs in 1e9 multiply-adds (lanes) per second, float32.
#include <chrono>
#include <cstdio>

#include "cpu/kernels/vec.hpp"

int main() {
  using namespace dcharge::DCHARGE_ISA;
  constexpr int kChains = 12;
  constexpr long kSteps = 2000000;
  double best = 0;
  float total = 0;
  for (int run = 0; run < 7; ++run) {
    Vf sum[kChains];
    for (int c = 0; c < kChains; ++c) {
      sum[c] = set1(0.1f * static_cast<float>(c + run));
    }
    Vf a = set1(0.999f), b = set1(0.001f);
    asm volatile("" : "+x"(a), "+x"(b));
    auto start = std::chrono::steady_clock::now();
    for (long i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) {
        sum[c] = sum[c] * a + b;
      }
    }
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    for (int c = 0; c < kChains; ++c) {
      total += dcharge::DCHARGE_ISA::sum<float>(sum[c]);
    }
    double rate = 1e-9 * kSteps * kChains * kLanes<float> / seconds.count();
    best = rate > best ? rate : best;
  }
  std::printf("%.3f %g\n", best, static_cast<double>(total));
}
