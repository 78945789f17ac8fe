// A net with one residual block and trainable activations (nn.BlockNetwork) on a group of points, one point per lane:
// all of a point stays in the first-level cache from its features to its output.
#pragma once

#include "cpu/kernels.hpp"
#include "cpu/kernels/orbitals.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

constexpr int64_t whole_panels(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// y[n] = bias[n] + sum_k w[k][n] x[k]; weights in panels [n_out / 16][n_in][16], bias and y in whole panels.
template <class T>
DCHARGE_INLINE void dense_lanes(const Vec<T>* x, int64_t n_in, const T* weights, const T* bias, int64_t n_out,
                                Vec<T>* y) {
  constexpr int B = kRegisters >= 32 ? 16 : 8;  // sums at once, in registers
  for (int64_t first = 0; first < n_out; first += B) {
    const T* w = weights + first / kPad * kPad * n_in + first % kPad;
    Vec<T> sum[B];
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      sum[b] = set1(bias[first + b]);
    }
    for (int64_t k = 0; k < n_in; ++k) {
      Vec<T> from = x[k];
#pragma GCC unroll 16
      for (int b = 0; b < B; ++b) {
        sum[b] += from * set1(w[k * kPad + b]);
      }
    }
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      y[first + b] = sum[b];
    }
  }
}

// y = alpha SiLU(beta x), or alpha x / sqrt(1 + (beta x)^2). y may be x.
template <class T>
DCHARGE_INLINE void bend_lanes(const Vec<T>* x, const T* alpha, const T* beta, int64_t width, bool tanh_like,
                               Vec<T>* y) {
  for (int64_t i = 0; i < width; ++i) {
    Vec<T> bent = x[i] * set1(beta[i]);
    if (tanh_like) {
      y[i] = set1(alpha[i]) * x[i] * rsqrt(T(1) + bent * bent);
    } else {
      Vec<T> e = exp2_nonpositive<T>(T(-1.4426950408889634074) * vmax(bent, -bent)), part = bent / (T(1) + e);
      y[i] = set1(alpha[i]) * (bent > Vec<T>{} ? part : e * part);
    }
  }
}

// Layer norm of width numbers, in place.
template <class T>
DCHARGE_INLINE void norm_lanes(const T* weight, const T* bias, int64_t width, Vec<T>* x) {
  Vec<T> mean{}, square{};
  for (int64_t i = 0; i < width; ++i) {
    mean += x[i];
  }
  mean *= set1(T(1) / T(width));
  for (int64_t i = 0; i < width; ++i) {
    x[i] -= mean;
    square += x[i] * x[i];
  }
  Vec<T> scale = rsqrt(square * set1(T(1) / T(width)) + T(1e-5));
  for (int64_t i = 0; i < width; ++i) {
    x[i] = x[i] * scale * set1(weight[i]) + set1(bias[i]);
  }
}

// Widest layer of a net, in whole panels.
template <class T>
DCHARGE_INLINE int64_t widest(const BlockNetwork<T>& n) {
  int64_t width = 0;
  for (int64_t i = 0; i < n.n_layers; ++i) {
    width = width > n.widths[i] ? width : n.widths[i];
  }
  return whole_panels(width);
}

// Output [n_output] of features g [n_input]; scratch: three times the widest layer.
template <class T>
DCHARGE_INLINE void network_lanes(const BlockNetwork<T>& n, const Vec<T>* g, Vec<T>* scratch, Vec<T>* out) {
  int64_t room = widest(n), width = n.widths[0];
  Vec<T>*x = scratch, *bent = x + room, *y = bent + room;
  const T *weights = n.weights, *vectors = n.vectors;
  dense_lanes<T>(g, n.n_input, weights, vectors, width, x);
  weights += n.n_input * whole_panels(width);
  vectors += whole_panels(width);
  const Vec<T>* before = x;
  for (int64_t i = 1; i < n.n_layers; ++i) {
    bend_lanes<T>(before, vectors, vectors + width, width, n.tanh_like, bent);
    vectors += 2 * width;
    if (n.norm) {
      norm_lanes<T>(vectors, vectors + width, width, bent);
      vectors += 2 * width;
    }
    int64_t next = n.widths[i];
    dense_lanes<T>(bent, width, weights, vectors, next, y);
    weights += width * whole_panels(next);
    vectors += whole_panels(next);
    width = next;
    before = y;
  }
  for (int64_t i = 0; i < width; ++i) {
    x[i] += y[i];
  }
  bend_lanes<T>(x, vectors, vectors + width, width, n.tanh_like, x);
  vectors += 2 * width;
  const T* bias = vectors + n.n_output * width;
  for (int64_t o = 0; o < n.n_output; ++o) {
    Vec<T> even = set1(bias[o]), odd{};
    const T* w = vectors + o * width;
    for (int64_t i = 0; i + 1 < width; i += 2) {
      even += x[i] * set1(w[i]);
      odd += x[i + 1] * set1(w[i + 1]);
    }
    if (width % 2) {
      even += x[width - 1] * set1(w[width - 1]);
    }
    out[o] = even + odd;
  }
}

}  // namespace
}  // namespace DCHARGE_ISA
}  // namespace dcharge
