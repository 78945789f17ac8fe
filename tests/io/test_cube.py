"""Gaussian cube files."""

import gzip

import numpy as np
import pytest
from ase.io.cube import read_cube
from ase.units import Bohr
from made import FORMATS, make_density

import dcharge.io as io
from dcharge.errors import InputError

CUBE = """a comment
another
 2 0.5 0.0 0.0
 2 1.0 0.0 0.0
 2 0.2 1.0 0.0
 3 0.0 0.3 1.0
 8 0.0 0.0 0.0 0.0
 1 0.0 0.0 9.0 0.0
 1 2 3
 4 5 6
 7 8 9
 10 11 12
"""


def put(folder, text, name="x.cube"):
    path = folder / name
    path.write_text(text)
    return path


def test_real_file_against_ase(tmp_path):
    density = io.read(FORMATS / "elec.cube.gz")
    with gzip.open(FORMATS / "elec.cube.gz", "rt") as stream:
        other = read_cube(stream)
    assert np.allclose(density.total * Bohr**3, other["data"], rtol=1e-12)
    assert np.allclose(density.structure.positions, other["atoms"].positions, atol=1e-6)
    assert np.array_equal(density.structure.numbers, other["atoms"].numbers)
    assert density.source["code"] == "CP2K"


def test_made_up(tmp_path):
    density = io.read(put(tmp_path, CUBE))
    assert density.grid.shape == (2, 2, 3)
    assert np.allclose(density.grid.origin, [0.5 * Bohr, 0, 0])
    assert np.allclose(density.grid.steps, np.array([[1, 0, 0], [0.2, 1, 0], [0, 0.3, 1]]) * Bohr)
    assert np.allclose(density.structure.cell, density.grid.cell)
    assert density.structure.positions[1, 1] == pytest.approx(9 * Bohr), "atoms are not wrapped"
    assert np.allclose(density.total.reshape(-1) * Bohr**3, np.arange(12) + 1)


def test_negative_counts_are_angstrom(tmp_path):
    text = CUBE.replace(" 2 1.0", " -2 1.0").replace(" 2 0.2", " -2 0.2").replace(" 3 0.0", " -3 0.0")
    density = io.read(put(tmp_path, text))
    assert np.allclose(density.grid.steps[0], [1, 0, 0]) and density.structure.positions[1, 1] == 9
    assert density.grid.origin[0] == 0.5 and density.total[0, 0, 0] == pytest.approx(1 / Bohr**3)
    with pytest.raises(InputError, match="different signs"):
        io.read(put(tmp_path, CUBE.replace(" 2 1.0", " -2 1.0")))


@pytest.mark.parametrize("suffix", [".cube", ".cub", ".cube.gz", ".cube.zz", ".cube.xz", ".cube.bz2"])
def test_round_trip(suffix, tmp_path):
    density = make_density(pbc=(True, False, False), field=(0.0, 1e-3, -0.5), origin=(-1.0, 2.0, 0.5))
    density.kind = "response"
    io.write(density, tmp_path / f"x{suffix}")
    again = io.read(tmp_path / f"x{suffix}")
    assert np.allclose(again.values, density.values, rtol=6e-6, atol=0)
    assert again.grid.same_as(density.grid, 1e-9) and again.kind == "response"
    assert np.allclose(again.structure.positions, density.structure.positions, atol=1e-9)
    assert np.array_equal(again.structure.numbers, density.structure.numbers)
    assert np.array_equal(again.structure.pbc, density.structure.pbc)
    assert np.array_equal(again.structure.field, density.structure.field)


def test_ase_reads_what_is_written(tmp_path, density):
    io.write(density, tmp_path / "x.cube")
    with open(tmp_path / "x.cube") as stream:
        other = read_cube(stream)
    assert np.allclose(other["data"], density.total * Bohr**3, rtol=6e-6)
    assert np.allclose(other["atoms"].cell, density.grid.cell)


def test_printed_digits_survive(tmp_path):
    before = io.read(FORMATS / "elec.cube.gz")
    io.write(before, tmp_path / "x.cube")
    after = io.read(tmp_path / "x.cube")
    assert np.allclose(after.values, before.values, rtol=1e-14)


def test_digits(tmp_path, density):
    io.write(density, tmp_path / "x.cube", digits=15)
    assert np.allclose(io.read(tmp_path / "x.cube").values, density.values, rtol=1e-13, atol=0)


def test_spin_is_said(tmp_path, caplog):
    with caplog.at_level("INFO", "dcharge"):
        io.write(make_density(n_channels=2), tmp_path / "x.cube")
    assert "one channel" in caplog.text


def test_overrides(tmp_path):
    path = put(tmp_path, CUBE)
    density = io.read(path, pbc=[1, 1, 0], field=[0, 0, -1])
    assert density.structure.pbc.tolist() == [True, True, False] and density.structure.field.tolist() == [0, 0, -1]
    with pytest.raises(InputError, match="pbc .*three of T and F expected"):
        io.read(path, pbc=[1, 1])
    with pytest.raises(InputError, match="field .*three numbers"):
        io.read(path, field="a b c")


@pytest.mark.parametrize(
    "old, new, message",
    [
        (" 10 11 12\n", " 10 11\n", "line 13: the file ends after 11 of 12 values"),
        (" 10 11 12\n", " 10 11 12 13\n", "line 12: more values than the 12 of the 2x2x3 grid"),
        (" 2 0.5", " -2 0.5", "line 3: a negative number of atoms announces orbitals"),
        (" 2 0.5 0.0 0.0", " 2 0.5 0.0 0.0 3", "line 3: 3 values per voxel"),
        (" 2 0.5", " 2.5 0.5", "line 3: number of atoms and origin"),
        (" 2 1.0", " 0 1.0", "line 4: no voxels along x"),
        (" 2 0.2 1.0 0.0", " 2 2.0 0.0 0.0", "zero volume"),
        (" 1 0.0 0.0 9.0 0.0", " 999 0.0 0.0 9.0 0.0", "line 8: atomic number 999"),
        (" 1 0.0 0.0 9.0 0.0", " 1 0.0 0.0 ?", "line 8: atom 2 of 2"),
        (" 5 ", " ** ", r"line 10: '\*\*' found where value 5 of 12 was expected"),
        (" 5 ", " nan ", "1 values are nan or inf, the first in line 10"),
        (CUBE, "", "x.cube: the file is empty"),
        (CUBE, "one\ntwo\n", "line 3: the file ends where number of atoms"),
    ],
)
def test_bad_files(old, new, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        io.read(put(tmp_path, CUBE.replace(old, new, 1)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["0, 0, -1.0 V/Angstrom", "0 0 -1 V/A", "0 -1 V/Angstrom", "0 0 nan V/Angstrom"])
def test_tag_with_half_a_field(tmp_path, field):
    """A field that cannot be read is not a frame without field."""
    density = make_density(pbc=(True, True, False), field=(0.0, 0.0, -1.0))
    io.write(density, tmp_path / "a.cube")
    text = (tmp_path / "a.cube").read_text()
    assert "field 0.0 0.0 -1.0 V/Angstrom" in text
    (tmp_path / "a.cube").write_text(text.replace("0.0 0.0 -1.0 V/Angstrom", field))
    with pytest.raises(InputError, match=r"a.cube: comment line: 'field X Y Z V/Angstrom' expected, found 'field "):
        io.read(tmp_path / "a.cube")
