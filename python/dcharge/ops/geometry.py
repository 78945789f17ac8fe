"""Periodic images in torch: the geometry behind the references of all ops. Cells are rows, Angstrom, float64."""

from __future__ import annotations

import torch
from torch import Tensor


def complete_cell(cell: Tensor, pbc: Tensor) -> Tensor:
    """Cell rows [3, 3] with the rows of non-periodic axes replaced by unit vectors orthogonal to all others.

    The result is always invertible, and its fractional coordinates along a non-periodic axis are lengths in Angstrom.
    Raises ValueError where the periodic vectors are not finite or linearly dependent.
    """
    cell = cell.detach().to(torch.float64)
    periodic = cell[pbc]
    if not torch.isfinite(periodic).all():
        raise ValueError("cell: a periodic cell vector is not finite")
    if len(periodic) == 0:
        return torch.eye(3, dtype=torch.float64, device=cell.device)
    _, s, vt = torch.linalg.svd(periodic)
    if s.min() <= 1e-9 * s.max():
        raise ValueError("cell: the periodic cell vectors are linearly dependent (zero volume)")
    out = cell.clone()
    out[~pbc] = vt[len(periodic) :]
    return out


@torch.no_grad()
def images(points: Tensor, atoms: Tensor, cell: Tensor, pbc: Tensor, cutoff: float):
    """Every periodic image of the atoms that may lie within `cutoff` of a point of one frame.

    Points are wrapped into the cell along periodic axes; the images cover the box that holds them, in fractional
    coordinates, widened by the cutoff divided by the perpendicular heights. This is right for any skew, for any pbc
    mask and for cells smaller than the cutoff.

    Parameters: points [n, 3], atoms [m, 3], cell [3, 3] rows, pbc [3] bool, cutoff in Angstrom.
    Returns source [g] int64 (atom of every image), atom_shift [g, 3] and point_shift [n, 3] (int64, in cells): image g
    lies at atoms[source] + atom_shift.cell, seen by the points at points + point_shift.cell.
    """
    full = complete_cell(cell, pbc)
    inverse = torch.linalg.inv(full)
    reach = cutoff * inverse.norm(dim=0)  # columns of the inverse are 1/height of the three axes
    point_frac, atom_frac = points @ inverse, atoms @ inverse
    point_wrap = torch.where(pbc, -point_frac.floor(), 0.0)
    atom_wrap = torch.where(pbc, -atom_frac.floor(), 0.0)
    point_frac, atom_frac = point_frac + point_wrap, atom_frac + atom_wrap
    if len(points) == 0 or len(atoms) == 0:
        none = torch.zeros(0, dtype=torch.int64, device=points.device)
        return none, none.new_zeros((0, 3)), point_wrap.to(torch.int64)
    slack = reach * 1e-9 + 1e-12
    low, high = point_frac.amin(0) - reach - slack, point_frac.amax(0) + reach + slack
    first = torch.where(pbc, (low - 1).floor(), 0.0).tolist()
    last = torch.where(pbc, high.ceil(), 0.0).tolist()
    axes = [torch.arange(int(a), int(b) + 1, device=points.device) for a, b in zip(first, last, strict=True)]
    shift = torch.cartesian_prod(*axes)
    frac = atom_frac[:, None] + shift
    source, which = torch.nonzero(((frac >= low) & (frac <= high)).all(-1), as_tuple=True)
    return source, shift[which] + atom_wrap.to(torch.int64)[source], point_wrap.to(torch.int64)


def shifted(positions: Tensor, shift: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """positions + shift.cell, with the rows of non-periodic axes (whose shift is zero) left out of the product."""
    rows = torch.where(pbc[:, None], cell, 0.0)
    return positions + shift.to(positions.dtype) @ rows
