// What the kernels of one instruction set offer. Plain data and raw pointers: this header is seen by translation units
// compiled with different instruction sets, so it must not contain inline functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/arguments.hpp"

namespace dcharge {

// Points of one tile in an order in which consecutive ones are close; row is their place in the caller's arrays.
struct TilePoints {
  int64_t n;
  const double *x, *y, *z;
  const int64_t* row;
};

// Atoms (images included) that may be within reach of a tile, sorted by type: those of type t are first[t]..first[t+1].
struct Candidates {
  const double *x, *y, *z;
  const int64_t *first, *source;  // source: the atom of every candidate
};

// Coefficients of se_e2_a: c [n_types, l_max + 1, n_radial, m_padded] with zero padding, offset [m_padded] or null.
template <class T>
struct Contraction {
  const T *c, *offset;
  int64_t m, m_padded;
  const int64_t* axis;  // one number (joint) or l_max + 1 (per_l)
  bool per_l;
  int64_t row_length;  // of D
};

// How the operands of the fitting net's products are held; sums are in the type of the network.
enum class NetworkOperands { exact, rounded, bfloat16 };

constexpr int64_t kPad = 16;          // columns are padded to this in scratch: the widest vector
constexpr int64_t kNetworkRows = 48;  // points that the network treats together

// Gram matrix of A = P.C + offset, folded, then layers x -> tanh(W x + b) dt (+ x or [x, x]) and a linear output.
template <class T>
struct Network {
  Contraction<T> contraction;  // c in panels [l_max + 1][m_padded / 16][n_types * n_radial][16], offset [m_padded]
  int64_t n_types, n_comp, n_radial;
  int64_t n_input;  // of the first layer: the folded Gram matrix
  int64_t n_layers, n_output;
  const int64_t *widths, *skips;  // [n_layers]; skip 0: none, 1: x, 2: [x, x]
  NetworkOperands operands;
  // layer by layer, panels [width_padded / 16][inputs_padded][16] of T; bfloat16: [..][inputs_padded / 2][16][2]
  const void* weights;
  const T* vectors;  // layer by layer bias and dt [width_padded] each; output weights [n_output][last_padded], bias
};

// A linear layer, one residual block, activation, linear output (nn.BlockNetwork).
template <class T>
struct BlockNetwork {
  int64_t n_input, n_layers, n_output;  // n_layers: linear ones without the output, two or more
  const int64_t* widths;                // [n_layers], the last is the first
  bool norm, tanh_like;
  const T* weights;  // layer by layer, panels [width_padded / 16][inputs][16]
  // bias of the first layer; for every further one alpha, beta (, norm's weight, bias) of its inputs and bias; alpha,
  // beta of the last activation; output weights [n_output][inputs], bias. A layer's bias is padded to whole panels.
  const T* vectors;
};

// What ead_network does with the sums of a point: s * scale + constant, Gram matrix, net, minus vacuum.
template <class T>
struct EadNetwork {
  BlockNetwork<T> network;
  int64_t n_states, n_waves;  // of a state; the orbitals have n_states n_waves
  const T* scale;             // [n_comp, n_waves]
  const T* constant;          // [n_frames or 1, n_states, n_comp, n_waves]
  const T* vacuum;            // [n_frames or 1, n_states, n_output] or null; with it, zero where no atom is near
  bool one_frame;             // whether constant and vacuum have one row for all frames
};

// Parameters of the orbitals of a call.
template <class T>
struct OrbitalTables {
  const T* coefficients;       // [n_atoms, n_waves]
  const T *center, *exponent;  // [n_types, n_waves]; the exponents in powers of two, alpha log2(e)
  const int64_t* point_atom;   // [n_points] or null
  const int64_t* point_frame;  // [n_points]
  const T* field_sum;          // [n_frames, n_comp, n_waves] or null; for ead
};

// Where the adjoint of orbital sums puts its results for one tile.
template <class T>
struct OrbitalGradients {
  bool positions, parameters;  // which of them are wanted
  double* d_points;            // [*, 3], rows of the tile written
  // written: [n_candidates, (parameters: n_waves) + (positions: 3)] for coefficients and position of every candidate
  double* d_candidates;
  // written: [n_types, 2, n_waves] sums of c u d and c u d^2, u = dL/d(c e) e with e the orbital and d = r~ - r_s
  double* d_types;
  T* lanes;  // scratch: as many vectors as d_candidates and d_types have numbers
};

// A probe and an atom near it (core/probe.hpp).
template <class T>
struct ProbePair {
  T weight[4], u[3], s, per_r;
  int32_t knot, atom;  // first of the four knots; index in the caller's arrays
};

// Pairs of points: those of point i are pair[first[i]] .. pair[first[i + 1] - 1].
template <class T>
struct ProbePairs {
  int64_t n_points;
  const int64_t *row, *first;
  const ProbePair<T>* pair;
};

// States and filters cut into slices of features, the last padded with zeros: [n_layers][slices][n_atoms][5][C] and
// [n_layers][slices][n_knots][3][C], C = vectors * width.
template <class T>
struct ProbeTables {
  const T *states, *table;
  int64_t n_atoms, vectors;  // 1 or 2 vectors of lanes in a slice
};

// Crystal-graph networks: cpu/crystal.hpp.
template <class T>
struct CrystalGraph;
template <class T>
struct CrystalGradients;
template <class T>
struct CrystalNetwork;
template <class T>
struct CrystalPairs;
struct CrystalBatch;

// pair_messages: cpu/messages.hpp.
template <class T>
struct MessageGraph;
template <class T>
struct MessageGradients;
template <class T>
struct MessageNetwork;

template <class T>
struct KernelsOf {
  int64_t width;  // lanes: points that are treated together
  // bytes of 64-byte aligned scratch that a call of the kernels needs; m_padded is 0 for the plain moments
  size_t (*scratch)(const Radial&, int64_t m_padded);
  // out [*, n_types, (l_max + 1)^2, n_radial], rows of the tile written
  void (*moments)(const Radial&, const TilePoints&, const Candidates&, T* out, void* scratch);
  // grad: like out above; d_points [*, 3], rows of the tile written; d_candidates [n_candidates, 3] added to
  void (*moments_backward)(const Radial&, const TilePoints&, const Candidates&, const T* grad, double* d_points,
                           double* d_candidates, void* scratch);
  // out [*, row_length], rows of the tile written
  void (*se_e2_a)(const Radial&, const TilePoints&, const Candidates&, const Contraction<T>&, T* out, void* scratch);
  // a [n, n_comp, m] -> d [n, row_length], and its adjoint; axis, per_l, m from the contraction
  void (*gram)(const Contraction<T>&, int64_t n, int64_t n_comp, const T* a, T* d, void* scratch);
  void (*gram_backward)(const Contraction<T>&, int64_t n, int64_t n_comp, const T* grad, const T* a, T* d_a,
                        void* scratch);
  // moments [n, n_types, n_comp, n_radial] -> out [n, n_output]; scratch of network_scratch bytes
  void (*network)(const Network<T>&, const T* moments, int64_t n, T* out, void* scratch);
  size_t (*network_scratch)(const Network<T>&);
  // orbitals, l_max <= kMostDegree: bytes of scratch, as above
  size_t (*orbital_scratch)(const Orbitals&);
  // out [*, n_comp, n_waves], or [*, (l_max + 1) n_waves (n_waves + 1) / 2] of ead; rows of the tile written
  void (*orbital_sums)(const Orbitals&, const OrbitalTables<T>&, const TilePoints&, const Candidates&, T* out,
                       void* scratch);
  void (*ead)(const Orbitals&, const OrbitalTables<T>&, const TilePoints&, const Candidates&, T* out, void* scratch);
  // out [*, n_states, n_output], rows of the tile written; scratch of ead_network_scratch bytes
  void (*ead_network)(const Orbitals&, const OrbitalTables<T>&, const EadNetwork<T>&, const TilePoints&,
                      const Candidates&, T* out, void* scratch);
  size_t (*ead_network_scratch)(const Orbitals&, const EadNetwork<T>&);
  void (*orbital_sums_backward)(const Orbitals&, const OrbitalTables<T>&, const TilePoints&, const Candidates&,
                                const T* grad, const OrbitalGradients<T>&, void* scratch);
  // s [n, n_comp, n_waves] -> g, and its adjoint; l_max and n_waves from the orbitals
  void (*orbital_gram)(const Orbitals&, int64_t n, const T* s, T* g, void* scratch);
  void (*orbital_gram_backward)(const Orbitals&, int64_t n, const T* grad, const T* s, T* d_s, void* scratch);
  // pairs of point i of a tile, at most n_candidates: their number; square: scratch [n_candidates]
  int64_t (*probe_pairs)(const Probe&, const TilePoints&, int64_t i, const Candidates&, double* square,
                         ProbePair<T>* out);
  // out [*, n_layers, 4, n_features], rows of the points written
  void (*probe_messages)(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, T* out);
  // adjoints, grad like out: of states and filters in one slice of all layers' slices (like the tables, added to)
  void (*probe_parameters)(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, int64_t slice, const T* grad,
                           T* d_states, T* d_table);
  // of the vectors from atom to probe, d_pairs [n_pairs, 4] written, the last of every four is scratch
  void (*probe_positions)(const Probe&, const ProbeTables<T>&, const ProbePairs<T>&, const T* grad, double* d_pairs);
  // out [n_nodes, n_features], rows begin .. end - 1 written
  void (*crystal_convolution)(const CrystalGraph<T>&, int64_t begin, int64_t end, T* out);
  // adjoint, grad like out: columns of one slice of `width` features
  void (*crystal_convolution_backward)(const CrystalGraph<T>&, const T* grad, int64_t slice,
                                       const CrystalGradients<T>&);
  // rows first .. first + n - 1 of the pairs' tables, from their distances and the species of centre and neighbour
  void (*crystal_pairs)(const CrystalNetwork<T>&, int64_t first, int64_t n, const double* distance,
                        const int32_t* species, const CrystalPairs<T>&);
  // out [n_points, n_layers + 1 or 1, n_features]: means of the states over the nodes of every point
  void (*crystal_network)(const CrystalNetwork<T>&, const CrystalPairs<T>&, const CrystalBatch&, T* out, void* scratch);
  size_t (*crystal_network_scratch)(const CrystalNetwork<T>&, int64_t n_nodes);
  // out [n_points, features], rows of the points first .. last - 1 written; scratch of message_scratch bytes
  void (*pair_messages)(const MessageGraph<T>&, int64_t first, int64_t last, T* out, void* scratch);
  // adjoint, grad like out: what the pairs of these points add
  void (*pair_messages_backward)(const MessageGraph<T>&, const T* grad, int64_t first, int64_t last,
                                 const MessageGradients<T>&, void* scratch);
  size_t (*message_scratch)(const MessageGraph<T>&);
  // out [n_points, features], rows of the points first .. last - 1, at most kMessagePoints, written
  void (*message_network)(const MessageNetwork<T>&, int64_t first, int64_t last, T* out, void* scratch);
  size_t (*message_network_scratch)(const MessageNetwork<T>&);
};

struct Kernels {
  const char* name;
  KernelsOf<float> f32;
  KernelsOf<double> f64;
};

}  // namespace dcharge
