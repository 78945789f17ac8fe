"""crystal_network against its parts in torch, for every instruction set."""

import pytest
import torch
from cases import FRAMES, N_TYPES, RCUT, case, relative_error, tolerance
from torch.nn.functional import softplus

from dcharge.ops import CrystalLayer, CrystalNetwork, crystal_network, local_environments
from dcharge.ops.local_environments import TIE

DTYPES = (torch.float32, torch.float64)
CUTOFF = 2 * (RCUT + TIE)
SHAPES = {  # n_features, n_layers, all_layers
    "public": (64, 3, False),
    "all_layers": (16, 2, True),
    "odd": (21, 2, False),
    "wide": (100, 2, True),
    "smallest": (1, 1, False),
    "first_layer_only": (7, 1, True),
}


def network(name="public", dtype=torch.float64, n_knots=200):
    """Random weights of the size that keeps states of order one, a smooth table."""
    n_features, n_layers, all_layers = SHAPES[name]
    g = torch.Generator().manual_seed(n_features)

    def normal(*shape, size=1.0):
        return (size * torch.randn(*shape, generator=g, dtype=torch.float64)).to(dtype)

    r = torch.linspace(0, CUTOFF, n_knots, dtype=torch.float64)[:, None]
    waves = torch.cos(r * torch.arange(1, 6)).to(dtype)
    layers = [
        CrystalLayer(
            normal(2 * n_features, n_features, size=n_features**-0.5),
            normal(2 * n_features),
            normal(2 * n_features, n_features, size=n_features**-0.5),
            waves @ normal(5, 2 * n_features),
            normal(n_features, size=0.2),
            normal(n_features),
        )
        for _ in range(n_layers)
    ]
    return CrystalNetwork(normal(N_TYPES + 1, n_features), layers, CUTOFF, all_layers)


def both(geometry, name, dtype, **options):
    """Of the parts in torch, and of the packed network."""
    options, nets = {"rcut": RCUT, **options}, (network(name, dtype), network(name, dtype).pack())
    (expected, n_nodes), (found, count) = (crystal_network(*geometry, net, **options) for net in nets)
    assert torch.equal(count, n_nodes)
    return expected, found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("system", list(FRAMES))
