"""Gram matrices of the symmetric descriptor: the rotation-invariant products of DeepPot-SE, D = A^T A_<."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from .check import check_integer, check_tensor
from .library import compiled_for, loaded


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
    compute = torch.ops.dcharge.gram if compiled_for(a.device) else gram_reference
    return compute(a, axes(axis_neuron, l_max, mode, a.shape[2]), mode == "per_l")


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


def gram_backward_reference(grad: Tensor, a: Tensor, axis: list[int], per_l: bool) -> Tensor:
    """Adjoint of gram: dA for the gradient `grad` of D."""
    parts, start = [], 0
    for first, last, columns in gram_blocks(a.shape[1], axis, per_l):
        block, m = a[:, first:last], a.shape[2]
        d = grad[:, start : start + m * columns].unflatten(1, (m, columns))
        start += m * columns
        part = torch.einsum("nmi,nki->nkm", d, block[:, :, :columns])
        parts.append(part + pad(torch.einsum("nmi,nkm->nki", d, block), (0, m - columns)))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _register():
    @torch.library.register_fake("dcharge::gram")
    def _(a, axis, per_l):
        return a.new_empty((a.shape[0], a.shape[2] * sum(axis)))

    @torch.library.register_fake("dcharge::gram_backward")
    def _(grad, a, axis, per_l):
        return a.new_empty(a.shape)

    def save(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.options = inputs[1:]

    def backward(ctx, grad):
        return torch.ops.dcharge.gram_backward(grad, *ctx.saved_tensors, *ctx.options), None, None

    torch.library.register_autograd("dcharge::gram", backward, setup_context=save)

    def save_backward(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.options = inputs[2:]

    def double_backward(ctx, g):
        # gram_backward is linear in both arguments; torch's own autograd of the reference is exact here
        with torch.enable_grad():
            grad, a = (t.detach().requires_grad_() for t in ctx.saved_tensors)
            d = gram_backward_reference(grad, a, *ctx.options)
            return *torch.autograd.grad(d, (grad, a), g), None, None

    torch.library.register_autograd("dcharge::gram_backward", double_backward, setup_context=save_backward)


if loaded():
    _register()
