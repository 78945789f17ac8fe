"""ead_network against its parts in torch, for every instruction set."""

import pytest
import torch
from cases import N_TYPES, case, relative_error, tolerance
from orbital_cases import options, parameters

from dcharge.ops import EadNetwork, ead_network, orbital_gram, orbital_sums
from dcharge.ops.bases import n_monomials

DTYPES = (torch.float32, torch.float64)
NETS = {  # n_states, n_waves, l_max, neurons, n_out, norm, tanh_like, rows of constants for every frame
    "qm9": (1, 8, 2, [32, 32], 1, False, False, False),
    "response": (2, 5, 2, [16, 16], 1, False, False, True),
    "norm": (1, 3, 1, [20, 7, 33], 1, True, False, False),
    "tanh": (2, 4, 0, [5], 2, True, True, True),
    "smallest": (1, 1, 2, [1], 1, False, True, False),
}


def network(name, n_frames, dtype, vacuum=True):
    """A net with random weights."""
    n_states, n_waves, l_max, neurons, n_out, norm, tanh_like, every = NETS[name]
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    n_in, layers, sizes = (l_max + 1) * n_waves * (n_waves + 1) // 2, [], [*neurons, neurons[0]]
    for a, b in zip([n_in, *sizes[:-1]], sizes, strict=True):
        layers.append((normal(b, a) * a**-0.5, normal(b)))
    rows, n_comp = n_frames if every else 1, n_monomials(l_max)
    return EadNetwork(
        0.5 + normal(n_comp, n_waves).abs(),
        normal(rows, n_states, n_comp, n_waves),
        normal(rows, n_states, n_out) if vacuum else None,
        layers,
        [(normal(w), normal(w)) for w in sizes],
        [(normal(w), normal(w)) for w in neurons] if norm else [],
        (normal(n_out, neurons[0]), normal(n_out)),
        tanh_like,
    )


def orbitals(name, n_atoms, dtype):
    """Coefficients of all states, center and exponent repeated for them."""
    n_states, n_waves = NETS[name][:2]
    _, center, exponent = parameters(n_atoms, n_waves, dtype)
    coefficients = parameters(n_atoms, n_states * n_waves, dtype)[0]
    return coefficients, center.repeat(1, n_states), exponent.repeat(1, n_states)


@pytest.mark.parametrize("vacuum", [True, False], ids=["zero", "constant"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", ["skewed", "two_frames"])
@pytest.mark.parametrize("name", NETS)
def test_kernel_is_the_reference(backend, name, geometry, dtype, vacuum):
    c, choice = case(geometry), options("unit", NETS[name][2])
    given = (*c.geometry, *orbitals(name, len(c.atoms), dtype))
    net = network(name, len(c.cell), dtype, vacuum)
    expected, found = ead_network(*given, net, **choice), ead_network(*given, net.pack(), **choice)
    assert found.dtype == dtype and found.shape == (len(c.points), NETS[name][0], NETS[name][4])
    assert relative_error(found, expected) < tolerance(dtype)


@pytest.mark.parametrize("name", NETS)
def test_reference_is_its_parts(name):
    """Point by point, written out."""
    c, choice = case("two_frames"), options("unit", NETS[name][2])
    given = (*c.geometry, *orbitals(name, len(c.atoms), torch.float64))
    net, n_states = network(name, len(c.cell), torch.float64), NETS[name][0]
    sums, found = orbital_sums(*given, **choice), ead_network(*given, net, **choice)

    def bent(x, alpha, beta):
        return (
            alpha * x / torch.sqrt(1 + (beta * x) ** 2) if net.tanh_like else alpha * beta * x * torch.sigmoid(beta * x)
        )

    for p in range(len(sums)):
        frame = int(c.point_frame[p]) if len(net.constant) > 1 else 0
        for i, s in enumerate(sums[p].chunk(n_states, 1)):
            g = orbital_gram((s / net.scale + net.constant[frame, i])[None])[0]
            start = y = net.layers[0][0] @ g + net.layers[0][1]
            for k, (weight, bias) in enumerate(net.layers[1:]):
                y = bent(y, *net.bends[k])
                if net.norms:
                    y = (y - y.mean()) / torch.sqrt(y.var(unbiased=False) + 1e-5)
                    y = y * net.norms[k][0] + net.norms[k][1]
                y = weight @ y + bias
            out = net.output[0] @ bent(start + y, *net.bends[-1]) + net.output[1] - net.vacuum[frame, i]
            out = out if sums[p, 0].any() else torch.zeros_like(out)
            torch.testing.assert_close(found[p, i], out, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("packed", [True, False])
def test_no_atoms_near(packed):
    """Exactly zero less the vacuum's output; the net of the constants without."""
    c, choice = case("two_frames"), options("unit")
    coefficients, *tables = orbitals("qm9", 0, torch.float64)
    none = (c.points, c.point_frame, c.atoms[:0], c.atom_type[:0], c.atom_frame[:0], c.cell, c.pbc)
    for vacuum in (True, False):
        net = network("qm9", len(c.cell), torch.float64, vacuum)
        net = net.pack() if packed else net
        found = ead_network(*none, coefficients, *tables, net, **choice)
        expected = torch.zeros(1, 1) if vacuum else net(orbital_gram(net.constant[0]))
        torch.testing.assert_close(found, expected.double().expand_as(found[:, 0])[:, None], rtol=1e-12, atol=1e-12)


def test_bad_arguments():
    c, choice = case("skewed"), options("unit")
    given = list((*c.geometry, *orbitals("qm9", len(c.atoms), torch.float64)))
    net = network("qm9", 1, torch.float64).pack()
    with pytest.raises(RuntimeError, match="no gradients"):
        ead_network(*given[:-1], given[-1].requires_grad_(), net, **choice)
    given[-1] = given[-1].detach()
    with pytest.raises(ValueError, match="exponent"):
        ead_network(*given[:-1], -given[-1], net, **choice)
    assert N_TYPES == len(given[-1])
    net.constant = net.constant[:, :, :, :3]
    with pytest.raises(RuntimeError, match="constant"):
        ead_network(*given, net, **choice)
