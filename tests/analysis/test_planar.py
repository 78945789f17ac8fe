"""Planar and macroscopic averages."""

import numpy as np
import pytest
from sheets import AREA, charge, sheets
from tiny import density

from dcharge.analysis import macroscopic_average, planar_average, total_charge
from dcharge.analysis.axis import axis_of
from dcharge.errors import InputError


def test_separable_function_on_a_skewed_cell():
    """Planes of the skewed cell are planes of equal z; what varies within them averages out."""
    rho = sheets(origin=(0.3, -0.2, 0.15))
    assert np.ptp(rho.total, axis=(0, 1)).max() > 0.5 * np.abs(rho.total).max()
    for name in ("z", "3"):
        profile = planar_average(rho, name)
        np.testing.assert_allclose(profile.height, 0.15 + 24.0 / 120 * np.arange(120), atol=1e-12)
        np.testing.assert_allclose(profile.values, charge(profile.height), atol=1e-15)
        assert profile.area == pytest.approx(AREA, rel=1e-12) and profile.period is None


@pytest.mark.parametrize("index", [0, 1, 2])
def test_along_every_cell_vector(index):
    """Heights along the normal, area and integral, where no cell vector is along a Cartesian axis."""
    rho = density(2)
    profile = planar_average(rho, str(index + 1))
    others = [i for i in range(3) if i != index]
    face = np.cross(rho.grid.cell[others[0]], rho.grid.cell[others[1]])
    normal = profile.axis.normal
    assert np.allclose(np.cross(face, normal), 0) and normal @ rho.grid.cell[index] > 0
    assert profile.area == pytest.approx(np.linalg.norm(face), rel=1e-12)
    assert profile.period == pytest.approx(rho.grid.volume / np.linalg.norm(face), rel=1e-12)
    heights = rho.points() @ normal
    brute = [rho.total.ravel()[np.abs(heights - h) < 1e-6].mean() for h in profile.height]
    np.testing.assert_allclose(profile.values, brute, rtol=1e-12)
    assert profile.values.sum() * profile.step * profile.area == pytest.approx(total_charge(rho), rel=1e-12)


def test_cell_vector_downwards():
    """x, y, z count upwards however the cell vector runs; 1, 2, 3 run with it."""
    up, down = sheets(), sheets(c=(1.3, -0.9, -24.0), origin=(0, 0, 24.0))
    z, three = planar_average(down, "z"), planar_average(down, "3")
    assert (np.diff(z.height) > 0).all() and (np.diff(three.height) > 0).all()
    np.testing.assert_allclose(z.values, charge(z.height), atol=1e-15)
    np.testing.assert_allclose(three.values, charge(-three.height), atol=1e-15)
    np.testing.assert_allclose(planar_average(up, "z").values[1:], z.values[:-1], atol=1e-15)


def test_direction_of_the_field():
    """Without a name the field chooses; across it there must be planes."""
    rho = sheets()
    assert axis_of(rho).index == 2 and axis_of(rho).normal @ [0, 0, 1] == pytest.approx(1)
    rho.structure = rho.structure.with_(field=[0.1, 0, -1])
    with pytest.raises(InputError, match=r"no planes of grid points lie across the electric field; .*--planar 1\|2\|3"):
        axis_of(rho)
    with pytest.raises(InputError, match="across direction x"):
        axis_of(rho, "x")
    with pytest.raises(InputError, match="axis 'c': one of x, y, z, 1, 2, 3 expected"):
        axis_of(rho, "c")
    with pytest.raises(InputError, match="no electric field tells the direction"):
        axis_of(sheets(field=None))


@pytest.mark.parametrize("pbc", [(1, 1, 0), (1, 1, 1)])
@pytest.mark.parametrize("length", [0.33, 2.0, 7.77, 31.0])
def test_macroscopic_average(pbc, length):
    """The mean over the window by brute force, each value filling its step; the integral is kept."""
    profile = planar_average(sheets(pbc=pbc), "z")
    fine = 200
    step = 24.0 / 120
    repeats = np.tile(profile.values, 5) if pbc[2] else np.pad(profile.values, 240)
    values = np.repeat(repeats, fine)
    at = (np.arange(len(values)) + 0.5) * step / fine - 240 * step - step / 2
    found = macroscopic_average(profile, length).values
    for i in (0, 37, 80, 119):
        inside = np.abs(at - profile.height[i]) < length / 2
        assert found[i] == pytest.approx(values[inside].sum() * step / fine / length, abs=2e-5 * 0.005 / length)
    if pbc[2]:
        assert found.sum() == pytest.approx(profile.values.sum(), abs=1e-13)


def test_macroscopic_average_removes_its_period():
    rho = density(0, numbers=(14,), shape=(4, 4, 30))
    rho.values[0] = 1.5 + np.sin(2 * np.pi * 3 * np.arange(30) / 30)
    profile = planar_average(rho, "3")
    np.testing.assert_allclose(macroscopic_average(profile, profile.period / 3).values, 1.5, atol=1e-13)


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_length(length):
    with pytest.raises(InputError, match="--macroscopic .*: a positive length in Angstrom expected"):
        macroscopic_average(planar_average(sheets(), "z"), length)
