import numpy as np
import pytest
import torch
from cases import FRAMES, N_TYPES, RADIAL, brute_force, case, relative_error, tolerance

from dcharge.ops import radial_moments
from dcharge.ops.bases import solid_harmonics

DTYPES = (torch.float32, torch.float64)
ALL = list(FRAMES)


def moments(geometry, dtype, n_radial=11, l_max=1, **changes):
    return radial_moments(
        *geometry, **{**RADIAL, **changes}, n_radial=n_radial, l_max=l_max, n_types=N_TYPES, out_dtype=dtype
    )


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
    geometry, exact = c.geometry, brute_force(system, 1, 11)
    if layout == "strided":
        geometry = [strided(t) for t in geometry]
        assert not geometry[0].is_contiguous()
    if layout == "zero_points":
        geometry, exact = c.with_points(c.points[:0], c.point_frame[:0]), exact[:0]
    p = moments(geometry, dtype)
    assert p.shape == exact.shape and p.dtype == dtype and p.is_contiguous()
    assert relative_error(p, exact) < tolerance(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l_max", range(4))
@pytest.mark.parametrize("n_radial", [1, 2, 16, 37])
def test_angular_and_radial_sizes(backend, n_radial, l_max, dtype):
    p = moments(case("skewed").geometry, dtype, n_radial, l_max)
    assert relative_error(p, brute_force("skewed", l_max, n_radial)) < tolerance(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("system", ALL)
@pytest.mark.parametrize("l_max", [1, 3])
def test_gradients(backend, system, dtype, l_max, monkeypatch):
    c = case(system)
    weight = torch.randn(brute_force(system, l_max, 11).shape, dtype=torch.float64, generator=torch.manual_seed(1))

    def gradients(dtype):
        points, atoms = c.points.clone().requires_grad_(), c.atoms.clone().requires_grad_()
        p = moments((points, c.point_frame, atoms, *c.geometry[3:]), dtype, l_max=l_max)
        return torch.autograd.grad((p * weight.to(dtype)).sum(), (points, atoms))

    found = gradients(dtype)
    from dcharge.ops import library

    monkeypatch.setattr(library, "_library", None)
    for value, exact in zip(found, gradients(torch.float64), strict=True):
        assert value.dtype == torch.float64 and torch.isfinite(value).all()
        assert relative_error(value, exact) < tolerance(dtype, gradient=True)


@pytest.mark.parametrize("system", ["small_cell", "slab", "two_frames", "empty"])
@pytest.mark.parametrize("l_max", [1, 3])
def test_gradcheck(backend, system, l_max):
    c = case(system)
    points, atoms = c.points[1:5].clone().requires_grad_(), c.atoms.clone().requires_grad_()

    def f(points, atoms):
        return moments((points, c.point_frame[1:5], atoms, *c.geometry[3:]), torch.float64, 4, l_max)

    assert torch.autograd.gradcheck(f, (points, atoms), atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (points, atoms), atol=1e-6, fast_mode=True)


def test_nucleus_has_one_gradient_and_hessian(backend):
    c = case("skewed")
    weight = torch.randn(N_TYPES, 4, 11, dtype=torch.float64, generator=torch.manual_seed(2))

    def value(r):
        return (moments(c.with_points(r[None], c.atom_frame[:1]), torch.float64)[0] * weight).sum()

    def derivatives(r):
        gradient = torch.autograd.functional.jacobian(value, r)
        return gradient, torch.autograd.functional.hessian(value, r)

    at = derivatives(c.atoms[0])
    for direction in [(1, 0, 0), (-1, 0, 0), (0.3, -0.7, 0.2), (0, 0, 1), (0, -1, 1)]:
        near = derivatives(c.atoms[0] + 1e-6 * torch.tensor(direction, dtype=torch.float64))
        for a, b in zip(at, near, strict=True):
            assert torch.isfinite(a).all()
            assert relative_error(b, a) < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_neighbour_is_exactly_zero(backend, dtype):
    c = case("molecule")
    points = torch.tensor([[50.0, 0, 0], [0, -60.0, 1]], dtype=torch.float64, requires_grad=True)
    p = moments(c.with_points(points, torch.zeros(2, dtype=torch.int64)), dtype)
    assert (p == 0).all()
    (gradient,) = torch.autograd.grad(p.sum(), points, create_graph=True)
    assert (gradient == 0).all()
    assert (torch.autograd.grad(gradient.sum(), points)[0] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_smooth_at_the_cutoff(backend, dtype):
    c = case("one_atom")
    r = torch.tensor([3.999, 3.9999999, 4.0, 4.0000001], dtype=torch.float64)
    points = c.atoms + r[:, None] * torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    p = moments(c.with_points(points, torch.zeros(4, dtype=torch.int64)), dtype)
    assert p.abs().amax((1, 2, 3)).max() < 1e-8
    assert (p[2:] == 0).all() or p[2].abs().max() < 1e-15


def many_points(n=3000):
    c = case("skewed")
    points = torch.rand(n, 3, dtype=torch.float64, generator=torch.manual_seed(3)) * 12 - 4
    return c.with_points(points, torch.zeros(n, dtype=torch.int64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(backend, dtype):
    points, point_frame, atoms, *rest = many_points()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            p, a = points.clone().requires_grad_(), atoms.clone().requires_grad_()
            value = moments((p, point_frame, a, *rest), dtype)
            results.append((value, *torch.autograd.grad(value.square().sum(), (p, a))))
    finally:
        torch.set_num_threads(before)
    if backend != "reference":  # the reference inherits what torch does
        assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))
    assert torch.equal(results[1][0], results[3][0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_tiles_and_wrapping_do_not_matter(backend, dtype):
    points, point_frame, atoms, atom_type, atom_frame, cell, pbc = many_points(2000)
    whole = moments(many_points(2000), dtype)
    tol = 1e-5 if dtype == torch.float32 else 1e-10
    for step in (1, 17, 700):
        n = 5 * step
        parts = [
            moments((a, b, *many_points()[2:]), dtype)
            for a, b in zip(points[:n].split(step), point_frame[:n].split(step), strict=True)
        ]
        assert relative_error(torch.cat(parts), whole[:n]) < tol
    order = torch.randperm(2000, generator=torch.manual_seed(4))
    atom_order = torch.randperm(len(atoms), generator=torch.manual_seed(5))
    shift = torch.randint(-3, 4, (2000, 3), generator=torch.manual_seed(6)).double() @ cell[0]
    moved = (
        *((points + shift)[order], point_frame, atoms[atom_order], atom_type[atom_order], atom_frame[atom_order]),
        *(cell, pbc),
    )
    assert relative_error(moments(moved, dtype), whole[order]) < tol
    far = torch.tensor([1500.0, -2000.0, 700.0], dtype=torch.float64)
    assert relative_error(moments((points + far, point_frame, atoms + far, *many_points()[3:]), dtype), whole) < tol


def test_unused_cell_rows_are_ignored(backend):
    c = case("wire")
    cell = c.cell.clone()
    cell[0, 0], cell[0, 2] = float("nan"), 1e9
    p = moments((*c.geometry[:5], cell, c.pbc), torch.float64)
    assert relative_error(p, brute_force("wire", 1, 11)) < 1e-10


def test_float32_of_one_close_atom(backend):
    """The distance is exact however far the tile is from the origin and however large it is."""
    c = case("one_atom")
    points = c.atoms + torch.tensor([[0.0, 0.15, 0.1], [0.5, 0.1, 0.0], [3.0, 1.0, 1.0]], dtype=torch.float64)
    geometry = c.with_points(points, torch.zeros(3, dtype=torch.int64))
    assert relative_error(moments(geometry, torch.float32, 32), moments(geometry, torch.float64, 32)) < 1e-5


def test_addition_theorem():
    rng = np.random.default_rng(0)
    u, v = (torch.tensor(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in rng.normal(size=(2, 20, 3)))
    cosine = (u * v).sum(-1)
    product = solid_harmonics(u, 3) * solid_harmonics(v, 3)
    legendre = [1 + 0 * cosine, cosine, 1.5 * cosine**2 - 0.5, 2.5 * cosine**3 - 1.5 * cosine]
    for degree, exact in enumerate(legendre):
        assert torch.allclose(product[:, degree**2 : (degree + 1) ** 2].sum(-1), exact, atol=1e-13)


@pytest.mark.parametrize("change, error, text", [
    (dict(points=torch.zeros(2, 2, dtype=torch.float64)), ValueError, r"points: shape \[n, 3\] expected"),
    (dict(points=torch.zeros(2, 3)), TypeError, "points: torch.float64 expected, got torch.float32"),
    (dict(points=[[0.0, 0.0, 0.0]]), TypeError, "points: a torch.Tensor expected, got list"),
    (dict(points=torch.full((29, 3), float("nan"), dtype=torch.float64)), ValueError, "points: row 0 is not a finite"),
    (dict(point_frame=torch.zeros(3, dtype=torch.int64)), ValueError, r"point_frame: shape \[29\] expected"),
    (dict(point_frame=torch.full((29,), 1)), ValueError, r"point_frame: values must lie in 0..0"),
    (dict(atoms=torch.zeros(5, 3, device="meta", dtype=torch.float64)), ValueError, "atoms: is on meta"),
    (dict(atom_type=torch.full((5,), 2)), ValueError, r"atom_type: values must lie in 0..1 \(n_types\), got 2"),
    (dict(atom_type=torch.zeros(5)), TypeError, "atom_type: torch.int64 expected"),
    (dict(cell=torch.zeros(1, 3, 3, dtype=torch.float64)), (ValueError, RuntimeError), "cell: the periodic cell vec"),
    (dict(cell=torch.full((1, 3, 3), float("inf"), dtype=torch.float64)), (ValueError, RuntimeError), "not finite"),
    (dict(pbc=torch.ones(2, 3, dtype=torch.bool)), ValueError, r"pbc: shape \[1, 3\] expected"),
    (dict(soft=0.0), ValueError, "soft: a positive length"),
    (dict(rcut=-1.0), ValueError, "rcut: a positive length"),
    (dict(rcut_smth=4.0), ValueError, "rcut_smth: 0 <= rcut_smth < rcut"),
    (dict(n_radial=0), ValueError, "n_radial: an integer >= 1 expected"),
    (dict(l_max=4), ValueError, r"l_max: an integer in 0..3 expected, got 4"),
    (dict(out_dtype=torch.float16), TypeError, "out_dtype: torch.float32 or torch.float64"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    c = case("skewed")
    names = ("points", "point_frame", "atoms", "atom_type", "atom_frame", "cell", "pbc")
    given = dict(zip(names, c.geometry, strict=True), **RADIAL, n_radial=3, l_max=1, n_types=N_TYPES)
    with pytest.raises(error, match=text):
        radial_moments(**{**given, **change})
