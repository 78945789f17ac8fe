"""IRI and DORI: definitions, Fourier derivatives of analytic densities, the command with a file and with a model."""

import gzip

import numpy as np
import pytest
from ase.units import Bohr
from tiny import SKEWED, calibrated, model_config

from dcharge.analysis.interaction import BOHR, dori, fields, iri
from dcharge.analysis.spectral import derivatives
from dcharge.cli import main
from dcharge.density import Density
from dcharge.errors import InputError
from dcharge.freeze import save_frozen
from dcharge.grid import Grid
from dcharge.io import write
from dcharge.structure import Structure

WIDTH = 0.7


def gaussians(points, centers, width=WIDTH):
    """Sum of Gaussians: values [n], gradient [n, 3], Hessian [n, 3, 3]."""
    d = points[:, None] - centers
    g = np.exp(-0.5 * (d**2).sum(-1) / width**2)
    hessian = (d[..., :, None] * d[..., None, :] / width**4 - np.eye(3) / width**2) * g[..., None, None]
    return g.sum(1), (-d / width**2 * g[..., None]).sum(1), hessian.sum(1)


def lattice(cell, positions, n=2):
    shifts = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 3, indexing="ij"), -1).reshape(-1, 3) @ cell
    return (positions[:, None] + shifts).reshape(-1, 3)


def periodic(shape=(24, 25, 30), cell=SKEWED):
    """A density of Gaussians in a skewed cell, and its exact derivatives."""
    structure = Structure([14, 8], [[0.3, 0.2, 0.5], [2.0, 1.5, 2.4]], cell, True)
    grid = Grid(shape, cell)
    exact = gaussians(grid.points(), lattice(cell, structure.positions))
    return Density(structure, grid, exact[0].reshape(shape)), exact


@pytest.mark.parametrize("shape", [(24, 25, 30), (25, 27, 29)])
def test_fourier_derivatives(shape):
    rho, exact = periodic(shape)
    seen = np.zeros(rho.n_points, dtype=int)
    for index, *found in derivatives(rho):
        seen[index] += 1
        for a, b in zip(found, exact, strict=True):
            np.testing.assert_allclose(a, b[index], rtol=0, atol=1e-5 * np.abs(b).max())
    assert (seen == 1).all()


def test_waves_at_half_the_grid():
    """cos at n/2 along an axis: no first derivative, a second one."""
    cell = np.diag([3.0, 4.0, 5.0])
    grid = Grid((6, 6, 6), cell)
    for axis in range(3):
        k = 2 * np.pi * 3 / cell[axis, axis]
        values = np.cos(k * grid.points()[:, axis]).reshape(grid.shape)
        ((_, rho, gradient, hessian),) = derivatives(Density(Structure([], [], cell, True), grid, values))
        expected = np.zeros((3, 3))
        expected[axis, axis] = -(k**2)
        assert np.abs(gradient).max() < 1e-12
        np.testing.assert_allclose(hessian, rho[:, None, None] * expected, atol=1e-10)


def test_where_fourier_has_no_meaning():
    rho, _ = periodic((12, 12, 12))
    rho.structure = rho.structure.with_(pbc=np.array([True, True, False]))
    with pytest.raises(InputError, match="not periodic along c and no vacuum at its ends"):
        list(derivatives(rho))
    rho.structure = rho.structure.with_(pbc=np.array([True] * 3), cell=2 * SKEWED)
    with pytest.raises(InputError, match="not the periodic cell"):
        list(derivatives(rho))


def test_iri_of_an_exponential():
    """rho = N exp(-2 zeta r) in atomic units: |grad rho| = 2 zeta rho, IRI = 2 zeta rho^-0.1."""
    zeta, r = 1.3, np.array([0.3, 1.0, 2.0])  # bohr
    rho = 0.8 * np.exp(-2 * zeta * r)
    gradient = np.zeros((3, 3))
    gradient[:, 1] = -2 * zeta * rho
    np.testing.assert_allclose(iri(rho / Bohr**3, gradient / Bohr**4), 2 * zeta * rho**-0.1, rtol=1e-12)


