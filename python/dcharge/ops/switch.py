"""DeepPot-SE's switch function (Zhang et al., NeurIPS 2018; the quintic form of DeePMD-kit 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from .check import check_tensor


def switch(r: Tensor, rcut: float, rcut_smth: float) -> Tensor:
    """w(r): 1 below rcut_smth, 0 from rcut on, twice continuously differentiable in between.

    u = (r - rcut_smth) / (rcut - rcut_smth); w = u^3 (-6 u^2 + 15 u - 10) + 1 for 0 <= u < 1.

    Parameters: r [...] float32 or float64, distances in Angstrom; rcut > rcut_smth >= 0 in Angstrom.
    Returns w, same shape and dtype. Raises ValueError or TypeError naming the argument that is wrong.
    """
    if not isinstance(r, Tensor):
        raise TypeError(f"r: a torch.Tensor expected, got {type(r).__name__}")
    check_tensor("r", r, tuple(r.shape), (torch.float32, torch.float64))
    if not 0 <= rcut_smth < rcut:
        raise ValueError(f"rcut_smth: 0 <= rcut_smth < rcut = {rcut} Angstrom expected, got {rcut_smth}")
    v = ((rcut - r) / (rcut - rcut_smth)).clamp(0.0, 1.0)  # 1 - u: the same polynomial, without cancellation at rcut
    return v * v * v * ((6.0 * v - 15.0) * v + 10.0)
