// Entry points of the kernels of one instruction set, for its table (table.cpp).
#pragma once

#include "cpu/kernels.hpp"

namespace dcharge {
namespace DCHARGE_ISA {

template <class T>
void moments(const Radial&, const TilePoints&, const Candidates&, T* out, void* scratch);

template <class T>
void moments_backward(const Radial&, const TilePoints&, const Candidates&, const T* grad, double* d_points,
                      double* d_candidates, void* scratch);

template <class T>
void se_e2_a(const Radial&, const TilePoints&, const Candidates&, const Contraction<T>&, T* out, void* scratch);

template <class T>
void gram(const Contraction<T>&, int64_t n, int64_t n_comp, const T* a, T* d, void* scratch);

template <class T>
void gram_backward(const Contraction<T>&, int64_t n, int64_t n_comp, const T* grad, const T* a, T* d_a, void* scratch);

template <class T>
void network(const Network<T>&, const T* moments, int64_t n, T* out, void* scratch);

template <class T>
size_t network_scratch(const Network<T>&);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
