import pytest
import torch
from cases import FRAMES, N_TYPES, RADIAL, brute_force, case, relative_error, tolerance

from dcharge.ops import se_e2_a

DTYPES = (torch.float32, torch.float64)


def parameters(l_max, n_radial, m, dtype=torch.float64, seed=0):
    generator = torch.manual_seed(seed)
    c = torch.randn(N_TYPES, l_max + 1, n_radial, m, dtype=torch.float64, generator=generator)
    return c.to(dtype), torch.randn(m, dtype=torch.float64, generator=generator).to(dtype)


def brute_descriptor(system, coefficients, offset, axis, mode):
    """From the brute-force moments, written out."""
    n_types, n_degrees, n_radial, m = coefficients.shape
    p = brute_force(system, n_degrees - 1, n_radial)
    a = torch.zeros(len(p), n_degrees**2, m, dtype=torch.float64)
    for k in range(n_degrees**2):
        for t in range(n_types):
            a[:, k] += p[:, t, k] @ coefficients[t, int(k**0.5)].double()
    if offset is not None:
        a[:, 0] += offset.double()
    ranges = (
        [(0, n_degrees**2, axis[0])] if mode == "joint" else [(q * q, (q + 1) ** 2, axis[q]) for q in range(n_degrees)]
    )
    return torch.cat([(a[:, i:j].transpose(1, 2) @ a[:, i:j, :n]).flatten(1) for i, j, n in ranges], 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("system", list(FRAMES))
def test_contract(backend, system, dtype):
    coefficients, offset = parameters(1, 11, 20, dtype)
    exact = brute_descriptor(system, coefficients, offset, [8], "joint")
    for given in (coefficients, coefficients.clone().requires_grad_()):  # fused, and the composition autograd follows
        d = se_e2_a(*case(system).geometry, given, offset, **RADIAL, axis_neuron=8)
        assert d.dtype == dtype and relative_error(d, exact) < tolerance(dtype)
    none = se_e2_a(*case(system).with_points(case(system).points[:0], case(system).point_frame[:0]), coefficients,
                   offset, **RADIAL, axis_neuron=8)  # fmt: skip
    assert none.shape == (0, 160)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l_max, m, axis, mode", [
    (0, 80, [16], "joint"), (1, 80, [16], "joint"), (1, 23, [23], "joint"), (1, 7, [3, 2], "per_l"),
    (2, 16, [16, 8, 1], "per_l"), (3, 33, [16, 17, 5, 4], "per_l"), (3, 1, [1], "joint"),
])  # fmt: skip
def test_sizes(backend, l_max, m, axis, mode, dtype):
    coefficients, offset = parameters(l_max, 11, m, dtype)
    for shift in (None, offset):
        exact = brute_descriptor("skewed", coefficients, shift, axis, mode)
        d = se_e2_a(*case("skewed").geometry, coefficients, shift, **RADIAL, axis_neuron=axis, gram=mode)
        assert relative_error(d, exact) < tolerance(dtype)


@pytest.mark.parametrize("mode, axis", [("joint", 3), ("per_l", [3, 2])])
def test_gradcheck(backend, mode, axis):
    c = case("small_cell")
    coefficients, offset = parameters(1, 4, 5)
    inputs = [t.clone().requires_grad_() for t in (c.points[1:4], c.atoms, coefficients, offset)]

    def f(points, atoms, coefficients, offset):
        geometry = (points, c.point_frame[1:4], atoms, *c.geometry[3:])
        return se_e2_a(*geometry, coefficients, offset, **RADIAL, axis_neuron=axis, gram=mode)

    assert torch.autograd.gradcheck(f, inputs, atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, inputs, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("l_max", [1, 3])
def test_per_degree_gram_is_rotation_invariant(backend, l_max):
    c = case("skewed")
    coefficients, offset = parameters(l_max, 8, 6)
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.manual_seed(7)))
    options = dict(**RADIAL, axis_neuron=[4] * (l_max + 1), gram="per_l")
    d = se_e2_a(*c.geometry, coefficients, offset, **options)
    turned = (c.points @ q, c.point_frame, c.atoms @ q, c.atom_type, c.atom_frame, c.cell @ q, c.pbc)
    assert relative_error(se_e2_a(*turned, coefficients, offset, **options), d) < 1e-10


@pytest.mark.parametrize("change, error, text", [
    (dict(coefficients=torch.zeros(2, 2, 3)), ValueError, r"coefficients: shape \[n, n, n, n\] expected"),
    (dict(coefficients=torch.zeros(2, 5, 3, 4)), ValueError, "coefficients: 1 to 4 degrees"),
    (dict(coefficients=torch.zeros(1, 2, 3, 8)), ValueError, r"atom_type: values must lie in 0..0"),
    (dict(coefficients=torch.zeros(2, 2, 3, 8).half()), TypeError, "coefficients: torch.float32 or torch.float64"),
    (dict(offset=torch.zeros(7)), ValueError, r"offset: shape \[8\] expected"),
    (dict(offset=torch.zeros(8).double()), TypeError, "offset: torch.float32 expected"),
    (dict(axis_neuron=9), ValueError, "axis_neuron: an integer in 1..8 expected, got 9"),
    (dict(axis_neuron=[4, 4]), ValueError, "axis_neuron: 1 integers expected"),
    (dict(gram="both"), ValueError, "gram: 'joint' or 'per_l' expected"),
    (dict(soft=-0.5), ValueError, "soft: a positive length"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    names = ("points", "point_frame", "atoms", "atom_type", "atom_frame", "cell", "pbc")
    given = dict(zip(names, case("skewed").geometry, strict=True), coefficients=torch.zeros(2, 2, 3, 8),
                 offset=torch.zeros(8), **RADIAL, axis_neuron=4)  # fmt: skip
    with pytest.raises(error, match=text):
        se_e2_a(**{**given, **change})
