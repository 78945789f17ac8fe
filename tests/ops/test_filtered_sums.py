"""Filtered values of atoms, against the formula with all pairs at once."""

import numpy as np
import pytest
import torch
from cases import relative_error, tolerance
from test_pair_messages import RCUT, pairs

from dcharge.ops import filtered_sums

DTYPES = (torch.float32, torch.float64)


def inputs(n_features=3, dtype=torch.float64, n=23, n_atoms=7, n_knots=30):
    """sent, the pairs, table."""
    g = torch.Generator().manual_seed(n_features)
    sent, table = (torch.randn((k, n_features), dtype=torch.float64, generator=g) for k in (n_atoms, n_knots))
    return sent.to(dtype).requires_grad_(), *pairs(n, n_atoms), table.to(dtype).requires_grad_()


def rows(distance, n_knots):
    """Weights [n_pairs, n_knots] of the cubic through the four nearest knots."""
    out, h = np.zeros((len(distance), n_knots)), RCUT / (n_knots - 1)
    for e, x in enumerate(distance.numpy() / h):
        knots = min(max(int(np.floor(x)) - 1, 0), n_knots - 4) + np.arange(4)
        out[e, knots] = [np.prod([(x - k) / (a - k) for k in knots if k != a]) for a in knots]
    return torch.tensor(out)


def formula(sent, offset, atom, distance, table):
    """All pairs at once, float64."""
    point = torch.repeat_interleave(torch.arange(len(offset) - 1), offset.diff())
    values = sent[atom] * (rows(distance, len(table)) @ table)
    return torch.zeros(len(offset) - 1, table.shape[1], dtype=torch.float64).index_add(0, point, values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, n_features", [(23, 1), (23, 3), (23, 16), (23, 33), (1500, 128)])
def test_formula_and_gradients(backend, n, n_features, dtype):
    given = inputs(n_features, dtype, n)
    out = filtered_sums(*given, rcut=RCUT)
    upstream = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(out, [given[0], given[4]], upstream.to(dtype))
    sent, table = (given[k].detach().double().requires_grad_() for k in (0, 4))
    exact = formula(sent, *given[1:4], table)
    assert out.dtype == dtype and relative_error(out, exact) < tolerance(dtype)
    assert not out[[0, n // 2, -1]].any()  # points without pairs
    for mine, theirs in zip(found, torch.autograd.grad(exact, [sent, table], upstream), strict=True):
        assert mine.dtype == dtype and relative_error(mine, theirs) < tolerance(dtype, gradient=True)


def test_second_derivatives(backend):
    sent, *where, table = inputs(2, n=6, n_atoms=3, n_knots=7)

    def f(sent, table):
        return filtered_sums(sent, *where, table, rcut=RCUT)

    assert torch.autograd.gradcheck(f, (sent, table)) and torch.autograd.gradgradcheck(f, (sent, table))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_pairs_and_no_points(backend, dtype):
    for n, n_atoms in ((0, 3), (3, 3), (3, 0)):
        sent, _, atom, distance, table = inputs(2, dtype)
        sent = sent[:n_atoms].detach().requires_grad_()
        out = filtered_sums(sent, torch.zeros(n + 1).long(), atom[:0], distance[:0], table, rcut=RCUT)
        assert out.shape == (n, 2) and not out.any()
        assert not any(g.any() for g in torch.autograd.grad(out.sum(), [sent, table]))


@pytest.mark.parametrize("change, error, text", [
    (dict(sent=torch.zeros(2, 2, dtype=torch.int64)), TypeError, "sent: torch.float32 or torch.float64 expected"),
    (dict(sent=torch.zeros(2, 0)), ValueError, "sent, pair_offset: at least one column"),
    (dict(table=torch.zeros(9, 3)), ValueError, r"table: shape \[n, 2\] expected"),
    (dict(table=torch.zeros(3, 2)), ValueError, "table: at least 4 knots"),
    (dict(pair_offset=torch.tensor([0, 2, 1])), ValueError, "pair_offset: values must grow from 0 to"),
    (dict(pair_atom=torch.tensor([2])), ValueError, "pair_atom: values must lie in 0..1"),
    (dict(distance=torch.tensor([4.1], dtype=torch.float64)), ValueError, "distance: values in 0..4.0"),
    (dict(rcut=0.0), ValueError, "rcut: a positive length"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    given = dict(sent=torch.zeros(2, 2), pair_offset=torch.tensor([0, 1, 1]), pair_atom=torch.tensor([1]),
                 distance=torch.tensor([1.0], dtype=torch.float64), table=torch.zeros(9, 2), rcut=RCUT)  # fmt: skip
    with pytest.raises(error, match=text):
        filtered_sums(**{**given, **change})
