"""Graphs of local environments, against loops over points, images and pairs in numpy."""

from functools import cache

import numpy as np
import pytest
import torch
from cases import FRAMES, RCUT, SKEWED, case, image_shifts

from dcharge.ops import local_environments

OPTIONS = [dict(neighbors=12), dict(neighbors=3), dict(neighbors=1, tie=0.0), dict(rcut=2.5, neighbors=200)]


def given(c):
    """The six tensors of the geometry without species."""
    points, point_frame, atoms, _, *rest = c.geometry
    return points, point_frame, atoms, *rest


@cache
def brute(system, rcut=RCUT, neighbors=12, tie=1e-4):
    """Per point: atoms of the nodes, and per node the edges as sorted (distance rounded, target)."""
    c, out = case(system), []
    atoms, atom_frame = c.atoms.numpy(), c.atom_frame.numpy()
    for r_p, f in zip(c.points.numpy(), c.point_frame.tolist(), strict=True):
        found = []
        for j in np.flatnonzero(atom_frame == f):
            _, shifts = image_shifts(c.cell[f].numpy(), c.pbc[f].numpy(), np.linalg.norm(atoms[j] - r_p) + rcut + tie)
            vectors = atoms[j] + shifts - r_p
            found += [(j, v) for v in vectors if np.linalg.norm(v) < rcut + tie]
        place = np.array([np.zeros(3), *[v for _, v in found]])
        edges = []
        for i, x in enumerate(place):
            d = np.linalg.norm(place - x, axis=1)
            others = [(d[k], k) for k in range(len(place)) if k != i]
            others.sort()
            if len(others) > neighbors:
                others = [o for o in others if o[0] <= others[neighbors - 1][0] + tie]
            edges.append(others)
        out.append(([-1, *[j for j, _ in found]], edges, place))
    return out


def check(c, graphs, exact):
    """The graphs agree; images of one atom may come in any order, so nodes are matched by their distance and atom."""
    node_offset, node_atom, edge_offset, edge_target, edge_distance = (t.numpy() for t in graphs)
    assert len(node_offset) == len(c.points) + 1 and node_offset[0] == 0 and node_offset[-1] == len(node_atom)
    assert len(edge_offset) == len(node_atom) + 1 and edge_offset[-1] == len(edge_target) == len(edge_distance)
    for p, (atoms, edges, _) in enumerate(exact):
        first, last = node_offset[p : p + 2]
        assert node_atom[first:last].tolist() == atoms
        mine, theirs = [], []
        for i in range(first, last):
            part = slice(*edge_offset[i : i + 2])
            assert ((edge_target[part] >= first) & (edge_target[part] < last)).all()
            assert (np.diff(edge_distance[part]) >= 0).all() and i not in edge_target[part]
            neighbors = sorted(
                (round(d, 8), node_atom[j])
                for d, j in zip(edge_distance[part].tolist(), edge_target[part].tolist(), strict=True)
            )
            mine.append((node_atom[i], neighbors))
            theirs.append((atoms[i - first], sorted((round(d, 8), atoms[j]) for d, j in edges[i - first])))
        for a, b in zip(sorted(mine), sorted(theirs), strict=True):
            assert a[0] == b[0] and [x[1] for x in a[1]] == [x[1] for x in b[1]]
            np.testing.assert_allclose([x[0] for x in a[1]], [x[0] for x in b[1]], rtol=0, atol=2e-8)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("system", list(FRAMES))
def test_brute_force(backend, system, options):
    c, options = case(system), {"rcut": RCUT, **options}
    graphs = local_environments(*given(c), **options)
    assert [t.dtype for t in graphs] == [torch.int64] * 4 + [torch.float64]
    check(c, graphs, brute(system, **options))


def test_edges_are_distances(backend):
    """Between the images that are in the graph: the same vectors in two directions."""
    c = case("skewed")
    node_offset, _, edge_offset, target, distance = local_environments(*given(c), rcut=RCUT, neighbors=10**6)
    for first, last in zip(node_offset[:-1].tolist(), node_offset[1:].tolist(), strict=True):
        n = last - first
        assert (edge_offset.diff()[first:last] == n - 1).all()  # everybody sees everybody
        matrix = torch.zeros(n, n, dtype=torch.float64)
        for i in range(first, last):
            part = slice(*edge_offset[i : i + 2].tolist())
            matrix[i - first, target[part] - first] = distance[part]
        assert torch.equal(matrix, matrix.T) and (matrix[0, 1:] < RCUT + 1e-4).all()


def test_tied_neighbours_stay(backend):
    """On an atom of fcc, 12 nearest of 12.. are kept whatever rounding does: rotations give the same edges."""
    a = 4.05
    cell = a / 2 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.float64)
    atoms = torch.zeros(1, 3, dtype=torch.float64)
    points = torch.tensor([[0.0, 0.0, 0.0], [a / 4, a / 4, a / 4], [a / 2, 0.0, 0.0]], dtype=torch.float64)
    counts = []
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=g))
        q = torch.eye(3, dtype=torch.float64) if seed == 0 else q
        shift = torch.randn(3, dtype=torch.float64, generator=g)
        graphs = local_environments(
            points @ q + shift, torch.zeros(3, dtype=torch.int64), atoms + shift, torch.zeros(1, dtype=torch.int64),
            (cell @ q)[None], torch.ones(1, 3, dtype=torch.bool), rcut=3.9, neighbors=8,
        )  # fmt: skip
        # neighbours at 0 (the probe on an atom), a/sqrt(2) = 2.86: 8 asked for, 13 tied
        assert graphs[2].diff()[0] == 13 and graphs[4][0] < 1e-9
        edges = graphs[2].diff().split(graphs[0].diff().tolist())
        counts.append((graphs[0].tolist(), [sorted(x.tolist()) for x in edges]))
    assert all(c == counts[0] for c in counts[1:])


