"""painn's gates and updates of the points' states, with their adjoint: what a step of training spends its time on.

Block by block, so that what is computed from each other lies in the caches, and nothing is kept twice. The formulas are
those of models/painn.py; `Painn.final_state` is the specification. Among the intermediate values

    K = 1 - G (a gate's), m = (Ds, Dv), y = (U v, V v), x = (s, |V v|), p = <U v, V v>, a = (a_ss, a_sv, a_vv)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

BLOCK = 512  # points
# |V v|^2 by whose root the adjoint divides; where V v is zero so is its gradient, as that of `ops.bases.safe_norm`
LEAST = 1e-36


class Weights(NamedTuple):
    """One layer's weights [n_out, n_in] and biases [n_out]; uv is U over V; second has no a_vv in the last layer."""

    gate_first: Tensor
    gate_first_bias: Tensor
    gate_second: Tensor
    gate_second_bias: Tensor
    uv: Tensor
    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor


class Values(NamedTuple):
    """What the adjoint of one layer and block of n points reads; w = n_features."""

    hidden: Tensor  # of the gate [n, 2 w], before
    bent: Tensor  # and after the activation
    keep: Tensor  # K [n, 2 w], of s and v
    v: Tensor  # mixed [n, 3, w]
    y: Tensor  # [n, 3, 2 w]
    x: Tensor  # [n, 2 w]
    p: Tensor  # [n, w]
    update_hidden: Tensor  # [n, w]
    update_bent: Tensor
    a: Tensor  # [n, 3 w], in the last layer [n, 2 w]


class PointStates(torch.autograd.Function):
    """Final scalar states [n, n_features] of points. First derivatives alone.

    floor: of |V v|, as in `painn.Update`; messages [n_points, n_layers, 4, n_features]; rows [n] int64: the points, all
    different, or None for every point; all Weights of all layers
    """

    @staticmethod
    def forward(ctx, floor: float, messages: Tensor, rows: Tensor | None, *weights: Tensor) -> Tensor:
        """The final states."""
        layers, out, kept = layers_of(weights), [messages.new_empty((0, messages.shape[3]))], []
        for block in blocks(messages, rows):
            state = None
            for t, layer in enumerate(layers):
                state, values = updated(layer, state, block[:, t], floor, t == len(layers) - 1)
                kept += [*values, state]
            out.append(state[:, 0])
        ctx.save_for_backward(messages, rows, *weights, *kept)
        return torch.cat(out)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        """Gradients of messages and weights. RuntimeError where these are to be differentiated again (create_graph)."""
        if torch.is_grad_enabled():
            raise RuntimeError("painn: only points or atoms that require gradients have second derivatives")
        n_weights = len(ctx.needs_input_grad) - 3
        messages, rows, *saved = ctx.saved_tensors
        weights, kept = saved[:n_weights], saved[n_weights:]
        d_messages = torch.empty_like(messages) if rows is None else torch.zeros_like(messages)
        d_weights = [torch.zeros_like(w) for w in weights]
        layers, d_layers, each = layers_of(weights), layers_of(d_weights), len(Values._fields) + 1
        for k, (block, d_s) in enumerate(zip(blocks(messages, rows), gradient.split(BLOCK), strict=True)):
            here, d_v = slice(k * BLOCK, k * BLOCK + len(block)), None
            d_block = d_messages[here] if rows is None else torch.empty_like(block)
            for t in reversed(range(len(layers))):
                at = each * (k * len(layers) + t)
                values, before = Values(*kept[at : at + each - 1]), kept[at - 1] if t else None
                d_s, d_v = adjoint(layers[t], d_layers[t], values, before, block[:, t], d_block[:, t], d_s, d_v)
            if rows is not None:
                d_messages.index_copy_(0, rows[here], d_block)
        return None, d_messages, None, *d_weights


def blocks(messages: Tensor, rows: Tensor | None):
    """Messages of every point (rows None) or of those, block by block."""
    return messages.split(BLOCK) if rows is None else (messages.index_select(0, part) for part in rows.split(BLOCK))


def layers_of(weights) -> list[Weights]:
    """Weights of every layer from those of all in a row."""
    each = len(Weights._fields)
    return [Weights(*weights[i : i + each]) for i in range(0, len(weights), each)]


