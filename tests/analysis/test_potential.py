"""The potential of a sheet dipole is known exactly."""

import numpy as np
import pytest
from sheets import AREA, HIGH, LOW, SIGMA, STEP, K, potential, sheets

from dcharge.analysis import response_potential
from dcharge.errors import InputError


def test_sheet_dipole():
    """Slope, step and dipole to 1e-6 of their size; the curve as the grid resolves the sheets."""
    found = response_potential(sheets())
    assert found.slope == pytest.approx(-K * SIGMA, rel=1e-6)
    assert found.step == pytest.approx(STEP, rel=1e-6)
    assert found.dipole == pytest.approx(-SIGMA * AREA * (HIGH - LOW), rel=1e-6)
    np.testing.assert_allclose(found.values, potential(found.height), atol=2e-4 * abs(STEP))
    assert found.inside == (10.0, pytest.approx(13.2)) and found.n_planes == 17 and abs(found.removed) < 1e-12


def test_curve_converges_with_the_fourth_order():
    errors = []
    for n in (80, 160, 320):
        found = response_potential(sheets(n=n))
        errors.append(np.abs(found.values - potential(found.height)).max())
    assert errors[0] / errors[1] > 12 and errors[1] / errors[2] > 12


def test_metal_screens_the_field():
    """Electrons move towards -E; sheets of epsilon0 E cancel the field, so that the slope is E along the normal."""
    rho = sheets(field=(0, 0, -1.0))
    rho.values = rho.values / (K * SIGMA)
    assert response_potential(rho).slope == pytest.approx(rho.structure.field[2], rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 3.17, 9.0, 13.3, -20.0, 55.5])
@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0)])
def test_slab_across_the_border_of_a_periodic_cell(shift, pbc):
    """Periodic along z: cut in the vacuum, wherever the slab lies. Not periodic: only where it lies within the grid."""
    rho = sheets(pbc=pbc, shift=shift)
    if not pbc[2] and shift not in (0.0, 3.17):
        with pytest.raises(InputError, match="no vacuum along c|the slab must lie within the grid"):
            response_potential(rho)
        return
    found = response_potential(rho)
    assert found.slope == pytest.approx(-K * SIGMA, rel=1e-6) and found.step == pytest.approx(STEP, rel=1e-6)
    assert (np.diff(found.height) > 0).all() and -24 < found.height[0] < 24


def test_direction():
    """Against z the potential climbs; x, y, z do not care how the cell vector runs."""
    down = sheets(c=(1.3, -0.9, -24.0), origin=(0, 0, 24.0))
    assert response_potential(down, "z").slope == pytest.approx(-K * SIGMA, rel=1e-6)
    assert response_potential(down, "3").slope == pytest.approx(K * SIGMA, rel=1e-6)
    assert response_potential(down, "3").step == pytest.approx(-STEP, rel=1e-6)


def test_total_charge_is_removed_by_weight():
    """n - N |n| / integral |n|: both sheets hold 2 s (s + x)/(2 s + x) afterwards."""
    extra = 0.01 / AREA  # 0.01 e per cell
    rho = sheets(extra=extra)
    before = rho.values.copy()
    found = response_potential(rho)
    assert found.removed == pytest.approx(0.01, rel=1e-9)
    sigma = 2 * SIGMA * (SIGMA + extra) / (2 * SIGMA + extra)
    assert found.slope == pytest.approx(-K * sigma, rel=1e-6)
    assert found.step == pytest.approx(-K * sigma * (HIGH - LOW), rel=1e-6)
    slope = np.diff(found.values) / np.diff(found.height)
    assert np.abs(slope[[0, -1]]).max() < 1e-8  # no field in either vacuum
    assert np.array_equal(rho.values, before)


@pytest.mark.parametrize(("electrons", "told"), [(0.001, False), (0.02, True)])
def test_much_charge_is_told(electrons, told, said):
    response_potential(sheets(extra=electrons / AREA))
    assert ("0.02 e are removed from the response, 18.7 % of its integral |dn|" in said()) == told


def test_total_charge_that_is_kept_makes_a_field():
    extra = 0.01 / AREA
    found = response_potential(sheets(extra=extra), keep_charge=True)
    slope = np.diff(found.values) / np.diff(found.height)
    assert slope[-1] == pytest.approx(K * extra / 2, rel=1e-6) and slope[0] == pytest.approx(-K * extra / 2, rel=1e-6)
    assert found.slope == pytest.approx(-K * (SIGMA + extra / 2), rel=1e-6) and found.removed == 0.0


def test_no_response():
    rho = sheets()
    rho.values[:] = 0.0
    found = response_potential(rho)
    assert found.slope == found.step == found.removed == 0.0 and not found.values.any()


def bulk():
    rho = sheets(pbc=(1, 1, 1))
    heights = [1.0, 5.0, 9.0, 13.0, 17.0, 21.0]
    rho.structure = type(rho.structure)([79] * 6, [[0, 0, z] for z in heights], rho.grid.cell, True, [0, 0, -1.0])
    return rho


def kind_density():
    rho = sheets()
    rho.kind = "density"
    return rho


def tail():
    rho = sheets()
    rho.values += 1e-4
    return rho


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (bulk, {}, r"c is periodic and has no vacuum \(largest gap between atoms 4\.00 Angstrom, 5 expected\)"),
        (lambda: sheets(pbc=(0, 0, 0)), {}, r"periodic along a and b .*for a molecule ask for --dipole"),
        (tail, {}, r"no vacuum along c: at its ends the planar average is 2\.0 % of the largest, at most 1 %"),
        (kind_density, {}, "the potential is a property of a response, this is a density"),
        (sheets, {"margin": 2.5}, "1 plane of grid points between the outermost atoms less 2.5 Angstrom; three or"),
        (sheets, {"margin": -1.0}, "--margin -1.0: a length in Angstrom, zero or above, expected"),
        (sheets, {"margin": float("nan")}, "--margin nan: a length"),
        (lambda: sheets(field=None), {}, "no electric field tells the direction; give it with --planar"),
    ],
)  # fmt: skip
def test_what_has_no_such_potential(make, options, message):
    with pytest.raises(InputError, match=message):
        response_potential(make(), **options)
