"""From radial moments to the network's output in one pass, for inference: A = P.C + offset, D = gram(A), fitting net.

Layers x -> tanh(W x + b) dt, plus x or [x, x] where a layer has a skip connection; a linear output. D never exists for
all points, and the block of D that is symmetric (D[m, i] = D[i, m] for columns m, i among the axis columns) is kept
once, with the two weights of the first layer added. With `bf16` the operands of the layers' matrix products are rounded
to bfloat16 (8 bits of mantissa); moments, A, D, sums, activations and the output layer keep their precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from .gram import gram, gram_reference
from .library import bfloat16_pairs, compiled_for, loaded
from .se_e2_a import contract

PANEL = 16  # output columns that the kernels treat together


@dataclass
class FittingLayer:
    """Weight [n_out, n_in], bias [n_out], time step [n_out] or None, skip connection 0 (none), 1 (x) or 2 ([x, x])."""

    weight: Tensor
    bias: Tensor
    dt: Tensor | None
    skip: int


@dataclass
class MomentsNetwork:
    """What `moments_network` needs beside the moments; `pack` arranges it for the compiled kernels.

    coefficients [n_types, l_max + 1, n_radial, M], offset [M], axis: list, per_l as in se_e2_a and gram;
    output: weight [n_out, n_last] and bias [n_out]; bf16: round the operands of the layers' products.
    """

    coefficients: Tensor
    offset: Tensor
    axis: list[int]
    per_l: bool
    layers: list[FittingLayer]
    output: tuple[Tensor, Tensor]
    bf16: bool = False
    packed: tuple | None = None

    def pack(self) -> MomentsNetwork:
        """This network with arguments for the kernels of the CPU and instruction set in use."""
        m, dtype = self.coefficients.shape[-1], self.coefficients.dtype
        pairs = self.bf16 and bfloat16_pairs()
        c = self.coefficients.transpose(0, 1).flatten(1, 2)  # [l_max + 1, n_types * n_radial, M]
        weights, vectors, folded = [], [], fold(self.layers[0].weight, m, self.axis)
        for i, layer in enumerate(self.layers):
            columns = (folded if i == 0 else layer.weight).T  # [n_in, n_out]
            if self.bf16:
                columns = columns.bfloat16() if pairs else columns.bfloat16().to(dtype)
            weights.append(panels(pad(columns, (0, 0, 0, -len(columns) % PANEL)) if pairs else columns, pairs))
            dt = torch.ones_like(layer.bias) if layer.dt is None else layer.dt
            vectors += [pad(v, (0, -len(v) % PANEL)) for v in (layer.bias, dt)]
        weight, bias = self.output
        vectors += [pad(weight, (0, -weight.shape[1] % PANEL)).flatten(), bias]
        self.packed = (
            torch.stack([panels(each) for each in c]),
            pad(self.offset, (0, -m % PANEL)),
            m,
            self.axis,
            self.per_l,
            torch.cat([w.flatten() for w in weights]),
            torch.cat(vectors),
            [len(layer.bias) for layer in self.layers],
            [layer.skip for layer in self.layers],
            len(bias),
            self.bf16,
        )
        return self


def panels(columns: Tensor, pairs: bool = False) -> Tensor:
    """[n_in, n_out] -> [n_panels, n_in, 16], zero-padded; `pairs`: [n_panels, n_in / 2, 16, 2]."""
    padded = pad(columns, (0, -columns.shape[1] % PANEL))
    split = padded.unflatten(1, (-1, PANEL))  # [n_in, n_panels, 16]
    if pairs:
        return split.unflatten(0, (-1, 2)).permute(2, 0, 3, 1).contiguous()
    return split.transpose(0, 1).contiguous()


def fold(weight: Tensor, m: int, axis: list[int]) -> Tensor:
    """First-layer weights [n_out, m * sum(axis)] -> [n_out, n_folded]: lower triangle of each symmetric block."""
    parts, start = [], 0
    for columns in axis:
        block = weight[:, start : start + m * columns].unflatten(1, (m, columns))
        start += m * columns
        square = block[:, :columns]
        both = square + square.transpose(1, 2) - torch.diag_embed(torch.diagonal(square, dim1=1, dim2=2))
        rows, cols = torch.tril_indices(columns, columns, device=weight.device)
        parts += [both[:, rows, cols], block[:, columns:].flatten(1)]
    return torch.cat(parts, 1)


def moments_network(moments: Tensor, network: MomentsNetwork) -> Tensor:
    """Output [n, n_out] of the network for moments [n, n_types, (l_max + 1)^2, n_radial]; without gradients.

    The compiled kernel answers on the CPU for a network that has been packed, torch everywhere else.
    Raises RuntimeError where moments and network do not fit, or where gradients of the moments are asked for.
    """
    if torch.is_grad_enabled() and moments.requires_grad:
        raise RuntimeError("moments_network: has no gradients; use contract, gram and the layers one by one")
    if network.packed is not None and compiled_for(moments.device) and moments.device.type == "cpu":
        return torch.ops.dcharge.moments_network(moments, *network.packed)
    return moments_network_reference(moments, network, lambda a, *how: gram(a, how[0], "per_l" if how[1] else "joint"))


def moments_network_reference(moments: Tensor, network: MomentsNetwork, products=gram_reference) -> Tensor:
    """The specification of moments_network in torch; products: the Gram matrix, as `gram_reference`."""
    a = contract(moments, network.coefficients, network.offset)
    x, m = products(a, network.axis, network.per_l), a.shape[2]

    def rounded(t):
        return t.bfloat16().to(t.dtype) if network.bf16 else t

    weights = [layer.weight for layer in network.layers]
    if network.bf16:  # the folded weights are what is rounded: each column of the symmetric block stands for two
        x, weights[0] = folded_columns(x, m, network.axis), fold(weights[0], m, network.axis)
    for layer, weight in zip(network.layers, weights, strict=True):
        y = torch.tanh(linear(rounded(x), rounded(weight), layer.bias))
        y = y if layer.dt is None else y * layer.dt
        x = y + torch.cat([x] * layer.skip, 1) if layer.skip else y
    return linear(x, *network.output)


def folded_columns(d: Tensor, m: int, axis: list[int]) -> Tensor:
    """D [n, m * sum(axis)] -> the columns that `fold` keeps, [n, n_folded]."""
    parts, start = [], 0
    for columns in axis:
        block = d[:, start : start + m * columns].unflatten(1, (m, columns))
        start += m * columns
        rows, cols = torch.tril_indices(columns, columns, device=d.device)
        parts += [block[:, rows, cols], block[:, columns:].flatten(1)]
    return torch.cat(parts, 1)


if loaded():

    @torch.library.register_fake("dcharge::moments_network")
    def _(moments, coefficients, offset, m, axis, per_l, weights, vectors, widths, skips, n_output, bf16):
        return moments.new_empty((moments.shape[0], n_output))
