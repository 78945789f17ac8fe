"""Dipole moments: change of a response, electrons and ions of a density; displaced Gaussians and a molecule of DFT."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.units import Bohr
from sheets import blob

from dcharge.analysis import dipole_change, dipole_moment
from dcharge.analysis.dipole import ion_charges, observe, parse_valence, usual_valence
from dcharge.cli import main
from dcharge.density import Density
from dcharge.errors import InputError
from dcharge.grid import Grid
from dcharge.io import read, write
from dcharge.structure import Structure

DATA = Path(__file__).parent.parent / "data"

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


def test_another_origin(said):
    """The corner of the grid, where there is a total charge, which is told."""
    rho = molecule([(np.zeros(3), 0.4)])
    np.testing.assert_allclose(dipole_change(rho, "corner"), -0.4 * (CENTER - ORIGIN), atol=1e-9)
    assert "net charge -0.4000 e: the dipole moment depends on its origin, here the corner of the grid" in said()


def test_default_origin_of_a_response():
    """The moment itself has the same default as the change of it: the mean of the atoms."""
    offset = np.array([0.3, 0.1, -0.2])
    rho = molecule([(offset, 0.4)])
    found = dipole_moment(rho)
    assert found.electrons.tolist() == dipole_change(rho).tolist() and not found.ions.any()
    np.testing.assert_allclose(found.origin, CENTER, atol=1e-12)
    np.testing.assert_allclose(dipole_moment(rho, origin="corner").origin, ORIGIN)


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


# ------------------------------------------------------------------------------------------------ density and ions
def neutral_pair(pbc=False, cell=CELL, shape=(36, 34, 38), origin=ORIGIN):
    """O and H with 6 and 1 electrons in Gaussians (two grid spacings wide) beside them; and the exact moments."""
    grid = Grid(shape, cell, origin)
    width = 2 * np.linalg.norm(grid.steps, axis=1).max()
    middle = origin + np.asarray(cell).sum(0) / 2
    atoms = middle + [[0.1, -0.2, 0.3], [-0.4, 0.5, 0.2]]
    shifts = np.array([[0.11, 0.02, -0.05], [0.2, -0.1, 0.03]])
    points = grid.points()
    values = sum(blob(points, r + s, q, width) for r, s, q in zip(atoms, shifts, (6, 1), strict=True))
    density = Density(Structure([8, 1], atoms, cell, pbc), grid, values.reshape(shape))
    return density, -np.array([6, 1]) @ (atoms + shifts), np.array([6, 1]) @ atoms


SHARP = np.array([[10.0, 0, 0], [4.5, 9.0, 0], [-4.0, 3.5, 9.0]])


@pytest.mark.parametrize("pbc", [False, True, (True, False, True)])
@pytest.mark.parametrize("cell, shape", [(np.eye(3) * 9.0, (30, 30, 30)), (CELL, (30, 29, 31)), (SHARP, (36, 37, 38))])
def test_gaussians_and_ions(cell, shape, pbc):
    """Each part about the corner of the grid and the sum, to 1e-6 e Angstrom; the sum does not depend on the origin."""
    rho, electrons, ions = neutral_pair(pbc, cell, shape)
    found = dipole_moment(rho)
    np.testing.assert_allclose(found.electrons, electrons + 7 * ORIGIN, atol=1e-6)
    np.testing.assert_allclose(found.ions, ions - 7 * ORIGIN, atol=1e-9)
    np.testing.assert_allclose(found.total, electrons + ions, atol=1e-6)
    assert found.charge == pytest.approx(0, abs=1e-6) and found.origin.tolist() == ORIGIN.tolist()
    assert found.per_volume == pytest.approx(4.80320471 * np.linalg.norm(electrons + ions) / rho.grid.volume, rel=1e-6)
    other = dipole_moment(rho, origin="atoms")
    np.testing.assert_allclose(other.total, found.total, atol=1e-6)
    np.testing.assert_allclose(other.origin, rho.structure.positions.mean(0), atol=1e-12)
    assert np.abs(other.ions).max() < 0.3 * np.abs(found.ions).max()


def test_water_of_dft(said):
    """CP2K's own dipole of this molecule: 1.8487 D (its grid is thinned here, so the electrons are scaled)."""
    rho = read(DATA / "h2o.cube.xz")
    exact = np.array([-0.60123, -0.2583, -0.3175]) * Bohr * 4.80320471
    found = dipole_moment(rho, neutral=True)
    assert np.linalg.norm(found.total) * 4.80320471 == pytest.approx(np.linalg.norm(exact), rel=0.01)
    np.testing.assert_allclose(found.total * 4.80320471, exact, atol=0.01 * np.linalg.norm(exact))
    assert found.charge == 0 and "--neutral" in said() and "net charge" not in said()
    unscaled = dipole_moment(rho).total * 4.80320471
    assert np.linalg.norm(unscaled - exact) > 0.05 * np.linalg.norm(exact)
    assert "net charge -0.0033 e: the dipole moment depends on its origin, here the corner of the grid" in said()
    assert "periodic along" not in said()


