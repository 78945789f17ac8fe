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

template <class T>
void orbital_sums(const Orbitals&, const OrbitalTables<T>&, const TilePoints&, const Candidates&, T* out,
                  void* scratch);

template <class T>
void orbital_sums_backward(const Orbitals&, const OrbitalTables<T>&, const TilePoints&, const Candidates&,
                           const T* grad, const OrbitalGradients<T>&, void* scratch);

template <class T>
void ead(const Orbitals&, const OrbitalTables<T>&, const TilePoints&, const Candidates&, T* out, void* scratch);

template <class T>
void ead_network(const Orbitals&, const OrbitalTables<T>&, const EadNetwork<T>&, const TilePoints&, const Candidates&,
                 T* out, void* scratch);

template <class T>
size_t ead_network_scratch(const Orbitals&, const EadNetwork<T>&);

template <class T>
void orbital_gram(const Orbitals&, int64_t n, const T* s, T* g, void* scratch);

template <class T>
void orbital_gram_backward(const Orbitals&, int64_t n, const T* grad, const T* s, T* d_s, void* scratch);

template <class T>
int64_t probe_pairs(const Probe&, const TilePoints&, int64_t i, const Candidates&, double* square, ProbePair<T>* out);

template <class T>
void probe_messages(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, T* out);

template <class T>
void probe_parameters(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, int64_t slice, const T* grad,
                      T* d_states, T* d_table);

template <class T>
void probe_positions(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, const T* grad, double* d_pairs);

template <class T>
void crystal_convolution(const CrystalGraph<T>&, int64_t begin, int64_t end, T* out);

template <class T>
void crystal_convolution_backward(const CrystalGraph<T>&, const T* grad, int64_t slice, const CrystalGradients<T>&);

template <class T>
void crystal_pairs(const CrystalNetwork<T>&, int64_t first, int64_t n, const double* distance, const int32_t* species,
                   const CrystalPairs<T>&);

template <class T>
void crystal_network(const CrystalNetwork<T>&, const CrystalPairs<T>&, const CrystalBatch&, T* out, void* scratch);

template <class T>
size_t crystal_network_scratch(const CrystalNetwork<T>&, int64_t n_nodes);

template <class T>
void pair_messages(const MessageGraph<T>&, int64_t first, int64_t last, T* out, void* scratch);

template <class T>
void pair_messages_backward(const MessageGraph<T>&, const T* grad, int64_t first, int64_t last,
                            const MessageGradients<T>&, void* scratch);

template <class T>
size_t message_scratch(const MessageGraph<T>&);

template <class T>
void message_network(const MessageNetwork<T>&, int64_t first, int64_t last, T* out, void* scratch);

template <class T>
size_t message_network_scratch(const MessageNetwork<T>&);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
