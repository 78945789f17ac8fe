"""Messages that see sender and receiver, summed over the neighbours of a point: DeepDFT's invariant probe network.

For the pairs (i, j) of point i and atom j, of distance r_ij:

    out_i = sum_j w(r_ij) * (W ssp(sent_j + received_i) + b),   ssp(x) = ln(1 + e^x) - ln 2

`sent` and `received` are the two parts of the node network's first layer, W and b its second one (Jorgensen, Bhowmik,
"DeepDFT: Neural Message Passing Network for Accurate Charge Density Prediction", 2020). The filter w lies on uniform
knots from 0 to rcut and is interpolated by the cubic through the four nearest ones, as in `probe_messages`. Every pair
costs one matrix product, because the receiver's state enters its message.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .check import check_range, check_tensor
from .library import compiled_for, loaded
from .probe_messages import FEWEST_KNOTS, interpolation
from .second import through_reference

PAIRS_PER_BLOCK = 1 << 14


def pair_messages(
    sent: Tensor,
    received: Tensor,
    pair_offset: Tensor,
    pair_atom: Tensor,
    distance: Tensor,
    weight: Tensor,
    bias: Tensor,
    table: Tensor,
    *,
    rcut: float,
) -> Tensor:
    """Sums of messages; differentiable (twice) with respect to sent, received, weight, bias and table.

    Parameters
      sent [n_atoms, n_hidden] float32 or float64: the atoms' part of the hidden values
      received [n, n_hidden], dtype of sent: the points' part
      pair_offset [n + 1] int64: the pairs of point i are pair_offset[i] .. pair_offset[i + 1] - 1
      pair_atom [n_pairs] int64: the atom j; distance [n_pairs] float64, Angstrom, in 0 .. rcut
      weight [n_features, n_hidden], bias [n_features], dtype of sent: W and b
      table [n_knots, n_features], dtype of sent: w on n_knots >= 4 uniform knots from 0 to rcut
      rcut in Angstrom
    Returns [n, n_features], zeros for a point without pairs.
    Memory does not grow with the number of pairs: the adjoint computes hidden values again. On a GPU the torch
    reference answers.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    tensors = (sent, received, pair_offset, pair_atom, distance, weight, bias, table)
    check_pair_messages(*tensors, rcut)
    compiled = compiled_for(sent.device) and sent.device.type == "cpu"
    compute = torch.ops.dcharge.pair_messages if compiled else pair_messages_reference
    return compute(*tensors, float(rcut))


def check_pair_messages(sent, received, pair_offset, pair_atom, distance, weight, bias, table, rcut) -> None:
    """Checks of all arguments of pair_messages."""
    if not 0 < rcut < float("inf"):
        raise ValueError(f"rcut: a positive length in Angstrom expected, got {rcut}")
    check_tensor("sent", sent, (None, None), (torch.float32, torch.float64))
    n_atoms, n_hidden, dtype, device = *sent.shape, sent.dtype, sent.device
    check_tensor("received", received, (None, n_hidden), dtype, device)
    check_tensor("pair_offset", pair_offset, (len(received) + 1,), torch.int64, device)
    check_tensor("pair_atom", pair_atom, (None,), torch.int64, device)
    check_tensor("distance", distance, (len(pair_atom),), torch.float64, device)
    check_tensor("weight", weight, (None, n_hidden), dtype, device)
    n_features = len(weight)
    if n_hidden < 1 or n_features < 1:
        raise ValueError(f"weight: at least one row and one column expected, got shape {list(weight.shape)}")
    check_tensor("bias", bias, (n_features,), dtype, device)
    check_tensor("table", table, (None, n_features), dtype, device)
    if len(table) < FEWEST_KNOTS:
        raise ValueError(f"table: at least {FEWEST_KNOTS} knots on axis 0 expected, got {len(table)}")
    check_pairs(pair_offset, pair_atom, distance, n_atoms, rcut)


def check_pairs(pair_offset, pair_atom, distance, n_atoms: int, rcut: float) -> None:
    """Values of the three tensors of pairs. Skipped while torch.compile traces."""
    if torch.compiler.is_compiling():
        return
    if int(pair_offset[0]) != 0 or int(pair_offset[-1]) != len(pair_atom) or bool((pair_offset.diff() < 0).any()):
        raise ValueError(f"pair_offset: values must grow from 0 to the number of pairs ({len(pair_atom)})")
    check_range("pair_atom", pair_atom, n_atoms, "rows of sent")
    if len(distance):
        low, high = (float(x) for x in torch.aminmax(distance))
        if not (low >= 0 and high <= rcut):  # nan too
            raise ValueError(f"distance: values in 0..{rcut} (rcut, Angstrom) expected, got {low} to {high}")


def pair_messages_reference(sent, received, pair_offset, pair_atom, distance, weight, bias, table, rcut) -> Tensor:
    """The specification of pair_messages in torch; same arguments, checked. Blocks of pairs are computed again in the
    adjoint."""
    point = torch.repeat_interleave(torch.arange(len(received), device=sent.device), pair_offset.diff())
    floats = (sent, received, weight, bias, table)
    # zeros that belong to the graph of all inputs, so that no pairs give zero gradients
    total = received.new_zeros((len(received), len(weight))) + 0 * sum(x.sum() for x in floats)
    for i, j, r in zip(*(x.split(PAIRS_PER_BLOCK) for x in (point, pair_atom, distance)), strict=True):
        if torch.is_grad_enabled() and total.requires_grad:
            messages = checkpoint(block_messages, *floats, i, j, r, rcut, use_reentrant=False, preserve_rng_state=False)
        else:
            messages = block_messages(*floats, i, j, r, rcut)
        total = total.index_add(0, i, messages)
    return total


def block_messages(sent, received, weight, bias, table, i, j, r, rcut) -> Tensor:
    """Messages [e, n_features] of pairs of points i [e], atoms j [e] and distances r [e]."""
    pre = sent.index_select(0, j) + received.index_select(0, i)
    hidden = torch.nn.functional.softplus(pre, threshold=50.0) - math.log(2.0)
    first, factors = interpolation(r, rcut, len(table))
    filters = sum(factors[:, k, None].to(table.dtype) * table.index_select(0, first + k) for k in range(4))
    return torch.addmm(bias, hidden, weight.T) * filters


def _register():
    lib = "dcharge::pair_messages"

    @torch.library.register_fake(lib)
    def _(sent, received, pair_offset, pair_atom, distance, weight, bias, table, rcut):
        return received.new_empty((received.shape[0], weight.shape[0]))

    @torch.library.register_fake(lib + "_backward")
    def _(grad, sent, received, pair_offset, pair_atom, distance, weight, bias, table, rcut):
        return tuple(t.new_empty(t.shape) for t in (sent, received, weight, bias, table))

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:8])
        ctx.rcut = inputs[8]

    def backward(ctx, grad):
        found = torch.ops.dcharge.pair_messages_backward(grad, *ctx.saved_tensors, ctx.rcut)
        return found[0], found[1], None, None, None, *found[2:], None

    torch.library.register_autograd(lib, backward, setup_context=save)

    def save_backward(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:9])
        ctx.rcut = inputs[9]

    def double_backward(ctx, *grads):
        floats = [0, 1, 2, 6, 7, 8]  # grad, sent, received, weight, bias, table
        found = through_reference(pair_messages_reference, ctx.saved_tensors, (ctx.rcut,), floats, grads)
        return *found, None

    torch.library.register_autograd(lib + "_backward", double_backward, setup_context=save_backward)


if loaded():
    _register()
