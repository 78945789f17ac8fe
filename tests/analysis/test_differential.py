"""Gradient and Laplacian: exact for Gaussians that the grid resolves, the command with a file and with a model."""

import json

import numpy as np
import pytest
from test_interaction import gaussians, lattice, periodic, raw
from tiny import SKEWED, calibrated, model_config

import dcharge
from dcharge.analysis import gradient_and_laplacian
from dcharge.analysis.spectral import derivatives
from dcharge.cli import main
from dcharge.density import Density
from dcharge.errors import InputError
from dcharge.freeze import save_frozen
from dcharge.grid import Grid
from dcharge.io import write
from dcharge.structure import Structure

SHARP = np.array([[5.0, 0.0, 0.0], [2.4, 4.4, 0.0], [-2.2, 1.9, 4.6]])  # angles far from 90 degrees
CELLS = {"cubic": np.eye(3) * 5.0, "skewed": SKEWED, "sharp": SHARP}


def exact_to(found, exact, tolerance):
    """Within `tolerance` of the largest value."""
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance * np.abs(exact).max())


@pytest.mark.parametrize("pbc", [True, False])
@pytest.mark.parametrize("shape", [(20, 20, 22), (19, 21, 23)])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_gaussian_of_two_spacings(cell, shape, pbc):
    """Sigma is twice the largest grid spacing: gradient and Laplacian to 1e-6 of their largest values."""
    if not pbc:  # vacuum on each side
        cell, shape = 1.8 * cell, tuple(int(1.8 * n) for n in shape)
    grid = Grid(shape, cell, (0.0, 0.0, 0.0) if pbc else (-1.0, 0.4, 2.0))
    sigma = 2 * np.linalg.norm(grid.steps, axis=1).max()
    center = grid.origin + 0.5 * cell.sum(0) + [0.03, -0.02, 0.05]
    centers = lattice(cell, center[None], 1) if pbc else center[None]
    rho, gradient, hessian = gaussians(grid.points(), centers, sigma)
    density = Density(Structure([8], [center], cell, pbc), grid, rho.reshape(shape))
    found = gradient_and_laplacian(density)
    exact_to(found["laplacian"].ravel(), np.trace(hessian, axis1=1, axis2=2), 1e-6)
    exact_to(found["gradient"].reshape(3, -1), gradient.T, 1e-6)


@pytest.mark.parametrize("shape", [(12, 10, 14), (11, 9, 13), (12, 9, 14)])
def test_laplacian_is_the_trace(shape):
    """Also of what the grid does not resolve: terms at half the grid in a skewed cell."""
    grid = Grid(shape, SKEWED)
    noise = np.random.default_rng(0).normal(size=shape)
    density = Density(Structure([], [], SKEWED, True), grid, noise)
    ((_, _, gradient, hessian),) = derivatives(density)
    found = gradient_and_laplacian(density)
    exact_to(found["laplacian"].ravel(), np.trace(hessian, axis1=1, axis2=2), 1e-12)
    exact_to(found["gradient"].reshape(3, -1), gradient.T, 1e-12)
    assert list(gradient_and_laplacian(density, ("laplacian",))) == ["laplacian"]


def test_file(here, capsys):
    """Cubes hold the fields' own numbers, the table their sizes."""
    rho, (_, gradient, hessian) = periodic((14, 14, 16))
    write(rho, "rho.h5", dtype="float64")
    call = ["analyze", "rho.h5", "--gradient", "--laplacian", "-o", "x.cube", "-o", "a.json", "-o", "a.png"]
    assert main(call) == 0
    cubes = ["x.gradient.cube", "x.laplacian.cube"]
    assert sorted(p.name for p in here.iterdir()) == ["a.json", "a.png", "rho.h5", *cubes]
    trace, size = np.trace(hessian, axis1=1, axis2=2), np.linalg.norm(gradient, axis=1)
    exact_to(raw("x.laplacian.cube"), trace, 1e-4)
    exact_to(raw("x.gradient.cube"), size, 1e-4)
    figures = {k: v["value"] for k, v in json.loads((here / "a.json").read_text())["frames"][0]["figures"].items()}
    assert figures["smallest Laplacian"] == pytest.approx(trace.min(), rel=1e-3)
    assert figures["rms gradient"] == pytest.approx(np.sqrt((size**2).mean()), rel=1e-3)
    assert "integral of the Laplacian" not in figures  # by Fourier transform it is zero whatever the density
    assert "largest gradient" in capsys.readouterr().out


