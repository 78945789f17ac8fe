"""Gated sums over the edges of a graph: the convolution of crystal-graph networks (CGCNN).

For the edges (i, j) of node i, of length d_ij:

    u_ij = center_i + neighbor_j + t(d_ij),   out_i = sum_j sigmoid(u_ij[:F]) * softplus(u_ij[F:])

This is the gated convolution of Xie and Grossman (Phys. Rev. Lett. 120, 145301, eq. 5) with its linear map of
(x_i, x_j, g(d_ij)) taken apart into a centre's, a neighbour's and an edge's part, an identity: the first two are one
product per node instead of one per edge, and the third is a function of the distance alone. It lies on uniform knots
from 0 to the cutoff and is interpolated by the cubic through the four nearest ones, as the filters of `probe_messages`.
Batch norm over the edges is an affine map of u and goes into center, neighbor and table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .check import check_range, check_tensor
from .library import compiled_for, loaded
from .probe_messages import FEWEST_KNOTS, interpolation

EDGES_PER_BLOCK = 1 << 14


def crystal_convolution(
    center: Tensor,
    neighbor: Tensor,
    edge_offset: Tensor,
    edge_target: Tensor,
    edge_distance: Tensor,
    table: Tensor,
    *,
    cutoff: float,
) -> Tensor:
    """Gated sums of all nodes; differentiable (once) with respect to center, neighbor and table.

    Parameters
      center, neighbor [n_nodes, 2 n_features] float32 or float64: gate, then core
      edge_offset [n_nodes + 1] int64: the edges of node i are edge_offset[i] .. edge_offset[i + 1] - 1
      edge_target [n_edges] int64: the other node j; edge_distance [n_edges] float64, Angstrom, in 0 .. cutoff
      table [n_knots, 2 n_features], dtype of center: t on n_knots >= 4 uniform knots from 0 to cutoff
      cutoff in Angstrom
    Returns [n_nodes, n_features], zeros for a node without edges.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    tensors = (center, neighbor, edge_offset, edge_target, edge_distance, table)
    check_crystal_convolution(*tensors, cutoff)
    compiled = compiled_for(center.device)
    compute = torch.ops.dcharge.crystal_convolution if compiled else crystal_convolution_reference
    return compute(*tensors, float(cutoff))


def check_crystal_convolution(center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff) -> None:
    """Checks of all arguments of crystal_convolution."""
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"cutoff: a positive length in Angstrom expected, got {cutoff}")
    check_tensor("center", center, (None, None), (torch.float32, torch.float64))
    n_nodes, width, device = *center.shape, center.device
    if width < 2 or width % 2:
        raise ValueError(f"center: an even number of columns expected (gate and core), got {width}")
    check_tensor("neighbor", neighbor, (n_nodes, width), center.dtype, device)
    check_tensor("edge_offset", edge_offset, (n_nodes + 1,), torch.int64, device)
    check_tensor("edge_target", edge_target, (None,), torch.int64, device)
    check_tensor("edge_distance", edge_distance, (len(edge_target),), torch.float64, device)
    check_tensor("table", table, (None, width), center.dtype, device)
    if len(table) < FEWEST_KNOTS:
        raise ValueError(f"table: at least {FEWEST_KNOTS} knots on axis 0 expected, got {len(table)}")
    check_edges(edge_offset, edge_target, edge_distance, n_nodes, cutoff)


def check_edges(edge_offset, edge_target, edge_distance, n_nodes: int, cutoff: float) -> None:
    """Values of the three edge tensors. Skipped while torch.compile traces."""
    if torch.compiler.is_compiling():
        return
    if int(edge_offset[0]) != 0 or int(edge_offset[-1]) != len(edge_target) or bool((edge_offset.diff() < 0).any()):
        raise ValueError(f"edge_offset: values must grow from 0 to the number of edges ({len(edge_target)})")
    check_range("edge_target", edge_target, n_nodes, "nodes of center")
    if len(edge_distance):
        low, high = (float(x) for x in torch.aminmax(edge_distance))
        if not (low >= 0 and high <= cutoff):  # nan too
            raise ValueError(f"edge_distance: values in 0..{cutoff} (cutoff, Angstrom) expected, got {low} to {high}")


def crystal_convolution_reference(center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff) -> Tensor:
    """The specification of crystal_convolution in torch; same arguments, checked. With gradients its memory grows with
    the number of edges."""
    n_nodes, width = center.shape
    node = torch.repeat_interleave(torch.arange(n_nodes, device=center.device), edge_offset.diff())
    # zeros that belong to the graph of all inputs, so that no edges give zero gradients
    total = center.new_zeros((n_nodes, width // 2)) + 0 * (center.sum() + neighbor.sum() + table.sum())
    for i, j, d in zip(*(x.split(EDGES_PER_BLOCK) for x in (node, edge_target, edge_distance)), strict=True):
        first, weights = interpolation(d, cutoff, len(table))
        edge = sum(weights[:, k, None].to(table.dtype) * table.index_select(0, first + k) for k in range(4))
        u = center.index_select(0, i) + neighbor.index_select(0, j) + edge
        gate, core = u.chunk(2, 1)
        total = total.index_add(0, i, torch.sigmoid(gate) * torch.nn.functional.softplus(core))
    return total


def _register():
    lib = "dcharge::crystal_convolution"

    @torch.library.register_fake(lib)
    def _(center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff):
        return center.new_empty((center.shape[0], center.shape[1] // 2))

    @torch.library.register_fake(lib + "_backward")
    def _(grad, center, neighbor, edge_offset, edge_target, edge_distance, table, cutoff):
        return tuple(t.new_empty(t.shape) for t in (center, neighbor, table))

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:6])
        ctx.cutoff = inputs[6]

    def backward(ctx, grad):
        found = torch.ops.dcharge.crystal_convolution_backward(grad, *ctx.saved_tensors, ctx.cutoff)
        return found[0], found[1], None, None, None, found[2], None

    torch.library.register_autograd(lib, backward, setup_context=save)


if loaded():
    _register()