@pytest.mark.parametrize("a", [4.0, 8.0])
def test_atoms_at_the_cutoff_stay(backend, a):
    """Sites of a simple cubic crystal (a = 4), middles of its edges (8): atoms at exactly rcut are in, in any frame."""
    whole = np.random.default_rng(1).integers(-3, 4, (60, 3))
    whole[:, 1:] *= 1 if a == 4.0 else 2
    whole[:, 0] = whole[:, 0] if a == 4.0 else 2 * whole[:, 0] + 1
    points, zero = 4.0 * torch.tensor(whole, dtype=torch.float64), torch.zeros(60, dtype=torch.int64)
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=g))
        q = torch.eye(3, dtype=torch.float64) if seed == 0 else q
        shift = torch.randn(1, 3, dtype=torch.float64, generator=g)
        graphs = local_environments(
            points @ q + shift, zero, shift, zero[:1], (a * q)[None], torch.ones(1, 3, dtype=torch.bool)
        )
        n = 8 if a == 4.0 else 3  # the probe, an atom on it and six around it; the probe between two atoms
        assert (graphs[0].diff() == n).all() and (graphs[2].diff() == n - 1).all()
        assert 8.0 - 1e-9 < float(graphs[4].max()) <= 2 * (4.0 + 1e-4)


def test_edges_end_at_the_cutoff(backend):
    """Two atoms on two sides of a point, as far as they can be: no edge behind 2 (rcut + tie) by rounding."""
    g = torch.Generator().manual_seed(3)
    ways = torch.nn.functional.normalize(torch.randn(300, 3, dtype=torch.float64, generator=g))
    frame, zero = torch.arange(300), torch.zeros(300, 3, dtype=torch.float64)
    for rcut, tie in ((3.0, 0.5), (4.0, 0.0), (4.0, 1e-4)):
        far = (rcut + tie) * (1 - 2**-53)
        atoms = torch.stack([far * ways, -far * ways], 1).reshape(-1, 3)
        cell, pbc = zero.new_zeros(300, 3, 3), torch.zeros(300, 3, dtype=torch.bool)
        graphs = local_environments(zero, frame, atoms, frame.repeat_interleave(2), cell, pbc, rcut=rcut, tie=tie)
        assert (graphs[0].diff() == 3).sum() > 30 and float(graphs[4].max()) <= 2 * (rcut + tie)


def test_probe_alone(backend):
    c = case("one_atom")
    points, frame = c.atoms + torch.tensor([[0.0, 50.0, 0.0]]), torch.zeros(1, dtype=torch.int64)
    graphs = local_environments(*given_points(c, points, frame))
    assert [t.tolist() for t in graphs] == [[0, 1], [-1], [0, 0], [], []]
    graphs = local_environments(*given_points(c, points[:0], frame[:0]))
    assert [t.tolist() for t in graphs] == [[0], [], [0], [], []]


def test_probe_on_an_atom(backend):
    c = case("one_atom")
    graphs = local_environments(*given_points(c, c.atoms, torch.zeros(1, dtype=torch.int64)))
    assert [t.tolist() for t in graphs] == [[0, 2], [-1, 0], [0, 1, 2], [1, 0], [0.0, 0.0]]


def given_points(c, points, frame):
    """The geometry of a case with other points."""
    points, point_frame, atoms, _, *rest = c.with_points(points, frame)
    return points, point_frame, atoms, *rest


@pytest.mark.parametrize("change, error, text", [
    (dict(points=torch.zeros(1, 3)), TypeError, "points: torch.float64 expected"),
    (dict(cell=torch.zeros(3, 3, dtype=torch.float64)), ValueError, r"cell: shape \[n, 3, 3\] expected"),
    (dict(rcut=0.0), ValueError, "rcut: a positive length"),
    (dict(tie=-1.0), ValueError, "tie: a length in Angstrom >= 0"),
    (dict(neighbors=0), ValueError, "neighbors: an integer >= 1"),
    (dict(neighbors=2.0), ValueError, "neighbors: an integer >= 1"),
    (dict(atoms=torch.full((1, 3), float("nan"), dtype=torch.float64)), ValueError, "atoms: row 0 is not"),
    (dict(atom_frame=torch.ones(1, dtype=torch.int64)), ValueError, "atom_frame: values must lie in 0..0"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    one, zero = torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    arguments = dict(points=one, point_frame=zero, atoms=one, atom_frame=zero,
                     cell=torch.tensor(SKEWED)[None], pbc=torch.ones(1, 3, dtype=torch.bool))  # fmt: skip
    with pytest.raises(error, match=text):
        local_environments(**{**arguments, **change})