def test_symmetric_crystal(said):
    """Rock salt, atoms on the corners, edges and faces of the cell: what lies on a face counts half on either."""
    from ase.build import bulk

    salt = Structure.from_ase(bulk("NaCl", "rocksalt", a=5.6, cubic=True))
    grid = Grid((14, 14, 14), salt.cell)
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) @ salt.cell
    charges = np.where(salt.numbers == 11, 1.0, 7.0)
    values = sum(
        blob(grid.points(), r + shift, q, 0.6) for r, q in zip(salt.positions, charges, strict=True) for shift in shifts
    )
    rho = Density(salt, grid, values.reshape(grid.shape))
    middle = salt.cell.sum(0) / 2
    for moved in (np.zeros(3), salt.cell[0] - 2 * salt.cell[1], [1e-9, -1e-9, 0]):
        rho.structure = salt.with_(positions=salt.positions + moved)
        found = dipole_moment(rho)
        np.testing.assert_allclose(found.total, 0, atol=1e-6)
        np.testing.assert_allclose(found.ions, charges.sum() * middle, atol=1e-6)
    assert said().count("one choice of the cell") == 1 and "a and b and c" in said()
    assert "0 <= x < 1 from the corner of the grid, those on a face half on either face" in said()


def test_origin_of_a_periodic_cell(said):
    """Measured from the mean of the atoms; the cell still begins at the corner of the grid, and that is told."""
    rho, electrons, ions = neutral_pair(True)
    found = dipole_moment(rho, origin="atoms")
    rho.structure = rho.structure.with_(positions=rho.structure.positions + CELL[0] - CELL[2])
    moved = dipole_moment(rho, origin="atoms")
    for dipole in (found, moved):
        np.testing.assert_allclose(dipole.total, electrons + ions, atol=1e-6)
    np.testing.assert_allclose(moved.origin, found.origin, atol=1e-9)
    assert "from the corner of the grid, those on a face half on either face; measured from the mean of the" in said()


def test_valence():
    usual = {"H": 1, "Li": 1, "C": 4, "O": 6, "F": 7, "Mg": 2, "Al": 3, "Si": 4, "Cl": 7, "Ti": 4, "Fe": 8, "Cu": 11,
             "Zn": 12, "Ga": 3, "Br": 7, "Ag": 11, "I": 7, "Hf": 4, "Au": 11, "Pb": 4}  # fmt: skip
    assert {symbol: usual_valence(atomic_numbers[symbol]) for symbol in usual} == usual
    assert usual_valence(atomic_numbers["La"]) is None and usual_valence(0) is None
    rho, *_ = neutral_pair()
    assert ion_charges(rho).tolist() == [6, 1] and ion_charges(rho, {8: 5.5, 1: 1}).tolist() == [5.5, 1]


def test_charged(said):
    rho, electrons, ions = neutral_pair()
    found = dipole_moment(rho, parse_valence("O=6.5,H=1"))
    np.testing.assert_allclose(found.ions, ions + 0.5 * rho.structure.positions[0] - 7.5 * ORIGIN, atol=1e-9)
    assert found.charge == pytest.approx(0.5, abs=1e-6)
    assert "net charge +0.5000 e" in said() and "(-4 0.7 2) Angstrom" in said()
    dipole_moment(rho, parse_valence("O=6.5,H=1"))
    assert said().count("net charge") == 2  # always, not once
    scaled = dipole_moment(rho, parse_valence("O=6.5,H=1"), neutral=True)
    np.testing.assert_allclose(scaled.electrons, found.electrons * 7.5 / 7, atol=1e-6)
    assert said().count("net charge") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valence": "O=6"}, "charge of the ion H is not known; give valence charges, --valence H=N"),
        ({"valence": "O6,H=1"}, "charges such as O=6,H=1 expected, not 'O6'"),
        ({"valence": "O=six"}, "charges such as O=6,H=1 expected"),
        ({"valence": "o=6,H=1"}, "'o' is not a chemical symbol; did you mean 'O'"),
        ({"numbers": [8, 8]}, "holds 7.000 electrons, the usual valence charges O=6 sum to 12"),
        ({"numbers": [57, 1]}, "charge of the ion La is not known"),
        ({"values": 0.3}, "no vacuum along a: at the ends of the grid the density is"),
        ({"values": 0.0, "valence": "O=6,H=1"}, "holds 0 electrons, which cannot be scaled"),
        ({"cell": 2 * CELL, "pbc": True}, "the grid is not the periodic cell"),
        ({"kind": "response", "valence": "O=6,H=1"}, "--valence: belongs to a density"),
    ],
)  # fmt: skip
def test_bad_densities(options, message):
    rho, *_ = neutral_pair()
    changes = {k: options[k] for k in ("numbers", "cell", "pbc") if k in options}
    rho.structure = rho.structure.with_(**changes)
    rho.kind = options.get("kind", "density")
    if "values" in options:
        rho.values = np.full_like(rho.values, options["values"])
    with pytest.raises(InputError, match=re.escape(message)):
        observe(rho, {"dipole": True, "valence": options.get("valence"), "neutral": options.get("values") == 0.0})


def test_command(here, capsys):
    """Figures in the table and in JSON; the file's corner is the origin."""
    rho, electrons, ions = neutral_pair()
    write(rho, "rho.h5", dtype="float64")
    assert main(["analyze", "rho.h5", "--dipole", "--dipole-origin", "atoms", "-o", "a.json"]) == 0
    figures = {k: v["value"] for k, v in json.loads((here / "a.json").read_text())["frames"][0]["figures"].items()}
    assert [figures[f"dipole {a}"] for a in "xyz"] == pytest.approx((electrons + ions).tolist(), abs=1e-6)
    assert figures["dipole (Debye)"] == pytest.approx(np.linalg.norm(electrons + ions) * 4.80320471, abs=1e-5)
    assert [figures[f"origin of the dipole {a}"] for a in "xyz"] == pytest.approx(rho.structure.positions.mean(0))
    assert "dipole per volume" in capsys.readouterr().out
    assert main(["analyze", "rho.h5", "--planar", "1", "--valence", "O=6"]) == 1
    assert "--valence: belongs to --dipole" in capsys.readouterr().err
