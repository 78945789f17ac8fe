"""Argument checks shared by the ops: every message names the argument and what was expected."""

from __future__ import annotations

import torch
from torch import Tensor


def check_tensor(name: str, value, shape: tuple, dtype=None, device=None) -> None:
    """Raise unless `value` is a tensor of this shape (None: any length), dtype (or tuple of dtypes) and device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: a torch.Tensor expected, got {type(value).__name__}")
    if value.dim() != len(shape) or any(
        want is not None and have != want for have, want in zip(value.shape, shape, strict=True)
    ):
        want = ", ".join("n" if n is None else str(n) for n in shape)
        raise ValueError(f"{name}: shape [{want}] expected, got {list(value.shape)}")
    if dtype is not None:
        allowed = dtype if isinstance(dtype, tuple) else (dtype,)
        if value.dtype not in allowed:
            raise TypeError(f"{name}: {' or '.join(str(d) for d in allowed)} expected, got {value.dtype}")
    if device is not None and value.device != device:
        raise ValueError(f"{name}: is on {value.device}, but points are on {device}")


def check_range(name: str, index: Tensor, n: int, what: str, first: int = 0) -> None:
    """Raise unless all values of the integer tensor `index` lie in first .. n-1. Skipped while torch.compile traces."""
    if torch.compiler.is_compiling() or index.numel() == 0:
        return
    low, high = (int(v) for v in torch.aminmax(index))
    if low < first or high >= n:
        raise ValueError(f"{name}: values must lie in {first}..{n - 1} ({what}), got {low if low < first else high}")


def check_finite(name: str, value: Tensor) -> None:
    """Raise unless all values are finite. Skipped while torch.compile traces."""
    if torch.compiler.is_compiling():
        return
    finite = torch.isfinite(value.detach())
    if not bool(finite.all()):
        row = int(torch.nonzero(~finite)[0, 0])
        raise ValueError(f"{name}: row {row} is not a finite number")


def check_geometry(points, point_frame, atoms, atom_type, atom_frame, cell, pbc, n_types: int = 0) -> None:
    """Checks of the seven tensors that every point op takes (docs/architecture.md, "Ops"); of the others where
    atom_type is None."""
    check_tensor("points", points, (None, 3), torch.float64)
    device = points.device
    check_tensor("point_frame", point_frame, (points.shape[0],), torch.int64, device)
    check_tensor("atoms", atoms, (None, 3), torch.float64, device)
    if atom_type is not None:
        check_tensor("atom_type", atom_type, (atoms.shape[0],), torch.int64, device)
    check_tensor("atom_frame", atom_frame, (atoms.shape[0],), torch.int64, device)
    check_tensor("cell", cell, (None, 3, 3), torch.float64, device)
    check_tensor("pbc", pbc, (cell.shape[0], 3), torch.bool, device)
    check_finite("points", points)
    check_finite("atoms", atoms)
    check_range("point_frame", point_frame, cell.shape[0], "frames of cell")
    check_range("atom_frame", atom_frame, cell.shape[0], "frames of cell")
    if atom_type is not None:
        check_range("atom_type", atom_type, n_types, "n_types")


def check_radial(rcut: float, rcut_smth: float, soft: float) -> None:
    """0 <= rcut_smth < rcut and soft > 0, Angstrom."""
    if not 0 < rcut < float("inf"):
        raise ValueError(f"rcut: a positive length in Angstrom expected, got {rcut}")
    if not 0 <= rcut_smth < rcut:
        raise ValueError(f"rcut_smth: 0 <= rcut_smth < rcut = {rcut} Angstrom expected, got {rcut_smth}")
    if not soft > 0:
        raise ValueError(
            f"soft: a positive length in Angstrom expected, got {soft} (the moments expand in 1/sqrt(r^2 + soft^2))"
        )


def check_integer(name: str, value, low: int, high: int | None = None) -> None:
    """An int in low .. high."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ValueError(
            f"{name}: an integer {'>= ' + str(low) if high is None else f'in {low}..{high}'} expected, got {value!r}"
        )
