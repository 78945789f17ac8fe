"""Functions of a pair's distance that the families of DeepDFT expand their filters in."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def even_trigonometry(square: Tensor) -> tuple[Tensor, Tensor]:
    """cos(x) and sin(x)/x of x = sqrt(square), smooth functions of the square at zero too, with all derivatives."""
    small = square < 1e-2
    z = torch.where(small, square, 0.0)
    cosine = 1 - z / 2 * (1 - z / 12 * (1 - z / 30 * (1 - z / 56)))
    sinc = 1 - z / 6 * (1 - z / 20 * (1 - z / 42 * (1 - z / 72)))
    x = torch.where(small, 1.0, square).sqrt()
    return torch.where(small, cosine, x.cos()), torch.where(small, sinc, x.sin() / x)


def sinc_basis(square: Tensor, rcut: float, n: int) -> Tensor:
    """sin(k pi r/rcut)/r for k = 1 .. n and r = sqrt(square) [e] -> [e, n], 1/Angstrom (DimeNet, arXiv:2003.03123).

    sin(k x) = sin(x) U_{k-1}(cos x), so that one sine and one cosine give all; float64, for the recursion loses digits.
    """
    cosine, sinc = even_trigonometry(square * (math.pi / rcut) ** 2)
    values = [sinc * (math.pi / rcut)]
    values.append(2 * cosine * values[0])
    for _ in range(2, n):
        values.append(2 * cosine * values[-1] - values[-2])
    return torch.stack(values[:n], -1)


def gaussians(r: Tensor, rcut: float, step: float) -> Tensor:
    """exp(-(r - k step)^2/(2 step^2)) for k step = 0 .. below rcut: r [e] -> [e, ceil(rcut/step)].

    Below 1e-20 zero: as float32 the far tails would be denormal, which makes a matrix product many times slower.
    """
    center = step * torch.arange(n_gaussians(rcut, step), dtype=r.dtype, device=r.device)
    return torch.nn.functional.threshold(torch.exp((r[:, None] - center).square() * (-0.5 / step**2)), 1e-20, 0.0)


def n_gaussians(rcut: float, step: float) -> int:
    """How many functions `gaussians` gives."""
    return math.ceil(rcut / step)


def cosine_cutoff(square: Tensor, rcut: float) -> Tensor:
    """(1 + cos(pi r/rcut))/2 of r = sqrt(square) < rcut: its slope vanishes at rcut, its curvature does not."""
    return 0.5 + 0.5 * even_trigonometry(square * (math.pi / rcut) ** 2)[0]


def sigmoid_cutoff(r: Tensor, rcut: float) -> Tensor:
    """1 - sigmoid(5 (r - rcut + 1.5)), r in Angstrom: 5.5e-4 at rcut."""
    return torch.sigmoid(-5.0 * (r - (rcut - 1.5)))
