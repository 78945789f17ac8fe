"""The sum over pairs of schnet's messages, block by block: what a step of training would else keep for every pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..nn import shifted_softplus

PAIRS = 4096  # whose hidden values stay in the caches


class PairMessages(torch.autograd.Function):
    """out_i = sum_j w(r_ij) (W ssp(sent_j + received_i) + b), w interpolated from a table.

    sent [n_atoms, m], received [n, m], weight [n_features, m], bias [n_features], table [n_knots, n_features],
    rows [e, 4] and factors [e, 4]: knots of every pair and their weights, i [e] points in increasing order, j [e] atoms
    -> [n, n_features]. The adjoint computes hidden values again instead of reading them from memory. First derivatives.
    """

    @staticmethod
    def forward(ctx, sent, received, weight, bias, table, rows, factors, i, j):
        """The sums."""
        ctx.save_for_backward(sent, received, weight, bias, table, rows, factors, i, j)
        out = received.new_zeros((len(received), len(bias)))
        for start in range(0, len(i), PAIRS):
            part = slice(start, start + PAIRS)
            node = torch.addmm(bias, shifted_softplus(added(sent, j[part], received, i[part])), weight.T)
            out.index_add_(0, i[part], node.mul_(interpolated(table, rows[part], factors[part])))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """Gradients of sent, received, weight, bias and table."""
        sent, received, weight, bias, table, rows, factors, i, j = ctx.saved_tensors
        d_sent, d_received, d_weight, d_bias, d_table = map(torch.zeros_like, (sent, received, weight, bias, table))
        for start in range(0, len(i), PAIRS):
            part = slice(start, start + PAIRS)
            a, p = j[part], i[part]
            pre = added(sent, a, received, p)
            slope = torch.sigmoid(pre)
            hidden = shifted_softplus(pre)
            g = gradient.index_select(0, p)
            d_filter = g * torch.addmm(bias, hidden, weight.T)
            for knot in range(4):
                d_table.index_add_(0, rows[part, knot], d_filter * factors[part, knot, None])
            d_node = g.mul_(interpolated(table, rows[part], factors[part]))
            d_weight.addmm_(d_node.T, hidden)
            d_bias.add_(d_node.sum(0))
            d_pre = torch.mm(d_node, weight, out=hidden).mul_(slope)
            d_sent.index_add_(0, a, d_pre)
            d_received.index_add_(0, p, d_pre)
        return d_sent, d_received, d_weight, d_bias, d_table, None, None, None, None


def interpolated(table: Tensor, rows: Tensor, factors: Tensor) -> Tensor:
    """sum_k factors[e, k] table[rows[e, k]] -> [e, n_features]."""
    return torch.nn.functional.embedding_bag(rows, table, mode="sum", per_sample_weights=factors)


def added(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
    """a[i] + b[j] [e, n]; in one pass where no gradient is recorded and a copy of the rows is small beside that."""
    if torch.is_grad_enabled() or len(a) + len(b) > len(i):
        return a.index_select(0, i) + b.index_select(0, j)
    return torch.nn.functional.embedding_bag(torch.stack([i, len(a) + j], 1), torch.cat([a, b]), mode="sum")
