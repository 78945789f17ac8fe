"""Dipole moment of displaced Gaussians."""

import numpy as np
import pytest
from sheets import blob

from dcharge.analysis import dipole_change
from dcharge.analysis.dipole import observe
from dcharge.density import Density
from dcharge.errors import InputError
from dcharge.grid import Grid
from dcharge.structure import Structure

CELL = np.array([[9.0, 0.0, 0.0], [1.5, 8.5, 0.0], [-0.6, 0.8, 9.5]])
ORIGIN = np.array([-4.0, 0.7, 2.0])
CENTER = ORIGIN + CELL.sum(0) / 2


def molecule(blobs, pbc=False, field=(0, 0, 0.5), atoms=1):
    """Response of Gaussians (offset from the centre, electrons) in a skewed box."""
    grid = Grid((36, 34, 38), CELL, ORIGIN)
    values = sum(blob(grid.points(), CENTER + offset, electrons) for offset, electrons in blobs)
    structure = Structure([8] * atoms, np.tile(CENTER, (atoms, 1)), CELL, pbc, field)
    return Density(structure, grid, values.reshape(grid.shape), "response")


def test_displaced_gaussians():
    """-e (r1 - r0) for a charge of one electron that moved from r0 to r1."""
    here, there = np.array([0.2, -0.4, -0.3]), np.array([-0.5, 0.3, 0.6])
    rho = molecule([(there, 0.7), (here, -0.7)])
    np.testing.assert_allclose(dipole_change(rho), -0.7 * (there - here), atol=1e-9)


@pytest.mark.parametrize("atoms", [1, 3])
def test_origin_is_the_mean_of_the_atoms(atoms):
    """Where there is a total charge the origin counts."""
    offset = np.array([0.3, 0.1, -0.2])
    np.testing.assert_allclose(dipole_change(molecule([(offset, 0.4)], atoms=atoms)), -0.4 * offset, atol=1e-9)


def test_along_the_field():
    """Electrons that move towards -E make a dipole along E; 1 e Angstrom = 4.80320 Debye."""
    field = np.array([0.3, 0.0, 0.4])
    found = observe(molecule([(-field, 0.2), (field, -0.2)], field=field), {}).figures
    assert found["dipole along field"] == (pytest.approx(0.2, abs=1e-9), "e*A")
    assert found["dipole along field (Debye)"] == (pytest.approx(0.2 * 4.80320, abs=1e-5), "D")
    assert [found[f"dipole change {a}"][0] for a in "xyz"] == pytest.approx([0.12, 0, 0.16], abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pbc": (1, 0, 1)}, r"periodic along a and c; the dipole moment is that of a molecule \(--pbc F F F\)"),
        ({"field": None}, r"no electric field is known; .* needs its direction \(--field X Y Z\)"),
        ({"field": (0, 0, 0)}, "the electric field is zero"),
        (
            {"blobs": [((0, 0, 4.2), 1.0)]},
            "no vacuum along c: at the ends of the grid the response is .* of its largest",
        ),
    ],
)
def test_what_has_no_dipole(options, message):
    rho = molecule(**{"blobs": [((0, 0, 0.1), 1.0)], **options})
    with pytest.raises(InputError, match=message):
        observe(rho, {"dipole": True})


def test_density_is_refused():
    rho = molecule([((0, 0, 0), 1.0)])
    rho.kind = "density"
    with pytest.raises(InputError, match="dipole moment is a property of a response"):
        dipole_change(rho)
