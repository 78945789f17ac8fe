"""Gram matrices of the symmetric descriptor: the rotation-invariant products of DeepPot-SE, D = A^T A_<."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .check import check_integer, check_tensor


def axes(axis_neuron, l_max: int, mode: str, width: int) -> list[int]:
    """Number of axis columns: one for `joint`, one per degree l for `per_l`; checked against the `width` M of A."""
    if mode not in ("joint", "per_l"):
        raise ValueError(f"gram: 'joint' or 'per_l' expected, got {mode!r}")
    n = 1 if mode == "joint" else l_max + 1
    values = [axis_neuron] * n if isinstance(axis_neuron, int) else list(axis_neuron)
    if len(values) != n:
        raise ValueError(f"axis_neuron: {n} integers expected for gram '{mode}' with l_max {l_max}, got {len(values)}")
    for value in values:
        check_integer("axis_neuron", value, 1, width)
    return values


def width(axis: list[int], m: int) -> int:
    """Length of one row of D."""
    return m * sum(axis)


def degree_of(n_comp: int) -> int:
    """l_max of (l_max + 1)^2 components."""
    l_max = math.isqrt(max(n_comp, 1)) - 1
    if (l_max + 1) ** 2 != n_comp or l_max > 3:
        raise ValueError(f"a: 1, 4, 9 or 16 components expected, got {n_comp}")
    return l_max


def gram(a: Tensor, axis_neuron, mode: str = "joint") -> Tensor:
    """Products of the columns of A, summed over angular components.

    joint: D[m, i] = sum_k A[k, m] A[k, i], i < axis_neuron[0], flattened m-major to [n, M * axis_neuron[0]];
    per_l: the same for the components of each degree l alone, i < axis_neuron[l], blocks concatenated.

    Parameters: a [n, (l_max + 1)^2, M] float32 or float64; axis_neuron an integer or a list; mode joint or per_l.
    Returns D, dtype of a. Differentiable (twice). Raises TypeError or ValueError naming the argument that is wrong.
    """
    check_tensor("a", a, (None, None, None), (torch.float32, torch.float64))
    l_max = degree_of(a.shape[1])
    return gram_reference(a, axes(axis_neuron, l_max, mode, a.shape[2]), mode == "per_l")


def gram_blocks(n_comp: int, axis: list[int], per_l: bool) -> list[tuple[int, int, int]]:
    """(first component, last component + 1, axis columns) of every block of D."""
    if not per_l:
        return [(0, n_comp, axis[0])]
    return [(degree * degree, (degree + 1) ** 2, columns) for degree, columns in enumerate(axis)]


def gram_reference(a: Tensor, axis: list[int], per_l: bool) -> Tensor:
    """The specification of gram in torch."""
    parts = []
    for first, last, columns in gram_blocks(a.shape[1], axis, per_l):
        block = a[:, first:last]
        parts.append(torch.einsum("nkm,nki->nmi", block, block[:, :, :columns]).flatten(1))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