def test_dori_by_its_definition():
    """theta from finite differences of (grad rho/rho)^2."""
    centers = np.array([[0.0, 0, 0], [1.5, 0.2, -0.1]])
    points = np.random.default_rng(0).uniform(-1, 2, (30, 3))

    def square(p):
        rho, gradient, _ = gaussians(p, centers)
        return ((gradient / rho[:, None]) ** 2).sum(1)

    h, slope = 1e-4, np.empty((30, 3))
    for a in range(3):
        slope[:, a] = (square(points + h * np.eye(3)[a]) - square(points - h * np.eye(3)[a])) / (2 * h)
    theta = (slope**2).sum(1) / square(points) ** 3
    found = dori(*gaussians(points, centers))
    np.testing.assert_allclose(found, theta / (1 + theta), atol=1e-6)
    assert 0 < found.min() and found.max() < 1
    # without unit: in any length
    rho, gradient, hessian = gaussians(points, centers)
    np.testing.assert_allclose(dori(rho, gradient * 10, hessian * 100), found, rtol=1e-12)


def test_dori_of_an_exponential():
    """grad rho/rho has one length everywhere: (grad rho/rho)^2 is flat along r, DORI 0. At a critical point it is 1."""
    p, zeta = np.array([[1.0, 0.5, -0.3]]), 2.0
    r = np.linalg.norm(p)
    n = p / r
    rho = np.exp(-zeta * r)
    hessian = rho * ((zeta**2 + zeta / r) * n.T @ n - zeta / r * np.eye(3))
    assert dori(np.array([rho]), -zeta * rho * n, hessian[None])[0] == pytest.approx(0, abs=1e-12)
    assert dori(np.array([1.0]), np.zeros((1, 3)), -np.eye(3)[None])[0] == 1


def test_vacuum():
    """Noise over noise is empty space, also where a model's density is slightly negative."""
    rho = np.array([0.0, -1e-6, 1e-6, 0.5])
    gradient, hessian = np.full((4, 3), 0.1), np.ones((4, 3, 3))
    assert iri(rho, gradient)[:3].tolist() == [5.0] * 3 and iri(rho, gradient)[3] < 1
    assert dori(rho, gradient, hessian)[:3].tolist() == [0.0] * 3 and dori(rho, gradient, hessian)[3] > 0


def test_fields_of_a_density():
    rho, exact = periodic()
    found = fields(rho, ("iri", "dori"))
    full = exact[0] * BOHR**3 > 1e-3
    np.testing.assert_allclose(found["iri"].ravel()[full], iri(*exact[:2])[full], atol=1e-3)
    np.testing.assert_allclose(found["dori"].ravel()[full], dori(*exact)[full], atol=2e-3)
    rho.kind = "response"
    with pytest.raises(InputError, match="fields of a density, this is a response"):
        fields(rho, ("iri",))


# --------------------------------------------------------------------------------------------------------- the command
def raw(path):
    """The numbers of a cube as they stand in the file."""
    text = (gzip.open(path, "rt") if str(path).endswith(".gz") else open(path)).read().splitlines()
    return np.array(" ".join(text[6 + abs(int(text[2].split()[0])) :]).split(), dtype=float)


def test_file(here, capsys):
    """A cube holds the field's own numbers; the table the volumes inside of the usual surfaces."""
    rho, exact = periodic((12, 12, 15))
    write(rho, "rho.h5")
    assert main(["analyze", "rho.h5", "--iri", "--dori", "-o", "x.cube", "-o", "a.csv", "-o", "a.png"]) == 0
    assert sorted(p.name for p in here.iterdir()) == ["a.csv", "a.png", "rho.h5", "x.dori.cube", "x.iri.cube"]
    found = fields(rho, ("iri", "dori"))
    for name in found:
        np.testing.assert_allclose(raw(f"x.{name}.cube"), found[name].ravel(), rtol=1e-5, atol=1e-7)
    assert "IRI = |grad rho|/rho^1.1, atomic units, of rho.h5" in open("x.iri.cube").read()
    text = capsys.readouterr().out
    assert "volume with IRI < 1" in text and "volume with DORI > 0.95" in text
    volume = np.count_nonzero(found["iri"] < 1) * rho.grid.dv
    assert any(
        "volume with IRI < 1" in row and float(row.split(",")[4]) == pytest.approx(volume) for row in open("a.csv")
    )


