"""Neighbour list: all directed pairs within a cutoff, every periodic image counted."""

from __future__ import annotations

import torch
from torch import Tensor

from .check import check_finite, check_tensor
from .geometry import images, shifted
from .library import compiled_for, loaded

DISTANCES_PER_BLOCK = 1 << 22


def neighbors(positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, targets: Tensor | None = None):
    """Pairs (i, j) with |r_j + shift.cell - r_i| < cutoff: any skew, any pbc mask, cells smaller than the cutoff.

    Parameters
      positions [n, 3] float64, Angstrom: the neighbours j, and also the centres i unless targets are given
      cell [3, 3] float64 rows, Angstrom; pbc [3] bool (rows of non-periodic axes are ignored); cutoff in Angstrom
      targets [m, 3] float64 or None: other centres i, e.g. probes; they are not neighbours of each other
    Returns index [2, e] int64 (rows i, j) and shift [e, 3] int32, sorted by (i, j, shift). Without targets an atom is
    not its own neighbour, but its periodic images are. Not differentiable: recompute vectors from index and shift.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    check_tensor("positions", positions, (None, 3), torch.float64)
    check_tensor("cell", cell, (3, 3), torch.float64, positions.device)
    check_tensor("pbc", pbc, (3,), torch.bool, positions.device)
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"cutoff: a positive length in Angstrom expected, got {cutoff}")
    check_finite("positions", positions)
    if targets is not None:
        check_tensor("targets", targets, (None, 3), torch.float64, positions.device)
        check_finite("targets", targets)
    compute = torch.ops.dcharge.neighbors if compiled_for(positions.device) else neighbors_reference
    return compute(positions, cell, pbc, float(cutoff), targets)


@torch.no_grad()
def neighbors_reference(positions, cell, pbc, cutoff, targets):
    """The specification of neighbors in torch; all distances between centres and images."""
    centres = positions if targets is None else targets
    source, atom_shift, point_shift = images(centres, positions, cell, pbc, cutoff)
    ghosts = shifted(positions[source], atom_shift, cell, pbc)
    wrapped = shifted(centres, point_shift, cell, pbc)
    parts = [torch.zeros(5, 0, dtype=torch.int64, device=positions.device)]
    step = max(1, DISTANCES_PER_BLOCK // max(1, len(ghosts)))
    for start in range(0, len(centres), step):
        block = wrapped[start : start + step]
        near = torch.cdist(block, ghosts, compute_mode="donot_use_mm_for_euclid_dist") < cutoff
        i, g = torch.nonzero(near, as_tuple=True)
        i = i + start
        shift = atom_shift[g] - point_shift[i]
        parts.append(torch.cat([i[None], source[g][None], shift.T]))
    table = torch.cat(parts, 1)
    if targets is None:
        table = table[:, (table[0] != table[1]) | (table[2:] != 0).any(0)]
    for column in (4, 3, 2, 1, 0):  # stable sorts, least significant key first
        table = table[:, torch.argsort(table[column], stable=True)]
    return table[:2].contiguous(), table[2:].T.to(torch.int32).contiguous()


def _register():
    @torch.library.register_fake("dcharge::neighbors")
    def _(positions, cell, pbc, cutoff, targets):
        n_edges = torch.library.get_ctx().new_dynamic_size()
        return (
            positions.new_empty((2, n_edges), dtype=torch.int64),
            positions.new_empty((n_edges, 3), dtype=torch.int32),
        )


if loaded():
    _register()
