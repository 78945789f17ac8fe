"""Gated sums over edges, against loops in numpy over the formula."""

import numpy as np
import pytest
import torch
from cases import relative_error, tolerance

from dcharge.ops import crystal_convolution

CUTOFF = 8.0
DTYPES = (torch.float32, torch.float64)


def graph(n_nodes=17, most=9, seed=0):
    """Edges of nodes, some without any: offset, target, distance (0 and the cutoff among them)."""
    rng = np.random.default_rng(seed)
    degree = rng.integers(0, most + 1, n_nodes)
    degree[n_nodes // 2] = 0
    target = rng.integers(0, n_nodes, degree.sum())
    distance = rng.uniform(0, CUTOFF, degree.sum())
    distance[:2] = 0.0, CUTOFF
    return torch.tensor(np.concatenate([[0], np.cumsum(degree)])), torch.tensor(target), torch.tensor(distance)


def inputs(n_features=8, n_nodes=17, n_knots=30, dtype=torch.float64, size=2.0):
    """center, neighbor, the edges, table."""
    g = torch.Generator().manual_seed(n_features)
    shapes = [(n_nodes, 2 * n_features), (n_nodes, 2 * n_features), (n_knots, 2 * n_features)]
    center, neighbor, table = (
        (size * torch.randn(s, dtype=torch.float64, generator=g)).to(dtype).requires_grad_() for s in shapes
    )
    return center, neighbor, *graph(n_nodes), table


def brute(center, neighbor, offset, target, distance, table):
    """The formula, edge by edge."""
    c, b, t = (x.detach().double().numpy() for x in (center, neighbor, table))
    n_features, h = c.shape[1] // 2, CUTOFF / (len(t) - 1)
    out = np.zeros((len(c), n_features))
    for i in range(len(c)):
        for e in range(int(offset[i]), int(offset[i + 1])):
            x = float(distance[e]) / h
            first = min(max(int(np.floor(x)) - 1, 0), len(t) - 4)
            knots = first + np.arange(4)
            weights = [np.prod([(x - k) / (a - k) for k in knots if k != a]) for a in knots]
            u = c[i] + b[int(target[e])] + np.dot(weights, t[knots])
            out[i] += np.logaddexp(0, u[n_features:]) * np.exp(-np.logaddexp(0, -u[:n_features]))
    return torch.tensor(out)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_features", [1, 3, 8, 16, 33, 64])
def test_formula(backend, n_features, dtype):
    given = inputs(n_features, dtype=dtype)
    out = crystal_convolution(*given, cutoff=CUTOFF)
    assert out.dtype == dtype and out.is_contiguous()
    assert relative_error(out, brute(*given)) < tolerance(dtype)
    assert (out[len(out) // 2] == 0).all()  # a node without edges


@pytest.mark.parametrize("size", [100.0, 1000.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_values(backend, dtype, size):
    """Far into both ends of the two functions nothing overflows."""
    given = inputs(16, dtype=dtype, size=size)
    out = crystal_convolution(*given, cutoff=CUTOFF)
    assert torch.isfinite(out).all() and relative_error(out, brute(*given)) < tolerance(dtype)
    gradients = torch.autograd.grad(out.sum(), [given[0], given[1], given[5]])
    assert all(torch.isfinite(g).all() for g in gradients)


def test_gradients(backend):
    center, neighbor, *edges, table = inputs(3, n_nodes=6, n_knots=7)
    torch.autograd.gradcheck(
        lambda c, b, t: crystal_convolution(c, b, *edges, t, cutoff=CUTOFF), (center, neighbor, table)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_many_features(backend, dtype):
    """Against the gradient of the formula written with numpy's edges in torch float64."""
    given = inputs(40, n_nodes=50, dtype=dtype)
    center, neighbor, offset, target, distance, table = given
    weight = torch.randn(50, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = crystal_convolution(*given, cutoff=CUTOFF)
    found = torch.autograd.grad((out * weight.to(dtype)).sum(), [center, neighbor, table])
    c, b, t = (x.detach().double().requires_grad_() for x in (center, neighbor, table))
    x = distance * (len(t) - 1) / CUTOFF
    first = (x.floor() - 1).clamp(0, len(t) - 4).long()
    row = torch.zeros(len(x), len(t), dtype=torch.float64)
    for a in range(4):
        value = torch.ones_like(x)
        for k in range(4):
            if k != a:
                value = value * (x - first - k) / (a - k)
        row[torch.arange(len(x)), first + a] = value
    node = torch.repeat_interleave(torch.arange(50), offset.diff())
    gate, core = (c[node] + b[target] + row @ t).chunk(2, 1)
    exact = (torch.sigmoid(gate) * torch.nn.functional.softplus(core, threshold=100.0) * weight[node]).sum()
    for mine, theirs in zip(found, torch.autograd.grad(exact, [c, b, t]), strict=True):
        assert relative_error(mine, theirs) < tolerance(dtype, gradient=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_edges_and_no_nodes(backend, dtype):
    for n in (0, 3):
        center, neighbor, _, target, distance, table = inputs(4, dtype=dtype)
        center, neighbor = center[:n].detach().requires_grad_(), neighbor[:n].detach().requires_grad_()
        offset = torch.zeros(n + 1, dtype=torch.int64)
        out = crystal_convolution(center, neighbor, offset, target[:0], distance[:0], table, cutoff=CUTOFF)
        assert out.shape == (n, 4) and (out == 0).all()
        gradients = torch.autograd.grad(out.sum(), [center, neighbor, table])
        assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("change, error, text", [
    (dict(center=torch.zeros(2, 3), neighbor=torch.zeros(2, 3)), ValueError, "center: an even number of columns"),
    (dict(neighbor=torch.zeros(1, 4)), ValueError, r"neighbor: shape \[2, 4\] expected"),
    (dict(table=torch.zeros(9, 4, dtype=torch.float64)), TypeError, "table: torch.float32 expected"),
    (dict(table=torch.zeros(3, 4)), ValueError, "table: at least 4 knots"),
    (dict(edge_offset=torch.tensor([0, 1, 2])), ValueError, "edge_offset: values must grow from 0 to"),
    (dict(edge_offset=torch.tensor([0, 2, 1])), ValueError, "edge_offset: values must grow from 0 to"),
    (dict(edge_target=torch.tensor([2])), ValueError, "edge_target: values must lie in 0..1"),
    (dict(edge_distance=torch.tensor([8.1], dtype=torch.float64)), ValueError, "edge_distance: values in 0..8.0"),
    (dict(edge_distance=torch.tensor([float("nan")], dtype=torch.float64)), ValueError, "edge_distance: values in"),
    (dict(cutoff=-1.0), ValueError, "cutoff: a positive length"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    given = dict(center=torch.zeros(2, 4), neighbor=torch.zeros(2, 4), edge_offset=torch.tensor([0, 1, 1]),
                 edge_target=torch.tensor([1]), edge_distance=torch.tensor([1.0], dtype=torch.float64),
                 table=torch.zeros(9, 4), cutoff=CUTOFF)  # fmt: skip
    with pytest.raises(error, match=text):
        crystal_convolution(**{**given, **change})