def test_model(here):
    """Exact derivatives of a model: the same fields as by Fourier where the grid resolves them."""
    save_frozen(calibrated(model_config({"precision": "float64"})), "model.pth", {})
    structure = Structure([14, 8], [[0.3, 0.2, 0.5], [2.0, 1.5, 2.4]], SKEWED, True)
    structure.to_ase().write("POSCAR", format="vasp", direct=False)
    call = ["analyze", "-m", "model.pth", "POSCAR", "--spacing", "0.35", "--iri", "--dori", "--device", "cpu"]
    assert main([*call, "-o", "x.cube.gz", "-o", "a.json"]) == 0
    from dcharge import load

    rho = load("model.pth").predict(structure, spacing=0.35, dtype=np.float64)
    fourier = fields(rho, ("iri", "dori"))
    exact = {name: raw(f"x.{name}.cube.gz") for name in fourier}
    assert np.median(np.abs(exact["iri"] - fourier["iri"].ravel())) < 0.02
    assert np.median(np.abs(exact["dori"] - fourier["dori"].ravel())) < 0.02
    # every other observable of a prediction comes for free
    assert main(["analyze", "-m", "model.pth", "POSCAR", "--grid", "6", "6", "8", "--planar", "z", "-o", "p.csv"]) == 0
    rho = load("model.pth").predict(structure, shape=(6, 6, 8), dtype=np.float64)
    assert f"{rho.total.mean(axis=(0, 1))[0]:.6f}"[:6] in open("p.csv").read()


def test_several_frames_are_numbered(here):
    rho, _ = periodic((6, 6, 6))
    for name in ("a.cube", "b.cube"):
        write(rho, name)
    assert main(["analyze", "a.cube", "b.cube", "--iri", "-o", "x.cube"]) == 0
    assert sorted(p.name for p in here.glob("x*")) == ["x.000000.iri.cube", "x.000001.iri.cube"]


@pytest.mark.parametrize(
    "call, message",
    [
        (["rho.cube", "--spacing", "1", "--iri"], "--spacing: belongs to -m"),
        (["-m", "model.pth", "rho.cube", "--iri"], "the grid of the prediction expected"),
        (["-m", "model.pth", "rho.cube", "--spacing", "1", "--iri", "--minus", "rho.cube"], "belong to files"),
        (["rho.cube", "--planar", "z", "-o", "x.cube"], "x.cube: what was asked for has no field"),
        (["rho.cube", "--iri", "-o", "x.vtk"], ".cube for fields"),
        (["rho.cube", "--iri", "--planar", "z", "-o", "x.png"], "do not go into one picture"),
        (["rho.cube", "--iri", "--kind", "response"], "fields of a density, this is a response"),
        (["rho.cube"], "--iri, --dori expected"),
    ],
)
def test_bad_input(here, call, message, capsys):
    write(periodic((4, 4, 4))[0], "rho.cube")
    save_frozen(calibrated(model_config()), "model.pth", {})
    assert main(["analyze", *call]) == 1
    assert message in capsys.readouterr().err


def test_model_that_is_not_smooth(here, capsys):
    save_frozen(calibrated(model_config({"fitting_net": {"activation_function": "relu"}})), "model.pth", {})
    write(periodic((4, 4, 4))[0], "rho.cube")
    assert main(["analyze", "-m", "model.pth", "rho.cube", "--spacing", "2", "--dori"]) == 1
    assert "activation_function relu has a kink" in capsys.readouterr().err
    save_frozen(calibrated(model_config({"type": "painn", "soft": 0.0})), "model.pth", {})
    assert main(["analyze", "-m", "model.pth", "rho.cube", "--spacing", "2", "--laplacian"]) == 1
    error = capsys.readouterr().err
    assert "its density has cusps at the nuclei" in error and "predicting" not in error
    assert main(["analyze", "-m", "model.pth", "rho.cube", "--spacing", "2", "--dori"]) == 0
