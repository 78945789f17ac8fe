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
from .library import compiled_for, loaded
from .orbitals import MOST_DEGREE, check_orbitals, orbital_sums

POINTS_PER_BLOCK = 8192
POINTS_PER_BLOCK_CUDA = 65536


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
    has_kernel = compiled_for(sums.device) and degree_of(sums.shape[1]) <= MOST_DEGREE
    return torch.ops.dcharge.orbital_gram(sums) if has_kernel else orbital_gram_reference(sums)


def orbital_gram_reference(sums: Tensor) -> Tensor:
    """The specification of orbital_gram in torch."""
    row, column = torch.triu_indices(sums.shape[2], sums.shape[2], device=sums.device)
    parts = []
    for of, weight in degree_blocks(sums):
        matrix = torch.einsum("k,nkm,nki->nmi", weight, sums[:, of], sums[:, of])
        parts.append(matrix[:, row, column])
    return torch.cat(parts, 1)


def orbital_gram_backward_reference(grad: Tensor, sums: Tensor) -> Tensor:
    """Adjoint of orbital_gram: dS for the gradient `grad` of g."""
    n_waves = sums.shape[2]
    row, column = torch.triu_indices(n_waves, n_waves, device=sums.device)
    parts, start = [], 0
    for of, weight in degree_blocks(sums):
        part = grad[:, start : start + len(row)]
        start += len(row)
        every = torch.arange(len(part), device=part.device)[:, None]
        matrix = part.new_zeros((len(part), n_waves, n_waves)).index_put((every, row, column), part)
        parts.append(torch.einsum("k,nmi,nki->nkm", weight, matrix + matrix.transpose(1, 2), sums[:, of]))
    return torch.cat(parts, 1)


def degree_blocks(sums: Tensor) -> list[tuple[slice, Tensor]]:
    """Components of every degree, and their weights."""
    l_max = degree_of(sums.shape[1])
    weight = sums.new_tensor(monomial_weights(l_max))
    blocks = [slice(n_monomials(degree - 1), n_monomials(degree)) for degree in range(l_max + 1)]
    return [(of, weight[of]) for of in blocks]


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
    check_orbitals(*geometry, coefficients, center, exponent, point_atom, **options)
    if field_sum is not None:
        shape = (cell.shape[0], n_monomials(l_max), center.shape[1])
        check_tensor("field_sum", field_sum, shape, center.dtype, points.device)
    tensors = (points, atoms, coefficients, center, exponent, field_sum)
    needs_graph = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if compiled_for(points.device) and l_max <= MOST_DEGREE and not needs_graph:
        orbitals = (coefficients, center, exponent, point_atom, field_sum)
        return torch.ops.dcharge.ead(*geometry, *orbitals, float(rcut), float(soft), l_max, direction == "unit")

    def block(of: slice) -> Tensor:
        atom = None if point_atom is None else point_atom[of]
        frame = point_frame[of]
        sums = orbital_sums(points[of], frame, *geometry[2:], coefficients, center, exponent, atom, **options)
        return orbital_gram(sums if field_sum is None else sums + field_sum[frame])

    n = points.shape[0]
    if needs_graph or n <= POINTS_PER_BLOCK:
        return block(slice(None))
    return torch.cat([block(slice(start, start + POINTS_PER_BLOCK)) for start in range(0, n, POINTS_PER_BLOCK)])


def _register():
    @torch.library.register_fake("dcharge::orbital_gram")
    def _(sums):
        n_waves = sums.shape[2]
        return sums.new_empty((sums.shape[0], (degree_of(sums.shape[1]) + 1) * n_waves * (n_waves + 1) // 2))

    @torch.library.register_fake("dcharge::orbital_gram_backward")
    def _(grad, sums):
        return sums.new_empty(sums.shape)

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    def backward(ctx, grad):
        return torch.ops.dcharge.orbital_gram_backward(grad, *ctx.saved_tensors)

    torch.library.register_autograd("dcharge::orbital_gram", backward, setup_context=save)

    def double_backward(ctx, g):
        # orbital_gram_backward is linear in both arguments; torch's own autograd of the reference is exact here
        with torch.enable_grad():
            grad, sums = (t.detach().requires_grad_() for t in ctx.saved_tensors)
            return torch.autograd.grad(orbital_gram_backward_reference(grad, sums), (grad, sums), g)

    torch.library.register_autograd("dcharge::orbital_gram_backward", double_backward, setup_context=save)

    @torch.library.register_fake("dcharge::ead")
    def _(points, point_frame, atoms, types, frames, cell, pbc, c, center, exponent, point_atom, field_sum, *shape):
        n_waves, l_max = c.shape[1], shape[2]
        return c.new_empty((points.shape[0], (l_max + 1) * n_waves * (n_waves + 1) // 2))

    @torch.library.register_kernel("dcharge::ead", "cuda")
    def _(points, frame, atoms, types, frames, cell, pbc, c, center, exponent, point_atom, field_sum, *shape):
        """On a GPU: orbital sums, then their Gram matrices, block by block."""
        n, n_waves, l_max = points.shape[0], c.shape[1], shape[2]
        g = c.new_empty((n, (l_max + 1) * n_waves * (n_waves + 1) // 2))
        for start in range(0, n, POINTS_PER_BLOCK_CUDA):
            of = slice(start, start + POINTS_PER_BLOCK_CUDA)
            atom = None if point_atom is None else point_atom[of]
            geometry = (points[of], frame[of], atoms, types, frames, cell, pbc)
            sums = torch.ops.dcharge.orbital_sums(*geometry, c, center, exponent, atom, *shape)
            if field_sum is not None:
                sums += field_sum[frame[of]]
            g[of] = torch.ops.dcharge.orbital_gram(sums)
        return g


if loaded():
    _register()