def test_model(here):
    """A model's own derivatives by default; --derivatives fft those of the predicted grid: alike where it resolves."""
    save_frozen(calibrated(model_config({"precision": "float64"})), "model.pth", {})
    Structure([14, 8], [[0.3, 0.2, 0.5], [2.0, 1.5, 2.4]], SKEWED, True).to_ase().write("POSCAR", direct=False)
    call = ["analyze", "-m", "model.pth", "POSCAR", "--spacing", "0.4", "--laplacian", "--device", "cpu", "-o"]
    assert main([*call, "exact.cube", "-o", "exact.json"]) == 0
    assert main([*call, "fft.cube", "--derivatives", "fft"]) == 0
    exact, fourier = raw("exact.laplacian.cube"), raw("fft.laplacian.cube")
    predicted = dcharge.load("model.pth").predict(
        dcharge.io.read_structure("POSCAR"), spacing=0.4, dtype=np.float64
    )  # fmt: skip
    own = gradient_and_laplacian(predicted, ("laplacian",))["laplacian"].ravel()
    exact_to(fourier, own, 1e-5)
    found = json.loads((here / "exact.json").read_text())["frames"][0]["figures"]
    figures = {k: v["value"] for k, v in found.items()}
    integral = figures["integral of the Laplacian"]
    assert integral == pytest.approx(exact.sum() * predicted.grid.dv, abs=1e-4)
    assert abs(integral) < 0.01 * np.abs(exact).sum() * predicted.grid.dv  # zero on a finer grid
    assert np.corrcoef(exact, fourier)[0, 1] > 0.99 and not np.allclose(exact, fourier, rtol=1e-4)


@pytest.mark.parametrize(
    "call, message",
    [
        (["rho.cube", "--planar", "z", "--derivatives", "fft"], "--derivatives: belongs to --gradient, --laplacian"),
        (["rho.cube", "--laplacian", "--derivatives", "autograd"], "derivatives of a model; give it with -m"),
        (["slab.cube", "--laplacian"], "not periodic along c and no vacuum at its ends"),
    ],
)  # fmt: skip
def test_bad_input(here, call, message, capsys):
    rho, _ = periodic((4, 4, 4))
    write(rho, "rho.cube")
    write(Density(rho.structure.with_(pbc=np.array([True, True, False])), rho.grid, rho.values), "slab.cube")
    assert main(["analyze", *call]) == 1
    assert message in capsys.readouterr().err


def test_family_that_is_not_smooth(here, capsys):
    """No autograd, and the way out is told; Fourier derivatives of its grid are there."""
    model = calibrated(model_config({"type": "cgcnn"}))
    save_frozen(model, "model.pth", {})
    write(periodic((4, 4, 4))[0], "rho.cube")
    call = ["analyze", "-m", "model.pth", "rho.cube", "--grid", "4", "4", "4", "--laplacian"]
    assert main([*call, "--derivatives", "fft"]) == 0
    assert main(call) == 1
    error = capsys.readouterr().err
    assert "family cgcnn is not smooth" in error and "--derivatives fft" in error
    assert "predicting" not in error  # refused before the long work
    with pytest.raises(InputError, match="not smooth"):
        dcharge.derivatives.density_derivatives(model, Structure([14], [[0, 0, 0]], SKEWED, True), [[0, 0, 1.0]])


def test_resolution():
    """Of two waves in a skewed cell the longer one is left, exactly; with a fine resolution nothing is lost."""
    grid = Grid((18, 15, 20), SHARP)
    reciprocal = 2 * np.pi * np.linalg.inv(SHARP).T
    long, short = np.array([1, -1, 0]) @ reciprocal, np.array([3, 2, -4]) @ reciprocal
    lengths = [2 * np.pi / np.linalg.norm(g) for g in (long, short)]
    points = grid.points()
    waves = [np.cos(points @ g + 0.3) for g in (long, short)]
    density = Density(Structure([], [], SHARP, True), grid, (3 + waves[0] + waves[1]).reshape(grid.shape))
    between, below = (lengths[0] + lengths[1]) / 2, 0.9 * lengths[1]
    assert lengths[0] > 1.5 * lengths[1] and below > 2 * np.linalg.norm(grid.steps, axis=1).max()
    found = gradient_and_laplacian(density, resolution=between)
    exact_to(found["laplacian"].ravel(), -(long @ long) * waves[0], 1e-12)
    exact_to(found["gradient"].reshape(3, -1), -np.sin(points @ long + 0.3) * long[:, None], 1e-12)
    all_of_it = gradient_and_laplacian(density, resolution=below)["laplacian"].ravel()
    exact_to(all_of_it, -(long @ long) * waves[0] - (short @ short) * waves[1], 1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--laplacian", "--resolution", "0"], "--resolution 0: a length in Angstrom expected"),
        (["--dipole", "--resolution", "1"], "--resolution: belongs to --gradient"),
        (["-m", "model.pth", "--grid", "4", "4", "4", "--laplacian", "--resolution", "1"], "give --derivatives fft"),
    ],
)
def test_resolution_that_makes_no_sense(here, options, message, capsys):
    save_frozen(calibrated(model_config()), "model.pth", {})
    write(periodic((4, 4, 4))[0], "rho.cube")
    assert main(["analyze", "rho.cube", *options]) == 1
    error = capsys.readouterr().err
    assert message in error and "predicting" not in error
