"""Messages of all layers from atoms to probes."""

import pytest
import torch
from cases import FRAMES, RCUT, case, relative_error, tolerance
from probe_cases import N_KNOTS, brute_messages, parameters, states, table

from dcharge.ops import library, probe_messages
from dcharge.ops.probe_messages import interpolation

DTYPES = (torch.float32, torch.float64)
ALL = list(FRAMES)
EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}


def untyped(geometry):
    """The six tensors of the geometry without species."""
    points, point_frame, atoms, _, *rest = geometry
    return points, point_frame, atoms, *rest


def strided(t):
    """The same values in a tensor that is not contiguous."""
    wide = torch.zeros(*t.shape, 2, dtype=t.dtype)
    wide[..., 0] = t
    return wide[..., 0]


@pytest.mark.parametrize("layout", ["contiguous", "strided", "zero_points"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("system", ALL)
def test_contract(backend, system, dtype, layout):
    c = case(system)
    given, exact = (*untyped(c.geometry), *parameters(len(c.atoms), dtype=dtype)), brute_messages(system)
    if layout == "strided":
        given = [strided(t) for t in given]
    if layout == "zero_points":
        given, exact = (*untyped(c.with_points(c.points[:0], c.point_frame[:0])), *given[6:]), exact[:0]
    out = probe_messages(*given, rcut=RCUT)
    assert out.shape == exact.shape and out.dtype == dtype and out.is_contiguous()
    assert relative_error(out, exact) < EXACT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_features, n_layers", [(1, 1), (8, 3), (16, 2), (33, 1), (64, 1), (100, 2)])
def test_features_and_layers(backend, n_features, n_layers, dtype):
    c = case("skewed")
    given = parameters(len(c.atoms), n_features, n_layers, dtype)
    exact = brute_messages("skewed", n_features, n_layers)
    assert relative_error(probe_messages(*untyped(c.geometry), *given, rcut=RCUT), exact) < EXACT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_nucleus_and_without_neighbours(backend, dtype):
    c = case("one_atom")
    s, w = parameters(1, dtype=dtype)
    points = torch.cat([c.atoms, c.atoms + 50.0]).requires_grad_()
    geometry = untyped(c.with_points(points, torch.zeros(2, dtype=torch.int64)))
    out = probe_messages(*geometry, s, w, rcut=RCUT)
    assert relative_error(out[0, :, 0], w[:, 0, 0] * s[0, :, 0]) < EXACT[dtype]
    assert relative_error(out[0, :, 1:], w[:, 1, 0, None] * s[0, :, 2:]) < EXACT[dtype]
    assert (out[1] == 0).all()
    (gradient,) = torch.autograd.grad(out.sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), points)
    assert (gradient == 0).all() and torch.isfinite(second).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_on_the_image_of_a_nucleus(backend, dtype):
    """Rounding of a far image must not choose a direction."""
    c = case("small_cell")
    given = parameters(len(c.atoms), dtype=dtype)
    shift = torch.tensor([[0.0, 0.0, 0.0], [3.0, -7.0, 11.0], [-20.0, 5.0, 0.0]], dtype=torch.float64) @ c.cell[0]
    geometry = untyped(c.with_points(c.atoms[:1] + shift, torch.zeros(3, dtype=torch.int64)))
    out = probe_messages(*geometry, *given, rcut=RCUT)
    assert relative_error(out[1:], out[:1].expand(2, -1, -1, -1)) < EXACT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_smooth_at_the_cutoff(backend, dtype):
    c = case("one_atom")
    r = torch.tensor([3.9999, 4.0 - 1e-7, 4.0, 4.0 + 1e-7], dtype=torch.float64)
    points = c.atoms + r[:, None] * torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    geometry = untyped(c.with_points(points, torch.zeros(4, dtype=torch.int64)))
    out = probe_messages(*geometry, *parameters(1, dtype=dtype), rcut=RCUT)
    assert out[1].abs().max() < 1e-4 and (out[2:] == 0).all()


@pytest.mark.parametrize("n_knots", [4, 5, 50])
def test_cubics_are_exact(backend, n_knots):
    """The interpolant of a cubic is that cubic, in the first and last interval too."""
    c = case("one_atom")
    r = torch.linspace(0.0, RCUT, 500, dtype=torch.float64)[:-1]
    points = c.atoms + r[:, None] * torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    cubic = lambda r: 0.3 - 1.1 * r + 0.7 * r**2 - 0.2 * r**3  # noqa: E731
    knots = torch.linspace(0.0, RCUT, n_knots, dtype=torch.float64)
    w = cubic(knots)[None, None, :, None].expand(1, 3, n_knots, 2).contiguous()
    s = torch.zeros(1, 1, 5, 2, dtype=torch.float64)
    s[:, :, 0] = 1
    geometry = untyped(c.with_points(points, torch.zeros(len(r), dtype=torch.int64)))
    out = probe_messages(*geometry, s, w, rcut=RCUT)
    assert relative_error(out[:, 0, 0, 0], cubic(r)) < 1e-12 and (out[:, :, 1:] == 0).all()


def test_error_of_interpolation():
    """The filters of DeepDFT, 30 radial functions below 4 Angstrom, on 1024 knots."""
    k = torch.arange(1, 31, dtype=torch.float64) * torch.pi / 4

    def filters(r):
        return torch.sinc(r[:, None] * k / torch.pi) * k * (0.5 + 0.5 * torch.cos(torch.pi * r / 4))[:, None]

    r = torch.linspace(0, 4, 100_001, dtype=torch.float64)
    first, weights = interpolation(r, 4.0, 1024)
    knots = filters(torch.linspace(0, 4, 1024, dtype=torch.float64))
    found = sum(weights[:, i, None] * knots[first + i] for i in range(4))
    error = (found - filters(r)).abs().amax(0) / k
    assert 1e-7 < error.max() < 1e-6


def leaves(c, dtype, which=slice(None), n_features=3):
    tensors = (c.points[which], c.atoms, *parameters(len(c.atoms), n_features, dtype=dtype))
    return [t.clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_features", [3, 16, 40])
@pytest.mark.parametrize("system", ALL)
def test_gradients(backend, system, n_features, dtype, monkeypatch):
    """All gradients at once, parameters alone, positions alone."""
    c = case(system)
    shape = (len(c.points), 2, 4, n_features)
    weight = torch.randn(shape, dtype=torch.float64, generator=torch.manual_seed(1))

    def gradients(dtype, wanted):
        points, atoms, s, w = inputs = leaves(c, dtype, n_features=n_features)
        for k, t in enumerate(inputs):
            t.requires_grad_(k in wanted)
        out = probe_messages(points, c.point_frame, atoms, *c.geometry[4:], s, w, rcut=RCUT)
        return torch.autograd.grad((out * weight.to(dtype)).sum(), [inputs[k] for k in wanted])

    found = {wanted: gradients(dtype, wanted) for wanted in [(0, 1, 2, 3), (2, 3), (2,), (3,), (0, 1), (1, 3)]}
    monkeypatch.setattr(library, "_library", None)
    for wanted, values in found.items():
        for value, exact in zip(values, gradients(torch.float64, wanted), strict=True):
            assert value.shape == exact.shape and torch.isfinite(value).all()
            assert relative_error(value, exact) < tolerance(dtype, gradient=True)


@pytest.mark.parametrize("system", ["small_cell", "slab", "two_frames", "empty"])
def test_gradcheck(backend, system):
    c = case(system)
    which = slice(4, 8) if len(c.atoms) else slice(0, 0)

    def messages(points, atoms, s, w):
        return probe_messages(points, c.point_frame[which], atoms, *c.geometry[4:], s, w, rcut=RCUT)

    inputs = leaves(c, torch.float64, which)
    assert torch.autograd.gradcheck(messages, inputs, atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(messages, inputs, atol=1e-5, fast_mode=True)


def test_vectors_turn_with_the_system(backend):
    c = case("skewed")
    s, w = parameters(len(c.atoms))
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.manual_seed(7)))
    out = probe_messages(*untyped(c.geometry), s, w, rcut=RCUT)
    turned = torch.cat([s[:, :, :2], torch.einsum("ntxf,xy->ntyf", s[:, :, 2:], q)], 2)
    geometry = (c.points @ q, c.point_frame, c.atoms @ q, c.atom_frame, c.cell @ q, c.pbc)
    found = probe_messages(*geometry, turned, w, rcut=RCUT)
    exact = torch.cat([out[:, :, :1], torch.einsum("ntxf,xy->ntyf", out[:, :, 1:], q)], 2)
    assert relative_error(found, exact) < 1e-12


def many_points(n):
    c = case("skewed")
    points = torch.rand(n, 3, dtype=torch.float64, generator=torch.manual_seed(3)) * 12 - 4
    return untyped(c.with_points(points, torch.zeros(n, dtype=torch.int64)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(backend, dtype):
    if backend == "reference" or "probe_messages" not in library.COMPILED:
        pytest.skip("the reference inherits what torch does")
    points, point_frame, atoms, *rest = many_points(2500)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            inputs = [t.clone().requires_grad_() for t in (points, atoms, *parameters(len(atoms), 40, dtype=dtype))]
            out = probe_messages(inputs[0], point_frame, inputs[1], *rest, *inputs[2:], rcut=RCUT)
            results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_tiles_and_wrapping_do_not_matter(backend, dtype):
    points, point_frame, atoms, atom_frame, cell, pbc = many_points(1500)
    s, w = parameters(len(atoms), dtype=dtype)
    whole = probe_messages(*many_points(1500), s, w, rcut=RCUT)
    tol = 1e-5 if dtype == torch.float32 else 1e-12
    for step in (1, 17, 700):
        split = zip(points[: 5 * step].split(step), point_frame[: 5 * step].split(step), strict=True)
        parts = [probe_messages(a, b, atoms, atom_frame, cell, pbc, s, w, rcut=RCUT) for a, b in split]
        assert relative_error(torch.cat(parts), whole[: 5 * step]) < tol
    order = torch.randperm(1500, generator=torch.manual_seed(4))
    atom_order = torch.randperm(len(atoms), generator=torch.manual_seed(5))
    shift = torch.randint(-3, 4, (1500, 3), generator=torch.manual_seed(6)).double() @ cell[0]
    moved = ((points + shift)[order], point_frame, atoms[atom_order], atom_frame[atom_order], cell, pbc, s[atom_order])
    assert relative_error(probe_messages(*moved, w, rcut=RCUT), whole[order]) < max(tol, 1e-11)


@pytest.mark.parametrize("change, error, text", [
    (dict(points=torch.zeros(2, 3)), TypeError, "points: torch.float64 expected, got torch.float32"),
    (dict(atoms=torch.full((5, 3), float("inf"), dtype=torch.float64)), ValueError, "atoms: row 0 is not a finite"),
    (dict(point_frame=torch.tensor([0, 1])), ValueError, r"point_frame: values must lie in 0\.\.0"),
    (dict(states=states(4)), ValueError, r"states: shape \[5, n, 5, n\] expected, got \[4, 2, 5, 19\]"),
    (dict(states=states(5).half()), TypeError, "states: torch.float32 or torch.float64 expected"),
    (dict(states=states(5)[:, :, :, :0]), ValueError, "states: at least one layer and one feature expected"),
    (dict(table=table(dtype=torch.float32)), TypeError, "table: torch.float64 expected, got torch.float32"),
    (dict(table=table(18)), ValueError, r"table: shape \[2, 3, n, 19\] expected, got \[2, 3, 50, 18\]"),
    (dict(table=table(n_knots=3)), ValueError, "table: at least 4 knots on axis 2 expected, got 3"),
    (dict(rcut=0.0), ValueError, "rcut: a positive length in Angstrom expected, got 0.0"),
])  # fmt: skip
def test_bad_arguments_are_named(change, error, text):
    c = case("skewed")
    names = ("points", "point_frame", "atoms", "atom_frame", "cell", "pbc", "states", "table")
    given = dict(zip(names, (*untyped(c.with_points(c.points[:2], c.point_frame[:2])), *parameters(5)), strict=True))
    assert given["table"].shape[2] == N_KNOTS
    with pytest.raises(error, match=text):
        probe_messages(**{**given, "rcut": RCUT, **change})
