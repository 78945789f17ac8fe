"""Pictures."""

import numpy as np
import pytest
from tiny import density

import dcharge.plot
from dcharge.analysis.planes import densest_plane
from dcharge.density import PointDensity
from dcharge.errors import InputError
from dcharge.io import HDF5Writer, write
from dcharge.plot import picture, run

pytest.importorskip("matplotlib")
HEADS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture
def system(here):
    with HDF5Writer("two.h5") as file:
        file.append(density(0, shape=(6, 8, 10)))
        file.append(density(1, shape=(4, 4, 4)))
    return "two.h5"


@pytest.mark.parametrize("kind", HEADS)
def test_formats(system, frozen, kind, here):
    run(frozen, system, output=f"a.{kind}")
    assert (here / f"a.{kind}").read_bytes().startswith(HEADS[kind])
    assert sorted(p.name for p in here.iterdir()) == [f"a.{kind}", "two.h5"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_drawn(system, frozen, monkeypatch, axis):
    """Frame, axis and prediction reach the picture."""
    seen = {}

    def noted(reference, predicted, title, axis, path, laplacian):
        assert not laplacian
        seen.update(reference=reference, predicted=predicted, title=title, axis=axis)

    monkeypatch.setattr(dcharge.plot, "picture", noted)
    run(frozen, system, frame=1, axis=axis, output="a.png")
    rho = dcharge.read(system, frame=1)
    assert np.array_equal(seen["reference"].total, rho.total) and seen["axis"] == axis
    expected = dcharge.load(frozen).predict(rho.structure, like=rho).total
    np.testing.assert_allclose(seen["predicted"], expected, atol=1e-6)
    assert "two.h5#1" in seen["title"] and "NMAE" in seen["title"]


def test_mesh_of_the_slice(here, monkeypatch):
    """Across b of a skewed cell: the mesh has the lengths and the angle of a and c, and the values of the plane."""
    from matplotlib.axes import Axes

    meshes, original = [], Axes.pcolormesh

    def noted(self, x, y, z, **options):
        if np.shape(z) == (5, 7):  # colour bars are meshes too
            meshes.append((x, y, z))
        return original(self, x, y, z, **options)

    monkeypatch.setattr(Axes, "pcolormesh", noted)
    rho = density(0, shape=(5, 6, 7))
    picture(rho, 2 * rho.total, "x", 1, "a.png")
    plane = densest_plane(rho.total, 1)
    for (x, y, z), factor in zip(meshes, (1, 2, 1), strict=True):
        assert np.allclose(z, factor * rho.total[:, plane])
        a, c = (np.array([x[i, k] - x[0, 0], y[i, k] - y[0, 0]]) for i, k in ((5, 0), (0, 7)))
        assert np.allclose([a @ a, a @ c, c @ c], (rho.grid.cell @ rho.grid.cell.T)[[0, 0, 2], [0, 2, 2]])


def test_laplacian(system, frozen, here, monkeypatch):
    """Parity and slices of the Laplacians of both densities; the plane is the density's densest."""
    from matplotlib.axes import Axes

    from dcharge.analysis import gradient_and_laplacian
    from dcharge.cli import main

    meshes, original = [], Axes.pcolormesh

    def noted(self, x, y, z, **options):
        meshes.append((z, options))
        return original(self, x, y, z, **options)

    monkeypatch.setattr(Axes, "pcolormesh", noted)
    assert main(["plot", "-m", str(frozen), "-s", system, "--laplacian", "-o", "a.png"]) == 0
    assert (here / "a.png").read_bytes().startswith(HEADS["png"])
    rho = dcharge.read(system)
    truth = gradient_and_laplacian(rho, ("laplacian",))["laplacian"][:, :, densest_plane(rho.total, 2)]
    shown = [(z, o) for z, o in meshes if np.shape(z) == truth.shape]
    np.testing.assert_allclose(shown[0][0], truth, atol=1e-9)
    np.testing.assert_allclose(shown[2][0], shown[1][0] - shown[0][0], atol=1e-9)
    assert not np.allclose(shown[1][0], truth, atol=1e-6) and shown[0][1]["vmin"] == -shown[0][1]["vmax"]


def test_planes():
    values = np.arange(24.0).reshape(2, 3, 4)
    assert densest_plane(-values, 0) == 1 and densest_plane(values, 2) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output": "a.gif"}, r"a\.gif: \.png, \.pdf or \.svg expected"),
        ({"frame": 2}, r"two\.h5: frame 2 asked for; there are 2"),
        ({"output": "no/a.png"}, "there is no folder no"),
    ],
)
def test_bad_options(system, frozen, here, options, message):
    with pytest.raises(InputError, match=message):
        run(frozen, system, **options)
    assert [p.name for p in here.iterdir()] == ["two.h5"]


def test_points_have_no_slices(here, frozen):
    rho = density(0, shape=(2, 2, 2))
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1)), "points")
    with pytest.raises(InputError, match="free points have no slices"):
        run(frozen, "points", output="a.png")


def test_failure_leaves_nothing(here, monkeypatch):
    from matplotlib.figure import Figure

    def broken(self, path, **options):
        with open(path, "wb") as stream:
            stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", broken)
    rho = density(0, shape=(4, 4, 4))
    with pytest.raises(InputError, match=r"cannot write a\.png: No space left on device"):
        picture(rho, rho.total, "x", 2, "a.png")
    assert not list(here.iterdir())


def test_constant_density(here):
    """Nothing to see is no error."""
    rho = density(0, shape=(4, 4, 4))
    rho.values[:] = 0.0
    picture(rho, rho.total.copy(), "x", 0, "a.png")
    assert (here / "a.png").exists()
