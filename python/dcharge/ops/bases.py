"""Radial and angular functions of a pair, in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def safe_norm(vector: Tensor) -> Tensor:
    """Length over the last axis, with zero first and second derivatives at the origin instead of nan."""
    square = vector.square().sum(-1)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def chebyshev(x: Tensor, n: int) -> Tensor:
    """Chebyshev polynomials T_0 .. T_{n-1} of x [...] -> [..., n]."""
    values = [torch.ones_like(x), x]
    for _ in range(2, n):
        values.append(2 * x * values[-1] - values[-2])
    return torch.stack(values[:n], dim=-1)


def solid_harmonics(u: Tensor, l_max: int) -> Tensor:
    """Real solid harmonics of degree 0 .. l_max <= 3 of u [..., 3] -> [..., (l_max + 1)^2].

    Racah normalisation: sum_m Y_lm(u) Y_lm(v) = P_l(u.v) for unit vectors. Homogeneous polynomials, so they are
    smooth where u vanishes. Order: l, then m = -l .. l, except l = 1, which is (x, y, z).
    """
    x, y, z = u.unbind(-1)
    values = [torch.ones_like(x)]
    if l_max >= 1:
        values += [x, y, z]
    if l_max >= 2:
        r = math.sqrt(3)
        values += [r * x * y, r * y * z, z * z - 0.5 * (x * x + y * y), r * x * z, 0.5 * r * (x * x - y * y)]
    if l_max >= 3:
        a, b, c = math.sqrt(5 / 8), math.sqrt(15), math.sqrt(3 / 8)
        values += [
            a * y * (3 * x * x - y * y),
            b * x * y * z,
            c * y * (4 * z * z - x * x - y * y),
            z * (z * z - 1.5 * (x * x + y * y)),
            c * x * (4 * z * z - x * x - y * y),
            0.5 * b * z * (x * x - y * y),
            a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, dim=-1)


def degrees(l_max: int) -> list[int]:
    """Degree l of each of the (l_max + 1)^2 components."""
    return [degree for degree in range(l_max + 1) for _ in range(2 * degree + 1)]


def cartesian_monomials(v: Tensor, l_max: int) -> Tensor:
    """Unique Cartesian monomials of degree 0 .. l_max <= 3 of v [..., 3] -> [..., n_monomials(l_max)].

    Order: 1; x, y, z; xx, yy, zz, xy, xz, yz; xxx, yyy, zzz, xxy, xxz, xyy, yyz, xzz, yzz, xyz.
    """
    x, y, z = v.unbind(-1)
    values = [torch.ones_like(x)]
    if l_max >= 1:
        values += [x, y, z]
    if l_max >= 2:
        xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
        values += [xx, yy, zz, xy, xz, yz]
    if l_max >= 3:
        values += [x * xx, y * yy, z * zz, x * xy, x * xz, x * yy, y * yz, x * zz, y * zz, x * yz]
    return torch.stack(values, dim=-1)


def n_monomials(l_max: int) -> int:
    """Number of unique Cartesian monomials of degree 0 .. l_max: 1, 4, 10, 20."""
    return (l_max + 1) * (l_max + 2) * (l_max + 3) // 6


def monomial_weights(l_max: int) -> list[int]:
    """How many ordered Cartesian products equal each monomial, l!/(a! b! c!): sum_k weight_k A_k(u) A_k(v) over the
    monomials of degree l is (u.v)^l."""
    return [1, *[1] * 3, *[1] * 3, *[2] * 3, *[1] * 3, *[3] * 6, 6][: n_monomials(l_max)]
