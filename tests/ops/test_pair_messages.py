"""Messages that see sender and receiver, against loops in numpy over the formula."""

import numpy as np
import pytest
import torch
from cases import relative_error, tolerance

from dcharge.ops import pair_messages

RCUT = 4.0
DTYPES = (torch.float32, torch.float64)
SIZES = [(1, 1), (6, 3), (16, 8), (66, 33), (64, 32), (256, 128)]  # n_hidden, n_features


def pairs(n=23, n_atoms=7, most=9, seed=0):
    """Pairs of points, some without any: offset, atom, distance (0 and the cutoff among them)."""
    rng = np.random.default_rng(seed)
    degree = rng.integers(0, most + 1, n)
    degree[[0, n // 2, -1]] = 0
    distance = rng.uniform(0, RCUT, degree.sum())
    distance[:2] = 0.0, RCUT
    atom = rng.integers(0, n_atoms, len(distance))
    return torch.tensor(np.concatenate([[0], np.cumsum(degree)])), torch.tensor(atom), torch.tensor(distance)


def inputs(n_hidden=6, n_features=3, dtype=torch.float64, size=1.0, n=23, n_atoms=7, n_knots=30, most=9):
    """sent, received, the pairs, weight, bias, table."""
    g = torch.Generator().manual_seed(n_features)
    shapes = [(n_atoms, n_hidden), (n, n_hidden), (n_features, n_hidden), (n_features,), (n_knots, n_features)]
    drawn = [torch.randn(s, dtype=torch.float64, generator=g) for s in shapes]
    floats = [(x * (size if k < 2 else 1.0)).to(dtype).requires_grad_() for k, x in enumerate(drawn)]
    return *floats[:2], *pairs(n, n_atoms, most), *floats[2:]


def differentiable(given):
    return [given[i] for i in (0, 1, 5, 6, 7)]


def brute(sent, received, offset, atom, distance, weight, bias, table):
    """The formula, pair by pair."""
    s, q, w, b, t = (x.detach().double().numpy() for x in (sent, received, weight, bias, table))
    h, out = RCUT / (len(t) - 1), np.zeros((len(q), len(w)))
    for i in range(len(q)):
        for e in range(int(offset[i]), int(offset[i + 1])):
            x = float(distance[e]) / h
            knots = min(max(int(np.floor(x)) - 1, 0), len(t) - 4) + np.arange(4)
            factors = [np.prod([(x - k) / (a - k) for k in knots if k != a]) for a in knots]
            hidden = np.logaddexp(0, s[int(atom[e])] + q[i]) - np.log(2.0)
            out[i] += np.dot(factors, t[knots]) * (w @ hidden + b)
    return torch.tensor(out)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_hidden, n_features", SIZES)
def test_formula(backend, n_hidden, n_features, dtype):
    given = inputs(n_hidden, n_features, dtype)
    out = pair_messages(*given, rcut=RCUT)
    assert out.dtype == dtype and out.is_contiguous()
    assert relative_error(out, brute(*given)) < tolerance(dtype)
    assert not out[[0, len(out) // 2, -1]].any()  # points without pairs


@pytest.mark.parametrize("size", [100.0, 1000.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_values(backend, dtype, size):
    """Far into both ends of the softplus nothing overflows."""
    given = inputs(16, 8, dtype, size)
    out = pair_messages(*given, rcut=RCUT)
    assert torch.isfinite(out).all() and relative_error(out, brute(*given)) < tolerance(dtype)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.sum(), differentiable(given)))


def test_small_values(backend):
    """Below ln 2 by rounding alone: where hidden values nearly vanish, and far down the negative side."""
    for shift in (0.0, -30.0, -200.0):
        given = inputs(32, 16)
        given = (given[0] * 1e-3 + shift, given[1] * 1e-3, *given[2:])
        assert relative_error(pair_messages(*given, rcut=RCUT), brute(*given)) < 1e-12


def test_gradients(backend):
    sent, received, *where, weight, bias, table = inputs(5, 3, n=6, n_atoms=3, n_knots=7, most=4)
    floats = (sent, received, weight, bias, table)

    def f(sent, received, weight, bias, table):
        return pair_messages(sent, received, *where, weight, bias, table, rcut=RCUT)

    assert torch.autograd.gradcheck(f, floats)
    assert torch.autograd.gradgradcheck(f, floats)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_hidden, n_features", SIZES[-3:])
def test_gradients_of_many_pairs(backend, n_hidden, n_features, dtype):
    """Against the formula with all pairs at once, float64; more pairs than a thread takes at a time."""
    given = inputs(n_hidden, n_features, dtype, n=1500, n_atoms=40, n_knots=64)
    g = torch.Generator().manual_seed(1)
    upstream = torch.randn(1500, n_features, dtype=torch.float64, generator=g)
    found = torch.autograd.grad(pair_messages(*given, rcut=RCUT), differentiable(given), upstream.to(dtype))
    floats = [x.detach().double().requires_grad_() for x in differentiable(given)]
    sent, received, weight, bias, table = floats
    offset, atom, distance = given[2:5]
    assert len(atom) > 4096
    x = distance * (len(table) - 1) / RCUT
    first = (x.floor() - 1).clamp(0, len(table) - 4).long()
    row = torch.zeros(len(x), len(table), dtype=torch.float64)
    for a in range(4):
        value = torch.ones_like(x)
        for k in range(4):
            if k != a:
                value = value * (x - first - k) / (a - k)
        row[torch.arange(len(x)), first + a] = value
    point = torch.repeat_interleave(torch.arange(1500), offset.diff())
    hidden = torch.nn.functional.softplus(sent[atom] + received[point], threshold=100.0) - np.log(2.0)
    exact = ((row @ table) * (hidden @ weight.T + bias) * upstream[point]).sum()
    for mine, theirs in zip(found, torch.autograd.grad(exact, floats), strict=True):
        assert mine.shape == theirs.shape and mine.dtype == dtype
        assert relative_error(mine, theirs) < tolerance(dtype, gradient=True)


def test_threads_change_nothing(compiled):
    given = inputs(64, 32, torch.float32, n=2500, n_atoms=40)
    results, before = [], torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            out = pair_messages(*given, rcut=RCUT)
            results.append([out, *torch.autograd.grad(out.square().sum(), differentiable(given))])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_pairs_and_no_points(backend, dtype):
    for n, n_atoms in ((0, 3), (3, 3), (3, 0)):
        given = inputs(4, 2, dtype)
        sent, received = given[0][:n_atoms].detach().requires_grad_(), given[1][:n].detach().requires_grad_()
        given = (sent, received, torch.zeros(n + 1, dtype=torch.int64), given[3][:0], given[4][:0], *given[5:])
        out = pair_messages(*given, rcut=RCUT)
        assert out.shape == (n, 2) and not out.any()
        assert not any(g.any() for g in torch.autograd.grad(out.sum(), differentiable(given)))


@pytest.mark.parametrize("change, error, text", [
    (dict(sent=torch.zeros(2, 4, dtype=torch.int64)), TypeError, "sent: torch.float32 or torch.float64 expected"),
    (dict(received=torch.zeros(3, 5)), ValueError, r"received: shape \[n, 4\] expected"),
    (dict(weight=torch.zeros(2, 3)), ValueError, r"weight: shape \[n, 4\] expected"),
    (dict(weight=torch.zeros(0, 4), bias=torch.zeros(0)), ValueError, "weight: at least one row and one column"),
    (dict(bias=torch.zeros(3)), ValueError, r"bias: shape \[2\] expected"),
    (dict(table=torch.zeros(9, 2, dtype=torch.float64)), TypeError, "table: torch.float32 expected"),
    (dict(table=torch.zeros(3, 2)), ValueError, "table: at least 4 knots"),
    (dict(pair_offset=torch.tensor([0, 1, 1, 2])), ValueError, "pair_offset: values must grow from 0 to"),
    (dict(pair_offset=torch.tensor([0, 2, 1, 1])), ValueError, "pair_offset: values must grow from 0 to"),
    (dict(pair_atom=torch.tensor([2])), ValueError, "pair_atom: values must lie in 0..1"),
    (dict(distance=torch.tensor([4.1], dtype=torch.float64)), ValueError, "distance: values in 0..4.0"),
    (dict(distance=torch.tensor([float("nan")], dtype=torch.float64)), ValueError, "distance: values in"),
    (dict(rcut=-1.0), ValueError, "rcut: a positive length"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    given = dict(sent=torch.zeros(2, 4), received=torch.zeros(3, 4), pair_offset=torch.tensor([0, 1, 1, 1]),
                 pair_atom=torch.tensor([1]), distance=torch.tensor([1.0], dtype=torch.float64),
                 weight=torch.zeros(2, 4), bias=torch.zeros(2), table=torch.zeros(9, 2), rcut=RCUT)  # fmt: skip
    with pytest.raises(error, match=text):
        pair_messages(**{**given, **change})
