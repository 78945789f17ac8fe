"""Embedded-atom density features: Gram matrices of orbital sums, invariant under rotation.

g[p, l, (m, m')] = sum_{k of degree l} weight_k S[p, k, m] S[p, k, m'] for m <= m', where weight_k counts the ordered
Cartesian products that equal monomial k, so that the sum is the one over ordered products. The embedded-atom density
rho[n] = sum_l sum_k weight_k (sum_m D_l[m, n] S[k, m])^2 of Feng, Zhang, Jiang, "Efficient Sampling for
Machine Learning Electron Density and Its Response in Real Space", eq. 1, is linear in g.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bases import monomial_weights, n_monomials
from .check import check_tensor
from .orbitals import orbital_sums

POINTS_PER_BLOCK = 8192


def degree_of(n_comp: int) -> int:
    """l_max of n_comp monomials."""
    for l_max in range(4):
        if n_monomials(l_max) == n_comp:
            return l_max
    raise ValueError(f"sums: 1, 4, 10 or 20 components expected on axis 1, got {n_comp}")


def orbital_gram(sums: Tensor) -> Tensor:
    """Unique entries of the Gram matrices of orbital sums, one matrix per degree.

    Parameters: sums [n, n_comp, n_waves] float32 or float64, n_comp 1, 4, 10 or 20 (l_max 0..3).
    Returns g [n, (l_max + 1) n_waves (n_waves + 1)/2], dtype of sums: degree by degree the entries (m, m') with
    m <= m', row by row. Differentiable (twice). Raises TypeError or ValueError naming the argument that is wrong.
    """
    check_tensor("sums", sums, (None, None, None), (torch.float32, torch.float64))
    degree_of(sums.shape[1])
    return orbital_gram_reference(sums)


def orbital_gram_reference(sums: Tensor) -> Tensor:
    """The specification of orbital_gram in torch."""
    l_max = degree_of(sums.shape[1])
    weight = sums.new_tensor(monomial_weights(l_max))
    row, column = torch.triu_indices(sums.shape[2], sums.shape[2], device=sums.device)
    parts = []
    for degree in range(l_max + 1):
        of = slice(n_monomials(degree - 1), n_monomials(degree))
        matrix = torch.einsum("k,nkm,nki->nmi", weight[of], sums[:, of], sums[:, of])
        parts.append(matrix[:, row, column])
    return torch.cat(parts, 1)


def ead(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_type: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    coefficients: Tensor,
    center: Tensor,
    exponent: Tensor,
    field_sum: Tensor | None = None,
    point_atom: Tensor | None = None,
    *,
    rcut: float,
    l_max: int,
    soft: float,
    direction: str,
) -> Tensor:
    """orbital_gram(orbital_sums(...) + field_sum): differentiable (twice) with respect to all floating tensors.

    Parameters
      points .. exponent, point_atom, rcut, l_max, soft, direction: as in orbital_sums
      field_sum [n_frames, n_comp, n_waves] or None: added once to the sums of every point of a frame, in the dtype of
        coefficients. For a uniform field E it is c_E[m] A_k(E), see bases.cartesian_monomials
    Returns g [n, (l_max + 1) n_waves (n_waves + 1)/2]. Without autograd the sums are never held for all points.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    geometry = (points, point_frame, atoms, atom_type, atom_frame, cell, pbc)
    options = dict(rcut=rcut, l_max=l_max, soft=soft, direction=direction)
    floats = (points, atoms, coefficients, center, exponent, field_sum)

    def block(points, point_frame, point_atom):
        sums = orbital_sums(points, point_frame, *geometry[2:], coefficients, center, exponent, point_atom, **options)
        if field_sum is not None:
            shape = (cell.shape[0], sums.shape[1], sums.shape[2])
            check_tensor("field_sum", field_sum, shape, sums.dtype, points.device)
            sums = sums + field_sum[point_frame]
        return orbital_gram(sums)

    needs_graph = torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in floats)
    if needs_graph or not isinstance(points, Tensor) or points.shape[0] <= POINTS_PER_BLOCK:
        return block(points, point_frame, point_atom)
    starts = range(0, points.shape[0], POINTS_PER_BLOCK)
    parts = [slice(start, start + POINTS_PER_BLOCK) for start in starts]
    return torch.cat([block(points[s], point_frame[s], None if point_atom is None else point_atom[s]) for s in parts])
