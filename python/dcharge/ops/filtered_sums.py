"""Values of atoms times filters of the distance, summed over the neighbours of a point: SchNet's continuous filters.

For the pairs (i, j) of point i and atom j, of distance r_ij:

    out_i = sum_j w(r_ij) * sent_j

This is `pair_messages` where nothing of the receiver enters, as in the first layer of DeepDFT's invariant probe
network, whose points have no state yet. The filter w lies on uniform knots, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .check import check_tensor
from .library import compiled_for, loaded
from .pair_messages import PAIRS_PER_BLOCK, check_pairs
from .probe_messages import FEWEST_KNOTS, interpolation
from .second import through_reference


def filtered_sums(
    sent: Tensor, pair_offset: Tensor, pair_atom: Tensor, distance: Tensor, table: Tensor, *, rcut: float
) -> Tensor:
    """Sums of filtered values; differentiable (twice) with respect to sent and table.

    Parameters
      sent [n_atoms, n_features] float32 or float64: the atoms' values
      pair_offset [n + 1] int64: the pairs of point i are pair_offset[i] .. pair_offset[i + 1] - 1
      pair_atom [n_pairs] int64: the atom j; distance [n_pairs] float64, Angstrom, in 0 .. rcut
      table [n_knots, n_features], dtype of sent: w on n_knots >= 4 uniform knots from 0 to rcut
      rcut in Angstrom
    Returns [n, n_features], zeros for a point without pairs. On a GPU the torch reference answers.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    tensors = (sent, pair_offset, pair_atom, distance, table)
    check_filtered_sums(*tensors, rcut)
    compiled = compiled_for(sent.device) and sent.device.type == "cpu"
    compute = torch.ops.dcharge.filtered_sums if compiled else filtered_sums_reference
    return compute(*tensors, float(rcut))


def check_filtered_sums(sent, pair_offset, pair_atom, distance, table, rcut) -> None:
    """Checks of all arguments of filtered_sums."""
    if not 0 < rcut < float("inf"):
        raise ValueError(f"rcut: a positive length in Angstrom expected, got {rcut}")
    check_tensor("sent", sent, (None, None), (torch.float32, torch.float64))
    n_atoms, n_features, device = *sent.shape, sent.device
    check_tensor("pair_offset", pair_offset, (None,), torch.int64, device)
    check_tensor("pair_atom", pair_atom, (None,), torch.int64, device)
    check_tensor("distance", distance, (len(pair_atom),), torch.float64, device)
    if n_features < 1 or len(pair_offset) < 1:
        raise ValueError(
            f"sent, pair_offset: at least one column and one number expected, got shapes {list(sent.shape)} and "
            f"{list(pair_offset.shape)}"
        )
    check_tensor("table", table, (None, n_features), sent.dtype, device)
    if len(table) < FEWEST_KNOTS:
        raise ValueError(f"table: at least {FEWEST_KNOTS} knots on axis 0 expected, got {len(table)}")
    check_pairs(pair_offset, pair_atom, distance, n_atoms, rcut)


def filtered_sums_reference(sent, pair_offset, pair_atom, distance, table, rcut) -> Tensor:
    """The specification of filtered_sums in torch; same arguments, checked. Blocks of pairs are computed again in the
    adjoint."""
    n = len(pair_offset) - 1
    point = torch.repeat_interleave(torch.arange(n, device=sent.device), pair_offset.diff())
    # zeros that belong to the graph of all inputs, so that no pairs give zero gradients
    total = sent.new_zeros((n, sent.shape[1])) + 0 * (sent.sum() + table.sum())
    for i, j, r in zip(*(x.split(PAIRS_PER_BLOCK) for x in (point, pair_atom, distance)), strict=True):
        if torch.is_grad_enabled() and total.requires_grad:
            values = checkpoint(filtered, sent, table, j, r, rcut, use_reentrant=False, preserve_rng_state=False)
        else:
            values = filtered(sent, table, j, r, rcut)
        total = total.index_add(0, i, values)
    return total


def filtered(sent, table, j, r, rcut) -> Tensor:
    """w(r) * sent_j [e, n_features] of atoms j [e] at distances r [e]."""
    first, factors = interpolation(r, rcut, len(table))
    filters = sum(factors[:, k, None].to(table.dtype) * table.index_select(0, first + k) for k in range(4))
    return sent.index_select(0, j) * filters


def _register():
    lib = "dcharge::filtered_sums"

    @torch.library.register_fake(lib)
    def _(sent, pair_offset, pair_atom, distance, table, rcut):
        return sent.new_empty((pair_offset.shape[0] - 1, sent.shape[1]))

    @torch.library.register_fake(lib + "_backward")
    def _(grad, sent, pair_offset, pair_atom, distance, table, rcut):
        return sent.new_empty(sent.shape), table.new_empty(table.shape)

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:5])
        ctx.rcut = inputs[5]

    def backward(ctx, grad):
        d_sent, d_table = torch.ops.dcharge.filtered_sums_backward(grad, *ctx.saved_tensors, ctx.rcut)
        return d_sent, None, None, None, d_table, None

    torch.library.register_autograd(lib, backward, setup_context=save)

    def save_backward(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:6])
        ctx.rcut = inputs[6]

    def double_backward(ctx, *grads):
        floats = [0, 1, 5]  # grad, sent, table
        found = through_reference(filtered_sums_reference, ctx.saved_tensors, (ctx.rcut,), floats, grads)
        return *found, None

    torch.library.register_autograd(lib + "_backward", double_backward, setup_context=save_backward)


if loaded():
    _register()
