// The kernels as csrc/ops calls them: raw device pointers, the stream they run on, an error code (0: none) back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/bins.hpp"
#include "core/crystal_element.hpp"
#include "core/gram_block.hpp"
#include "core/moments_backward_block.hpp"
#include "core/moments_block.hpp"
#include "core/neighbors_element.hpp"
#include "core/orbital_gram_element.hpp"
#include "core/orbitals_backward_block.hpp"
#include "core/probe_backward_block.hpp"

namespace dcharge {
namespace cuda {

using Stream = void*;

const char* error_text(int error);
int set_device(int device);
// Both return when the host's memory may be used again; copy_to_host after all work of the stream before it.
int copy_to_host(void* to, const void* from, size_t bytes, Stream stream);
int copy_to_device(void* to, const void* from, size_t bytes, Stream stream);

// Marks in complaints [kComplaints] (zeros before) what is wrong with the points and atoms.
int check(const Geometry& geometry, int64_t n_types, int64_t* complaints, Stream stream);
// Slots of the atoms [n_atoms], to be sorted; fills bins.bounds.
int atom_slots(const Bins& bins, int64_t* slots, Stream stream);
// The rest of the bins, from sorted slots and the order that sorts them.
int fill_bins(const Bins& bins, const int64_t* sorted, const int64_t* order, Stream stream);
// Keys of the points [n_points], to be sorted.
int point_keys(const Bins& bins, int64_t* keys, Stream stream);

template <class T>
int moments(const Points& points, const Radial& radial, T* out, Stream stream);
template <class T>
int moments_backward(const Points& points, const Radial& radial, const T* grad, double* d_points, double* d_atoms,
                     Stream stream);
template <class T>
int gram(const GramArguments<T>& arguments, Stream stream);
template <class T>
int gram_backward(const GramArguments<T>& arguments, Stream stream);
template <class T>
int orbital_sums(const OrbitalArguments<T>& arguments, Stream stream);
template <class T>
int orbital_sums_backward(const OrbitalArguments<T>& arguments, Stream stream);
template <class T>
int orbital_gram(const OrbitalGramArguments<T>& arguments, Stream stream);
template <class T>
int orbital_gram_backward(const OrbitalGramArguments<T>& arguments, Stream stream);
template <class T>
int probe_messages(const ProbeArguments<T>& arguments, Stream stream);
template <class T>
int probe_messages_backward(const ProbeArguments<T>& arguments, Stream stream);
// d_neighbor and d_table of the adjoint begin with zeros.
template <class T>
int crystal_convolution(const CrystalArguments<T>& arguments, Stream stream);
template <class T>
int crystal_convolution_backward(const CrystalArguments<T>& arguments, Stream stream);
// Pairs of every centre; then, with their running sum, the pairs themselves.
int count_neighbors(const NeighborsArguments& arguments, Stream stream);
int fill_neighbors(const NeighborsArguments& arguments, Stream stream);

}  // namespace cuda
}  // namespace dcharge
