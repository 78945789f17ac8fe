"""Radial moments: neighbour sums of Chebyshev functions times solid harmonics, the first half of every descriptor.

P[p, t, k, b] = sum_{j of type t} s(r_pj) Y_k(vec/r~) T_b(x), vec = r_j - r_p over all periodic images within rcut,
r~ = sqrt(r^2 + soft^2), s = w(r)/r~, x = 2 (1/r~ - lo)/(hi - lo) - 1, lo = 1/sqrt(rcut^2 + soft^2), hi = 1/soft.
Expanding the embedding net of DeepPot-SE in T_b swaps its neighbour sum with the network: A = P.C (see se_e2_a).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .bases import chebyshev, safe_norm, solid_harmonics
from .check import check_geometry, check_integer, check_radial
from .geometry import images, shifted
from .library import compiled_for, loaded
from .second import through_reference
from .switch import switch

PAIRS_PER_BLOCK = 1 << 16
DISTANCES_PER_BLOCK = 1 << 22


def radial_moments(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_type: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    *,
    rcut: float,
    rcut_smth: float,
    soft: float,
    n_radial: int,
    l_max: int,
    n_types: int,
    out_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Radial moments P of points among atoms; differentiable (twice) with respect to points and atoms.

    Parameters
      points [n, 3] float64, Angstrom, anywhere (wrapped inside); point_frame [n] int64
      atoms [n_atoms, 3] float64, Angstrom; atom_type, atom_frame [n_atoms] int64
      cell [n_frames, 3, 3] float64 rows, Angstrom; pbc [n_frames, 3] bool (rows of non-periodic axes are ignored)
      rcut, rcut_smth, soft in Angstrom; n_radial >= 1 Chebyshev functions; l_max 0..3; out_dtype float32 or float64
    Returns P [n, n_types, (l_max + 1)^2, n_radial] in out_dtype, 1/Angstrom; zeros where no atom is within rcut.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    check_integer("n_types", n_types, 1)
    check_integer("n_radial", n_radial, 1)
    check_integer("l_max", l_max, 0, 3)
    check_radial(rcut, rcut_smth, soft)
    if out_dtype not in (torch.float32, torch.float64):
        raise TypeError(f"out_dtype: torch.float32 or torch.float64 expected, got {out_dtype}")
    check_geometry(points, point_frame, atoms, atom_type, atom_frame, cell, pbc, n_types)
    options = (float(rcut), float(rcut_smth), float(soft), n_radial, l_max, n_types, out_dtype)
    compute = torch.ops.dcharge.radial_moments if compiled_for(points.device) else radial_moments_reference
    return compute(points, point_frame, atoms, atom_type, atom_frame, cell, pbc, *options)


def pair_terms(vector: Tensor, rcut: float, rcut_smth: float, soft: float, n_radial: int, l_max: int):
    """s Y_k [..., (l_max + 1)^2] and T_b [..., n_radial] of pair vectors [..., 3], Angstrom."""
    inverse = (vector.square().sum(-1) + soft * soft).rsqrt()  # 1/r~
    weight = switch(safe_norm(vector), rcut, rcut_smth) * inverse
    low, high = 1.0 / math.sqrt(rcut * rcut + soft * soft), 1.0 / soft
    x = 2.0 * (inverse - low) / (high - low) - 1.0
    return weight[..., None] * solid_harmonics(vector * inverse[..., None], l_max), chebyshev(x, n_radial)


def radial_moments_reference(
    points, point_frame, atoms, atom_type, atom_frame, cell, pbc, rcut, rcut_smth, soft, n_radial, l_max, n_types, dtype
):
    """The specification of radial_moments in torch; same arguments, checked. Memory is bounded without autograd."""
    n_comp = (l_max + 1) ** 2
    blocks, rows = [], []
    for frame in range(cell.shape[0]):
        row = torch.nonzero(point_frame == frame)[:, 0]
        member = torch.nonzero(atom_frame == frame)[:, 0]
        source, atom_shift, point_shift = images(points[row], atoms[member], cell[frame], pbc[frame], rcut)
        ghosts = shifted(atoms[member][source], atom_shift, cell[frame], pbc[frame])
        ghost_type = atom_type[member][source]
        wrapped = shifted(points[row], point_shift, cell[frame], pbc[frame])
        step = max(1, DISTANCES_PER_BLOCK // max(1, len(ghosts)))
        for centres in wrapped.split(step) if len(row) else ():
            near = torch.cdist(centres.detach(), ghosts.detach(), compute_mode="donot_use_mm_for_euclid_dist") < rcut
            i, j = torch.nonzero(near, as_tuple=True)
            total = torch.zeros(len(centres) * n_types, n_comp * n_radial, dtype=dtype, device=points.device)
            for a in range(0, max(1, len(i)), PAIRS_PER_BLOCK):
                ia, ja = i[a : a + PAIRS_PER_BLOCK], j[a : a + PAIRS_PER_BLOCK]
                vector = ghosts[ja] - centres[ia]
                angular, radial = pair_terms(vector, rcut, rcut_smth, soft, n_radial, l_max)
                angular, radial = angular.to(dtype), radial.to(dtype)
                outer = (angular[:, :, None] * radial[:, None, :]).flatten(1)
                total = total.index_add(0, ia * n_types + ghost_type[ja], outer)
            blocks.append(total)
        rows.append(row)
    shape = (points.shape[0], n_types, n_comp, n_radial)
    if not blocks:  # no points: an empty result that still belongs to the graph of its inputs
        return torch.zeros(shape, dtype=dtype, device=points.device) + 0 * (points.sum() + atoms.sum()).to(dtype)
    back = torch.empty_like(point_frame)
    back[torch.cat(rows)] = torch.arange(points.shape[0], device=points.device)
    return torch.cat(blocks).reshape(shape)[back]


def _register():
    lib = "dcharge::radial_moments"

    @torch.library.register_fake(lib)
    def _(points, *rest):
        *_, n_radial, l_max, n_types, dtype = rest
        return points.new_empty((points.shape[0], n_types, (l_max + 1) ** 2, n_radial), dtype=dtype)

    @torch.library.register_fake(lib + "_backward")
    def _(grad, points, point_frame, atoms, *rest):
        return points.new_empty(points.shape), atoms.new_empty(atoms.shape)

    def save(ctx, inputs, output):
        points, point_frame, atoms, *rest, _dtype = inputs
        ctx.save_for_backward(points, point_frame, atoms, *rest[:4])
        ctx.options = rest[4:]

    def backward(ctx, grad):
        d_points, d_atoms = torch.ops.dcharge.radial_moments_backward(grad, *ctx.saved_tensors, *ctx.options)
        return d_points, None, d_atoms, *[None] * 11

    torch.library.register_autograd(lib, backward, setup_context=save)

    def save_backward(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:8])
        ctx.options = inputs[8:]

    def double_backward(ctx, *grads):
        options = *ctx.options, ctx.saved_tensors[0].dtype
        found = through_reference(radial_moments_reference, ctx.saved_tensors, options, [0, 1, 3], grads)
        return *found, *[None] * 6

    torch.library.register_autograd(lib + "_backward", double_backward, setup_context=save_backward)


if loaded():
    _register()