def test_kernel_is_the_reference(backend, system, dtype):
    expected, found = both(case(system).geometry, "public", dtype)
    assert found.dtype == dtype and found.shape == (29, 1, 64) and found.is_contiguous()
    assert relative_error(found, expected) < tolerance(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(backend, name, dtype):
    for options in ({}, dict(neighbors=3, tie=0.0), dict(rcut=2.5, neighbors=200)):
        expected, found = both(case("two_frames").geometry, name, dtype, **options)
        assert found.shape == (29, SHAPES[name][1] + 1 if SHAPES[name][2] else 1, SHAPES[name][0])
        assert relative_error(found, expected) < tolerance(dtype)


@pytest.mark.parametrize("name", ["public", "all_layers"])
def test_reference_is_the_formula(name):
    """Node by node and edge by edge; the table by its definition."""
    c, net = case("two_frames"), network(name)
    found, count = crystal_network(*c.geometry, net, rcut=RCUT)
    points, point_frame, atoms, types, *rest = c.geometry
    first_node, node_atom, first, target, distance = local_environments(points, point_frame, atoms, *rest, rcut=RCUT)
    kinds = [int(types[a]) if a >= 0 else N_TYPES for a in node_atom.tolist()]
    x = torch.stack([net.state[k] for k in kinds])
    states = [x]
    for layer in net.layers:
        per_knot, new = (len(layer.table) - 1) / net.cutoff, []
        for i in range(len(x)):
            total = torch.zeros(x.shape[1], dtype=torch.float64)
            for e in range(int(first[i]), int(first[i + 1])):
                place = float(distance[e]) * per_knot
                start = min(max(int(place) - 1, 0), len(layer.table) - 4)
                u = layer.bias + layer.center @ x[i] + layer.neighbor @ x[target[e]]
                for k in range(start, start + 4):
                    weight = 1.0
                    for other in range(start, start + 4):
                        weight *= (place - other) / (k - other) if other != k else 1.0
                    u = u + weight * layer.table[k]
                gate, core = u.chunk(2)
                total = total + torch.sigmoid(gate) * softplus(core)
            new.append(softplus(x[i] + layer.scale * total + layer.shift))
        x = torch.stack(new)
        states.append(x)
    for p in range(len(points)):
        part = slice(int(first_node[p]), int(first_node[p + 1]))
        assert count[p] == part.stop - part.start
        means = [s[part].mean(0) for s in (states if net.all_layers else states[-1:])]
        torch.testing.assert_close(found[p], torch.stack(means), rtol=1e-11, atol=1e-11)


def crowd(n_points, n_atoms, edge, seed=2):
    """Points and atoms at random in a box that is not periodic along z."""
    g = torch.Generator().manual_seed(seed)
    points, atoms = (edge * torch.rand(n, 3, dtype=torch.float64, generator=g) for n in (n_points, n_atoms))
    types = torch.randint(0, N_TYPES, (n_atoms,), generator=g)
    cell, zero = edge * torch.eye(3, dtype=torch.float64), torch.zeros(max(n_points, n_atoms), dtype=torch.int64)
    pbc = torch.tensor([[True, True, False]])
    return points, zero[:n_points], atoms, types, zero[:n_atoms], cell[None], pbc


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_points, n_atoms, edge", [(60, 900, 9.0), (700, 60, 9.0), (40, 150, 40.0)])
def test_many_atoms_and_points(backend, n_points, n_atoms, edge, dtype):
    """More atoms near a tile than its lists are for, several tiles, points far from each other and from all atoms."""
    expected, found = both(crowd(n_points, n_atoms, edge), "odd", dtype, rcut=3.0)
    assert relative_error(found, expected) < tolerance(dtype)


def test_more_pairs_than_are_kept(backend):
    """All edges among some 140 atoms near every point: what is kept of pairs is given up in between."""
    expected, found = both(crowd(8, 900, 9.0), "wide", torch.float64, rcut=3.0, neighbors=200)
    assert relative_error(found, expected) < 1e-10


def test_crystals_with_ties(backend):
    """Rotated and shifted, points on nuclei and in the middles of cells."""
    a = 4.05
    cell = a / 2 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.float64)
    points = a * torch.tensor([[0.0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0, 0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    zero, one = torch.zeros(4, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    atom, pbc, results = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool), []
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=g))
        q = torch.eye(3, dtype=torch.float64) if seed == 0 else q
        shift = torch.randn(3, dtype=torch.float64, generator=g)
        geometry = (points @ q + shift, zero, atom + shift, one, one, (cell @ q)[None], pbc)
        expected, found = both(geometry, "odd", torch.float64, rcut=3.9)
        assert relative_error(found, expected) < 1e-10
        results.append(found)
    assert all(relative_error(other, results[0]) < 1e-10 for other in results[1:])


def test_small_cell_of_many_images(backend):
    c = case("small_cell")
    expected, found = both(c.geometry, "all_layers", torch.float64, neighbors=40)
    assert relative_error(found, expected) < 1e-10


def test_probe_alone(backend):
    """Its state passes the layers without a message."""
    c, net = case("one_atom"), network("all_layers")
    geometry = c.with_points(c.atoms + 50.0, torch.zeros(1, dtype=torch.int64))
    expected, found = both(geometry, "all_layers", torch.float64)
    x = net.state[-1]
    for i, layer in enumerate(net.layers):
        torch.testing.assert_close(found[0, i], x, rtol=1e-12, atol=1e-12)
        x = softplus(x + layer.shift)
    torch.testing.assert_close(found[0, -1], x, rtol=1e-12, atol=1e-12)
    assert relative_error(found, expected) < 1e-12
    none = c.with_points(c.points[:0], c.point_frame[:0])
    assert all(out.shape == (0, 3, 16) for out in both(none, "all_layers", torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_for_any_threads_order_and_tiles(backend, dtype):
    geometry = points, frame, *rest = crowd(1200, 60, 9.0)
    net, before, results = network("odd", dtype).pack(), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(crystal_network(*geometry, net, rcut=3.0)[0])
    finally:
        torch.set_num_threads(before)
    if backend != "reference":
        assert torch.equal(*results)
    limit = 1e-5 if dtype == torch.float32 else 1e-12
    for step in (1, 17, 300):
        split = points[: 4 * step].split(step)
        parts = [crystal_network(p, frame[: len(p)], *rest, net, rcut=3.0)[0] for p in split]
        assert relative_error(torch.cat(parts), results[0][: 4 * step]) < limit
    order = torch.randperm(1200, generator=torch.manual_seed(4))
    assert relative_error(crystal_network(points[order], frame, *rest, net, rcut=3.0)[0], results[0][order]) < limit


def test_bad_arguments():
    c, net = case("skewed"), network("odd").pack()
    with pytest.raises(ValueError, match=r"cutoff: at least 2 \(rcut \+ tie\) = 10.0002 Angstrom expected, got 8.0002"):
        crystal_network(*c.geometry, net, rcut=5.0)
    points, frame, atoms, types, *rest = c.geometry
    with pytest.raises(ValueError, match=r"atom_type: values must lie in 0..1 \(species in state\)"):
        crystal_network(points, frame, atoms, types + 1, *rest, net, rcut=RCUT)
    with pytest.raises(ValueError, match="layers: at least one expected"):
        crystal_network(*c.geometry, CrystalNetwork(net.state, [], CUTOFF), rcut=RCUT)
    with pytest.raises(RuntimeError, match="no gradients"):
        crystal_network(*c.geometry, CrystalNetwork(net.state.requires_grad_(), net.layers, CUTOFF), rcut=RCUT)


def test_direct_calls_are_checked(compiled):
    c, net = case("skewed"), network("odd").pack()
    for k, text in ((0, "state"), (3, "weights"), (6, "scale"), (5, "table")):
        packed = list(net.packed)
        packed[k] = packed[k][..., :3]
        with pytest.raises(RuntimeError, match=text):
            torch.ops.dcharge.crystal_network(*c.geometry, *packed, RCUT, 12, 1e-4)
    with pytest.raises(RuntimeError, match=r"cutoff: at least 2 \(rcut \+ tie\)"):
        torch.ops.dcharge.crystal_network(*c.geometry, *net.packed, 4.5, 12, 1e-4)
