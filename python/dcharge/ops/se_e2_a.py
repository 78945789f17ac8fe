"""The two-body embedding descriptor of DeepPot-SE at free points, with swapped sums.

A[p, k, m] = sum_t sum_b P[p, t, k, b] C[t, l(k), b, m] (+ offset[m] for k = 0), D = gram(A). P are the radial moments
and C the embedding network evaluated on its interpolation nodes, so that sum_b C[b, m] T_b(x) = G_m.
(Zhang et al., NeurIPS 2018, eq. 5-8, for the descriptor.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .check import check_geometry, check_radial, check_tensor
from .gram import axes, gram
from .library import compiled_for, loaded
from .moments import radial_moments

POINTS_PER_BLOCK = 8192
POINTS_PER_BLOCK_CUDA = 65536


def se_e2_a(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_type: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    coefficients: Tensor,
    offset: Tensor | None,
    *,
    rcut: float,
    rcut_smth: float,
    soft: float,
    axis_neuron,
    gram: str = "joint",
) -> Tensor:
    """Descriptor D of points among atoms; differentiable with respect to points, atoms, coefficients and offset.

    Parameters
      points .. pbc, rcut, rcut_smth, soft: as in radial_moments
      coefficients [n_types, l_max + 1, n_radial, M] float32 or float64: their dtype is the dtype of the result
      offset [M] or None: added to A[p, 0, :]
      axis_neuron: an integer or a list (per_l: one per degree); gram: "joint" or "per_l", see ops.gram
    Returns D [n, M * sum(axis_neuron)]. Without autograd the moments are never held for all points.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    floats = (torch.float32, torch.float64)
    device = points.device if isinstance(points, Tensor) else None
    check_tensor("coefficients", coefficients, (None, None, None, None), floats, device)
    n_types, n_degrees, n_radial, m = coefficients.shape
    if not 1 <= n_degrees <= 4:
        raise ValueError(f"coefficients: 1 to 4 degrees expected on axis 1, got {n_degrees}")
    if offset is not None:
        check_tensor("offset", offset, (m,), coefficients.dtype, device)
    axis = axes(axis_neuron, n_degrees - 1, gram, m)
    geometry = (points, point_frame, atoms, atom_type, atom_frame, cell, pbc)
    tensors = (points, atoms, coefficients, offset)
    needs_graph = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if compiled_for(points.device) and not needs_graph:
        check_radial(rcut, rcut_smth, soft)
        check_geometry(*geometry, n_types)
        lengths = (float(rcut), float(rcut_smth), float(soft))
        return torch.ops.dcharge.se_e2_a(*geometry, coefficients, offset, *lengths, axis, gram == "per_l")
    options = dict(rcut=rcut, rcut_smth=rcut_smth, soft=soft, n_radial=n_radial, l_max=n_degrees - 1, n_types=n_types)
    options["out_dtype"] = coefficients.dtype

    def block(points, point_frame):
        moments = radial_moments(points, point_frame, *geometry[2:], **options)
        return gram_of(contract(moments, coefficients, offset), axis, gram)

    if needs_graph or points.shape[0] <= POINTS_PER_BLOCK:
        return block(points, point_frame)
    blocks = zip(points.split(POINTS_PER_BLOCK), point_frame.split(POINTS_PER_BLOCK), strict=True)
    return torch.cat([block(*one) for one in blocks])


gram_of = gram  # the keyword `gram` of se_e2_a hides the function of the same name


def contract(moments: Tensor, coefficients: Tensor, offset: Tensor | None) -> Tensor:
    """A [n, n_comp, M] from moments [n, n_types, n_comp, n_radial] and coefficients [n_types, l_max + 1, n_radial, M].

    The offset [M], if any, is added to the l = 0 component.
    """
    n, n_types, _, n_radial = moments.shape
    m = coefficients.shape[-1]
    parts = []
    for degree in range(coefficients.shape[1]):
        block = moments[:, :, degree * degree : (degree + 1) ** 2].transpose(1, 2)
        weight = coefficients[:, degree].reshape(n_types * n_radial, m)
        part = block.reshape(-1, n_types * n_radial) @ weight
        if degree == 0 and offset is not None:
            part = part + offset
        parts.append(part.reshape(n, 2 * degree + 1, m))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


if loaded():

    @torch.library.register_fake("dcharge::se_e2_a")
    def _(points, point_frame, atoms, types, frames, cell, pbc, coefficients, offset, rcut, smth, soft, axis, per_l):
        return coefficients.new_empty((points.shape[0], coefficients.shape[3] * sum(axis)))

    @torch.library.register_kernel("dcharge::se_e2_a", "cuda")
    def _(points, point_frame, atoms, types, frames, cell, pbc, coefficients, offset, rcut, smth, soft, axis, per_l):
        """On a GPU: moments, torch's matrix product, Gram matrix, block by block."""
        n_types, n_degrees, n_radial, m = coefficients.shape
        options = (rcut, smth, soft, n_radial, n_degrees - 1, n_types, coefficients.dtype)
        d = coefficients.new_empty((points.shape[0], m * sum(axis)))
        for start in range(0, points.shape[0], POINTS_PER_BLOCK_CUDA):
            part = slice(start, start + POINTS_PER_BLOCK_CUDA)
            geometry = (points[part], point_frame[part], atoms, types, frames, cell, pbc)
            moments = torch.ops.dcharge.radial_moments(*geometry, *options)
            d[part] = torch.ops.dcharge.gram(contract(moments, coefficients, offset), axis, per_l)
        return d