def updated(layer: Weights, before: Tensor | None, m: Tensor, floor: float, last: bool) -> tuple[Tensor, Values]:
    """State [n, 4, w] (s, v) of a block after a layer (the last: s [n, 1, w]) from that before it (None: zeros) and its
    messages m [n, 4, w]."""
    n, _, w = m.shape
    hidden = torch.addmm(layer.gate_first_bias, m[:, 0], layer.gate_first.T)
    bent = silu(hidden)
    keep = torch.addmm(layer.gate_second_bias, bent, layer.gate_second.T, beta=-1, alpha=-1).sigmoid_()
    x, v, new = m.new_empty((n, 2 * w)), m.new_empty((n, 3, w)), m.new_empty((n, 1 if last else 4, w))
    s, length = x[:, :w], x[:, w:]
    if before is None:
        torch.mul(m[:, 0], keep[:, :w], out=s)
        torch.mul(m[:, 1:], keep[:, None, w:], out=v)
    else:
        torch.lerp(before[:, 0], m[:, 0], keep[:, :w], out=s)
        torch.lerp(before[:, 1:], m[:, 1:], keep[:, None, w:], out=v)
    y = (v.view(3 * n, w) @ layer.uv.T).view(n, 3, 2 * w)
    uv, vv = y[:, :, :w], y[:, :, w:]
    products(vv, vv, length)
    (length.add_(floor**2) if floor else length.clamp_min_(LEAST)).sqrt_()
    p = products(uv, vv, m.new_empty((n, w)))
    update_hidden = torch.addmm(layer.first_bias, x, layer.first.T)
    update_bent = silu(update_hidden)
    a = torch.addmm(layer.second_bias, update_bent, layer.second.T)
    torch.add(s, a[:, :w], out=new[:, 0]).addcmul_(a[:, w : 2 * w], p)
    if not last:
        torch.addcmul(v, a[:, None, 2 * w :], uv, out=new[:, 1:])
    return new, Values(hidden, bent, keep, v, y, x, p, update_hidden, update_bent, a)


def adjoint(
    layer: Weights,
    d_layer: Weights,
    values: Values,
    before: Tensor | None,
    m: Tensor,
    d_m: Tensor,
    d_s: Tensor,
    d_v: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Gradients (s [n, w], v [n, 3, w]) of the state before a layer from those after it (the last layer: of s alone).

    The messages' go to d_m [n, 4, w], the weights' are added to d_layer. The first layer's (before None) mean nothing.
    """
    n, _, w = m.shape
    y, a, keep, x = values.y, values.a, values.keep, values.x
    uv, vv = y[:, :, :w], y[:, :, w:]

    # the update: s + a_ss + a_sv p, v + a_vv U v
    d_a = torch.empty_like(a)
    d_a[:, :w] = d_s
    torch.mul(d_s, values.p, out=d_a[:, w : 2 * w])
    if d_v is not None:
        products(d_v, uv, d_a[:, 2 * w :])
    d_layer.second.addmm_(d_a.T, values.update_bent)
    d_layer.second_bias.add_(d_a.sum(0))
    d_hidden = torch.ops.aten.silu_backward(d_a @ layer.second, values.update_hidden)
    d_layer.first.addmm_(d_hidden.T, x)
    d_layer.first_bias.add_(d_hidden.sum(0))
    d_x = d_hidden @ layer.first
    per_length = d_x[:, w:].div_(x[:, w:])
    d_p = d_s * a[:, w : 2 * w]
    d_s = d_x[:, :w].add_(d_s)
    d_y = torch.empty_like(y)
    torch.mul(d_p[:, None], vv, out=d_y[:, :, :w])
    torch.mul(d_p[:, None], uv, out=d_y[:, :, w:]).addcmul_(per_length[:, None], vv)
    if d_v is not None:
        d_y[:, :, :w].addcmul_(a[:, None, 2 * w :], d_v)
    rows = d_y.view(3 * n, 2 * w)
    d_layer.uv.addmm_(rows.T, values.v.view(3 * n, w))
    d_v = (rows @ layer.uv if d_v is None else d_v.reshape(3 * n, w).addmm_(rows, layer.uv)).view(n, 3, w)

    # the gate: before + K (m - before), K = 1 - G
    away = -m if before is None else before - m
    d_gate = torch.empty_like(keep)
    torch.mul(d_s, away[:, 0], out=d_gate[:, :w])
    products(d_v, away[:, 1:], d_gate[:, w:])
    torch.mul(d_s, keep[:, :w], out=d_m[:, 0])
    torch.mul(d_v, keep[:, None, w:], out=d_m[:, 1:])
    if before is not None:
        d_s.sub_(d_m[:, 0])
        d_v.sub_(d_m[:, 1:])
    d_gate = torch.ops.aten.sigmoid_backward(d_gate, keep)
    d_layer.gate_second.addmm_(d_gate.T, values.bent)
    d_layer.gate_second_bias.add_(d_gate.sum(0))
    d_hidden = torch.ops.aten.silu_backward(d_gate @ layer.gate_second, values.hidden)
    d_layer.gate_first.addmm_(d_hidden.T, m[:, 0])
    d_layer.gate_first_bias.add_(d_hidden.sum(0))
    d_m[:, 0].addmm_(d_hidden, layer.gate_first)
    return d_s, d_v


def products(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Scalar products [n, w] over the components of a, b [n, 3, w], into `out`."""
    return torch.mul(a[:, 0], b[:, 0], out=out).addcmul_(a[:, 1], b[:, 1]).addcmul_(a[:, 2], b[:, 2])
