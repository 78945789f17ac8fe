"""Orbital sums, their Gram matrices and the fused density features."""

import sys

import pytest
import torch
from cases import FRAMES, RCUT, case, relative_error, tolerance
from orbital_cases import SOFT, brute_gram, brute_sums, monomials, options, parameters

from dcharge.ops import ead, library, orbital_gram, orbital_sums
from dcharge.ops.bases import cartesian_monomials, monomial_weights

DTYPES = (torch.float32, torch.float64)
ALL = list(FRAMES)
BOTH = ("raw", "unit")


def strided(t):
    """The same values in a tensor that is not contiguous."""
    wide = torch.zeros(*t.shape, 2, dtype=t.dtype)
    wide[..., 0] = t
    return wide[..., 0]


@pytest.mark.parametrize("layout", ["contiguous", "strided", "zero_points"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("system", ALL)
def test_contract(backend, system, direction, dtype, layout):
    c = case(system)
    given, exact = (*c.geometry, *parameters(len(c.atoms), dtype=dtype)), brute_sums(system, 2, direction)
    if layout == "strided":
        given = [strided(t) for t in given]
    if layout == "zero_points":
        given, exact = (*c.with_points(c.points[:0], c.point_frame[:0]), *given[7:]), exact[:0]
    s = orbital_sums(*given, **options(direction))
    assert s.shape == exact.shape and s.dtype == dtype and s.is_contiguous()
    assert relative_error(s, exact) < tolerance(dtype)
    g = ead(*given, **options(direction))
    assert g.dtype == dtype and g.is_contiguous() and relative_error(g, brute_gram(exact)) < tolerance(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l_max", range(4))
@pytest.mark.parametrize("n_waves", [1, 2, 8, 19])
def test_degrees_and_waves(backend, n_waves, l_max, dtype):
    c = case("skewed")
    given = (*c.geometry, *parameters(len(c.atoms), n_waves, dtype))
    exact = brute_sums("skewed", l_max, "unit", n_waves)
    assert relative_error(orbital_sums(*given, **options("unit", l_max)), exact) < tolerance(dtype)
    field = torch.randn(1, exact.shape[1], n_waves, dtype=torch.float64, generator=torch.manual_seed(1))
    g = ead(*given, field.to(dtype), **options("unit", l_max))
    assert relative_error(g, brute_gram(exact + field)) < tolerance(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("system", ["skewed", "small_cell", "molecule", "one_atom", "two_frames"])
def test_an_atom_does_not_see_itself(backend, system, dtype):
    """Its images it does see; wrapping does not matter; an index of -1 is a free point."""
    c = case(system)
    shift = torch.randint(-2, 3, c.atoms.shape, generator=torch.manual_seed(2)).double()
    moved = c.atoms + torch.einsum("na,nab->nb", shift * c.pbc[c.atom_frame], c.cell[c.atom_frame])
    given, index = parameters(len(c.atoms), dtype=dtype), torch.arange(len(c.atoms))
    exact = brute_sums(system, 2, "unit", as_atoms=True)
    for points in (c.atoms, moved):
        geometry = c.with_points(points, c.atom_frame)
        s = orbital_sums(*geometry, *given, index, **options("unit"))
        assert relative_error(s, exact) < tolerance(dtype)
        g = ead(*geometry, *given, None, index, **options("unit"))
        assert relative_error(g, brute_gram(exact)) < tolerance(dtype)
        free = orbital_sums(*geometry, *given, torch.full_like(index, -1), **options("unit"))
        assert relative_error(free, orbital_sums(*geometry, *given, **options("unit"))) < tolerance(dtype)
        assert (free - s)[:, 0].abs().amax() > 1e-3


def test_coincident_atoms_see_each_other(backend):
    atoms = torch.zeros(2, 3, dtype=torch.float64)
    zeros = torch.zeros(2, dtype=torch.int64)
    cell, pbc = torch.zeros(1, 3, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.bool)
    given = (atoms, zeros, atoms, zeros, zeros, cell, pbc, *parameters(2), torch.arange(2))
    s = orbital_sums(*given, **options("raw"))
    coefficients, center, exponent = parameters(2)
    assert torch.allclose(s[:, 0], coefficients.flip(0) * torch.exp(exponent[0] * center[0].square()))
    assert (s[:, 1:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_nucleus_and_without_neighbours(backend, dtype):
    c = case("one_atom")
    coefficients, center, exponent = parameters(1, dtype=dtype)
    points = torch.cat([c.atoms, c.atoms + 50.0]).requires_grad_()
    geometry = c.with_points(points, torch.zeros(2, dtype=torch.int64))
    for direction in BOTH:
        s = orbital_sums(*geometry, coefficients, center, exponent, **options(direction))
        t = int(c.atom_type[0])
        exact = coefficients[0] * torch.exp(exponent[t] * (SOFT[direction] - center[t]).square())
        assert relative_error(s[0, 0], exact) < tolerance(dtype) and (s[0, 1:] == 0).all() and (s[1] == 0).all()
        (gradient,) = torch.autograd.grad(s.sum(), points, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), points)
        assert torch.isfinite(gradient).all() and torch.isfinite(second).all()
        assert (gradient[1] == 0).all() and (second[1] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_smooth_at_the_cutoff(backend, dtype):
    c = case("one_atom")
    r = torch.tensor([3.9999, 4.0 - 1e-7, 4.0, 4.0 + 1e-7], dtype=torch.float64)
    points = c.atoms + r[:, None] * torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    s = orbital_sums(*c.with_points(points, torch.zeros(4, dtype=torch.int64)), *parameters(1, dtype=dtype),
                     **options("raw"))  # fmt: skip
    assert s.abs().max() < 1e-15 and s[2:].abs().max() < 1e-20


def leaves(c, dtype, points=None):
    tensors = (c.points if points is None else points, c.atoms, *parameters(len(c.atoms), dtype=dtype))
    return [t.clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("system", ALL)
def test_gradients(backend, system, direction, dtype, monkeypatch):
    """All gradients at once, parameters alone, positions alone."""
    c = case(system)
    weight = torch.randn(brute_sums(system, 2, direction).shape, dtype=torch.float64, generator=torch.manual_seed(1))

    def gradients(dtype, wanted):
        points, atoms, *rest = inputs = leaves(c, dtype)
        for k, t in enumerate(inputs):
            t.requires_grad_(k in wanted)
        s = orbital_sums(points, c.point_frame, atoms, *c.geometry[3:], *rest, **options(direction))
        return torch.autograd.grad((s * weight.to(dtype)).sum(), [inputs[k] for k in wanted])

    found = {wanted: gradients(dtype, wanted) for wanted in [(0, 1, 2, 3, 4), (2, 3, 4), (2,), (0, 1), (1, 3)]}
    monkeypatch.setattr(library, "_library", None)
    for wanted, values in found.items():
        for value, exact in zip(values, gradients(torch.float64, wanted), strict=True):
            assert torch.isfinite(value).all()
            assert relative_error(value, exact) < tolerance(dtype, gradient=True)


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("as_atoms", [False, True])
@pytest.mark.parametrize("system", ["small_cell", "slab", "two_frames", "empty"])
def test_gradcheck(backend, system, as_atoms, direction):
    """With soft > 0: the raw sums have a cusp on a nucleus otherwise, and one of the points is there."""
    c = case(system)
    lower, full = (options(direction, l_max) | {"soft": 0.3} for l_max in (1, 2))
    which = slice(0, 2 if as_atoms else 0) if as_atoms or not len(c.atoms) else slice(1, 5)
    frame = (c.atom_frame if as_atoms else c.point_frame)[which]
    index = torch.arange(len(c.atoms))[which] if as_atoms else None
    inputs = leaves(c, torch.float64, (c.atoms if as_atoms else c.points)[which])

    def sums(points, atoms, *rest):
        points = atoms[which] if as_atoms else points
        return orbital_sums(points, frame, atoms, *c.geometry[3:], *rest, index, **lower)

    def features(points, atoms, *rest):
        points = atoms[which] if as_atoms else points
        return ead(points, frame, atoms, *c.geometry[3:], *rest, index, **full)

    assert torch.autograd.gradcheck(sums, inputs, atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(sums, inputs, atol=1e-6, fast_mode=True)
    field = torch.randn(len(c.cell), 10, 5, dtype=torch.float64, generator=torch.manual_seed(3)).requires_grad_()
    assert torch.autograd.gradcheck(features, [*inputs, field], atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(features, [*inputs, field], atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("l_max", range(4))
def test_features_are_rotation_invariant(backend, l_max, direction):
    c = case("skewed")
    given = parameters(len(c.atoms))
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.manual_seed(7)))
    field, strength = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64), torch.tensor([1.0, -2.0, 0.5, 3.0, 0.1])

    def field_sum(field):
        return cartesian_monomials(field, l_max)[:, :, None] * strength.double()

    g = ead(*c.geometry, *given, field_sum(field), **options(direction, l_max))
    turned = (c.points @ q, c.point_frame, c.atoms @ q, c.atom_type, c.atom_frame, c.cell @ q, c.pbc)
    assert relative_error(ead(*turned, *given, field_sum(field @ q), **options(direction, l_max)), g) < 1e-12
    if l_max:
        assert relative_error(ead(*turned, *given, field_sum(field), **options(direction, l_max)), g) > 1e-3


def test_every_frame_has_its_field(backend):
    c = case("two_frames")
    field = torch.randn(2, 10, 5, dtype=torch.float64, generator=torch.manual_seed(4))
    g = ead(*c.geometry, *parameters(len(c.atoms)), field, **options("raw"))
    assert relative_error(g, brute_gram(brute_sums("two_frames", 2, "raw") + field[c.point_frame])) < 1e-10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l_max, n_waves", [(0, 1), (1, 3), (2, 8), (2, 33), (3, 2)])
def test_gram_and_its_gradient(backend, l_max, n_waves, dtype):
    n_comp = [1, 4, 10, 20][l_max]
    s = torch.randn(37, n_comp, n_waves, dtype=torch.float64, generator=torch.manual_seed(5))
    exact = brute_gram(s)
    weight = torch.randn(exact.shape, dtype=torch.float64, generator=torch.manual_seed(6))
    t = s.to(dtype).clone().requires_grad_()
    g = orbital_gram(t)
    assert g.dtype == dtype and relative_error(g, exact) < tolerance(dtype)
    (found,) = torch.autograd.grad(g, t, weight.to(dtype))
    step = 1e-3  # g is quadratic, so central differences are exact
    numeric = torch.zeros_like(s)
    for k in range(n_comp):
        for m in range(n_waves):
            e = torch.zeros_like(s)
            e[:, k, m] = step
            numeric[:, k, m] = ((brute_gram(s + e) - brute_gram(s - e)) * weight).sum(1) / (2 * step)
    assert relative_error(found, numeric) < max(1e-9, tolerance(dtype, gradient=True))


def test_gram_twice_differentiable(backend):
    s = torch.randn(3, 10, 4, dtype=torch.float64, generator=torch.manual_seed(8)).requires_grad_()
    assert torch.autograd.gradcheck(orbital_gram, s)
    assert torch.autograd.gradgradcheck(orbital_gram, s)
    assert torch.equal(orbital_gram(strided(s)), orbital_gram(s)) and orbital_gram(s[:0]).shape == (0, 30)


def test_monomials():
    v = torch.randn(20, 3, dtype=torch.float64, generator=torch.manual_seed(9))
    w = torch.randn(20, 3, dtype=torch.float64, generator=torch.manual_seed(10))
    a, b = cartesian_monomials(v, 3), cartesian_monomials(w, 3)
    assert torch.allclose(a, torch.tensor(monomials(v.numpy(), 3)))
    weight, first = torch.tensor(monomial_weights(3)), 0
    for degree, n in enumerate([1, 3, 6, 10]):
        of = slice(first, first + n)
        assert torch.allclose((weight[of] * a[:, of] * b[:, of]).sum(1), (v * w).sum(1) ** degree)
        first += n


def many_points(n=3000):
    c = case("skewed")
    points = torch.rand(n, 3, dtype=torch.float64, generator=torch.manual_seed(3)) * 12 - 4
    return c.with_points(points, torch.zeros(n, dtype=torch.int64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(backend, dtype):
    if backend == "reference" or "orbital_sums" not in library.COMPILED:
        pytest.skip("the reference inherits what torch does")
    points, point_frame, atoms, *rest = many_points()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            inputs = [t.clone().requires_grad_() for t in (points, atoms, *parameters(len(atoms), dtype=dtype))]
            s = orbital_sums(inputs[0], point_frame, inputs[1], *rest, *inputs[2:], **options("raw"))
            g = ead(points, point_frame, atoms, *rest, *parameters(len(atoms), dtype=dtype), **options("raw"))
            results.append((s, g, *torch.autograd.grad(s.square().sum(), inputs)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_tiles_and_wrapping_do_not_matter(backend, dtype):
    points, point_frame, atoms, atom_type, atom_frame, cell, pbc = many_points(2000)
    given = parameters(len(atoms), dtype=dtype)
    whole = ead(*many_points(2000), *given, **options("unit"))
    tol = 1e-5 if dtype == torch.float32 else 1e-10
    for step in (1, 17, 700):
        split = zip(points[: 5 * step].split(step), point_frame[: 5 * step].split(step), strict=True)
        parts = [ead(a, b, *many_points()[2:], *given, **options("unit")) for a, b in split]
        assert relative_error(torch.cat(parts), whole[: 5 * step]) < tol
    order = torch.randperm(2000, generator=torch.manual_seed(4))
    atom_order = torch.randperm(len(atoms), generator=torch.manual_seed(5))
    shift = torch.randint(-3, 4, (2000, 3), generator=torch.manual_seed(6)).double() @ cell[0]
    far = torch.tensor([1500.0, -2000.0, 700.0], dtype=torch.float64)
    moved = ((points + shift)[order] + far, point_frame, (atoms + far)[atom_order], atom_type[atom_order],
             atom_frame[atom_order], cell, pbc, given[0][atom_order], *given[1:])  # fmt: skip
    assert relative_error(ead(*moved, **options("unit")), whole[order]) < tol


def test_blocks_of_points_without_autograd(backend, monkeypatch):
    monkeypatch.setattr(sys.modules["dcharge.ops.ead"], "POINTS_PER_BLOCK", 7)
    c = case("two_frames")
    field = torch.randn(2, 10, 5, dtype=torch.float64, generator=torch.manual_seed(4))
    g = ead(*c.geometry, *parameters(len(c.atoms)), field, **options("raw"))
    assert relative_error(g, brute_gram(brute_sums("two_frames", 2, "raw") + field[c.point_frame])) < 1e-10


@pytest.mark.parametrize("change, error, text", [
    (dict(points=torch.zeros(2, 3)), TypeError, "points: torch.float64 expected, got torch.float32"),
    (dict(points=[[0.0, 0.0, 0.0]]), TypeError, "points: a torch.Tensor expected, got list"),
    (dict(atom_type=torch.full((5,), 2)), ValueError, r"atom_type: values must lie in 0..1 \(n_types\), got 2"),
    (dict(coefficients=torch.zeros(4, 5)), ValueError, r"coefficients: shape \[5, 5\] expected"),
    (dict(coefficients=torch.zeros(5, 5).double()), TypeError, "coefficients: torch.float32 expected"),
    (dict(center=torch.zeros(2, 5).half()), TypeError, "center: torch.float32 or torch.float64 expected"),
    (dict(center=torch.zeros(0, 5)), ValueError, "center: at least one type and one wave"),
    (dict(exponent=torch.zeros(2, 4)), ValueError, r"exponent: shape \[2, 5\] expected"),
    (dict(exponent=torch.ones(2, 5)), ValueError, "exponent: values <= 0 expected"),
    (dict(exponent=torch.full((2, 5), float("nan"))), ValueError, "exponent: values <= 0 expected"),
    (dict(point_atom=torch.full((29,), 5)), ValueError, r"point_atom: values must lie in -1..4"),
    (dict(point_atom=torch.zeros(29)), TypeError, "point_atom: torch.int64 expected"),
    (dict(rcut=float("inf")), ValueError, "rcut: a positive length"),
    (dict(l_max=4), ValueError, r"l_max: an integer in 0..3 expected, got 4"),
    (dict(soft=-0.1), ValueError, "soft: a length >= 0"),
    (dict(soft=0.0, direction="unit"), ValueError, "soft: a positive length in Angstrom expected where direction"),
    (dict(direction="vector"), ValueError, "direction: 'raw' or 'unit' expected, got 'vector'"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    c = case("skewed")
    names = ("points", "point_frame", "atoms", "atom_type", "atom_frame", "cell", "pbc")
    given = dict(zip(names, c.geometry, strict=True), coefficients=torch.zeros(5, 5), center=torch.zeros(2, 5),
                 exponent=torch.zeros(2, 5), rcut=RCUT, l_max=2, soft=0.0, direction="raw")  # fmt: skip
    for op in (orbital_sums, ead):
        with pytest.raises(error, match=text):
            op(**{**given, **change})


def test_messages_of_the_features(backend):
    c = case("skewed")
    given = (*c.geometry, *parameters(5, dtype=torch.float32))
    with pytest.raises(ValueError, match=r"field_sum: shape \[1, 10, 5\] expected, got \[1, 4, 5\]"):
        ead(*given, torch.zeros(1, 4, 5), **options("raw"))
    with pytest.raises(TypeError, match="field_sum: torch.float32 expected"):
        ead(*given, torch.zeros(1, 10, 5).double(), **options("raw"))
    with pytest.raises(ValueError, match="sums: 1, 4, 10 or 20 components expected on axis 1, got 9"):
        orbital_gram(torch.zeros(2, 9, 4))
