"""Transferred charge of sheets that are known exactly."""

import pytest
from sheets import AREA, SIGMA, sheets

from dcharge.analysis import total_charge, transferred_charge
from dcharge.analysis.transferred import observe
from dcharge.errors import InputError


@pytest.mark.parametrize("mid", [None, 11.0, 12.4])
@pytest.mark.parametrize("shift", [0.0, 9.5])
def test_sheets(mid, shift):
    """All of one sheet lies above the middle, wherever the periodic cell was cut."""
    found = transferred_charge(sheets(pbc=(1, 1, 1), shift=shift), mid=None if mid is None else mid + shift)
    assert found.above == pytest.approx(SIGMA * AREA, rel=1e-9)
    assert found.below == pytest.approx(-SIGMA * AREA, rel=1e-9)
    assert found.mid == pytest.approx(shift + ((9.0 + 11.5 + 14.2) / 3 if mid is None else mid))


def test_sign():
    """Upside down the sign changes."""
    down = sheets(c=(1.3, -0.9, -24.0), origin=(0, 0, 24.0))
    assert transferred_charge(down, "z").above == pytest.approx(SIGMA * AREA, rel=1e-9)
    assert transferred_charge(down, "3").above == pytest.approx(-SIGMA * AREA, rel=1e-9)


@pytest.mark.parametrize("extra", [0.01, -0.01])
def test_total_charge_is_removed_unless_kept(extra):
    """Half of what is removed, nearly, lies on either side: the sheet that has gained 0.01 e gives away more of it."""
    charged = sheets(extra=extra / AREA)
    kept = transferred_charge(charged, keep_charge=True)
    assert kept.above == pytest.approx(SIGMA * AREA + extra, rel=1e-9) and kept.removed == 0.0
    assert kept.above + kept.below == pytest.approx(total_charge(charged), rel=1e-9)
    found = transferred_charge(charged)
    sigma, more = SIGMA, extra / AREA
    assert found.above == pytest.approx(2 * sigma * (sigma + more) / (2 * sigma + more) * AREA, rel=1e-6)
    assert found.above + found.below == pytest.approx(0.0, abs=1e-9)
    assert found.removed == pytest.approx(extra, rel=1e-9)
    assert observe(charged, {}).figures["charge removed"] == (found.removed, "e")
    assert observe(charged, {"keep_charge": True}).figures["charge removed"] == (0.0, "e")


def test_middle_within_a_sheet():
    """Cut in two halves at the middle of the upper sheet."""
    assert transferred_charge(sheets(), mid=16.11).above == pytest.approx(SIGMA * AREA / 2, rel=2e-4)


@pytest.mark.parametrize("mid", [24.5, -1.0, float("nan")])
def test_middle_outside(mid):
    with pytest.raises(InputError, match=r"--mid \S+ lies outside the grid's heights 0\.00 to 23\.80"):
        transferred_charge(sheets(), mid=mid)


def test_density_is_refused():
    rho = sheets()
    rho.kind = "density"
    with pytest.raises(InputError, match=r"transferred charge is a property of a response.*--minus REF"):
        transferred_charge(rho)
