"""Coordination environments, their table, and the error of a model in each."""

import json
import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from tiny import SKEWED, density, distances, structure

import dcharge
from dcharge.cli import main
from dcharge.coverage import coverage, environments
from dcharge.density import Density, PointDensity
from dcharge.evaluate import test
from dcharge.io import write
from dcharge.nuclei import Nuclei
from dcharge.structure import Structure

test.__test__ = False  # it is called as the command, and no test


def of(atoms, **options):
    return environments(Structure.from_ase(atoms), **options)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("C2H6", {"C": {"C1H3"}, "H": {"C1"}}),
        ("CH3CHO", {"C": {"C1H3", "C1H1O1"}, "H": {"C1"}, "O": {"C1"}}),
        ("H2O", {"O": {"H2"}, "H": {"O1"}}),
    ],
)
def test_molecules(name, expected):
    atoms, found = molecule(name), {}
    for symbol, environment in zip(atoms.symbols, of(atoms), strict=True):
        found.setdefault(symbol, set()).add(environment)
    assert found == expected


def test_crystals():
    """Periodic images are neighbours, also an atom's own in a small cell; open boundaries have none."""
    assert set(of(bulk("Si", "diamond", a=5.43, cubic=True))) == {"Si4"}
    assert of(bulk("Si", "diamond", a=5.43)) == ["Si4", "Si4"]
    salt = bulk("NaCl", "rocksalt", a=5.6)
    assert of(salt, scale=1.1) == ["Cl6", "Na6"]
    assert of(salt)[0] == "Cl6Na12"  # the covalent radius of Na is generous
    salt.pbc = False
    assert of(salt) == ["Cl1", "Na1"]
    assert of(bulk("Cu", "fcc", a=3.6)) == ["Cu12"] and of(bulk("Cu", "fcc", a=6.0)) == ["none"]
    assert of(bulk("Cu", "fcc", a=6.0), scale=2.0) == ["Cu12"]
    assert environments(Structure([], np.zeros((0, 3)), np.eye(3), False)) == []


@pytest.mark.parametrize("pbc", [True, (True, False, True), False])
def test_nearest_nucleus(pbc):
    """Number and distance of the nearest image's atom, brute force beside it."""
    s = structure(2, cell=0.8 * SKEWED, numbers=(14, 8, 8), pbc=pbc)
    points = np.random.default_rng(0).uniform(-0.5, 1.5, (200, 3)) @ s.cell
    distance, atom = Nuclei(s).nearest(points)
    every = distances(s, points)
    np.testing.assert_allclose(distance, every.min(1), rtol=1e-9)
    assert np.array_equal(atom, every.argmin(1))
    distance, atom = Nuclei(Structure([], np.zeros((0, 3)), s.cell, pbc)).nearest(points)
    assert np.isinf(distance).all() and (atom == -1).all()


@pytest.fixture
def files(here):
    for name, formula in (("ethane", "C2H6"), ("water", "H2O"), ("acetaldehyde", "CH3CHO"), ("silane", "SiH4")):
        atoms = molecule(formula, vacuum=3.0)
        atoms.write(here / f"{name}.xyz")
    bulk("Si", "diamond", a=5.43).write("POSCAR")
    return here


def rows(report, symbol):
    return {row["environment"]: row for row in report["species"][symbol]}


def test_table_json_and_picture(files, capsys):
    """Two sets of several files: counts, shares, what is absent; the same in three forms."""
    command = ["coverage", "ethane.xyz", "water.xyz", "--test", "acetaldehyde.xyz", "silane.xyz"]
    assert main([*command, "-o", "c.json", "-o", "c.png"]) == 0
    report = json.loads((files / "c.json").read_text())
    assert (report["format"], report["version"]) == ("dcharge-coverage", 1)
    assert report["train"] == {"frames": 2, "atoms": {"C": 2, "H": 8, "O": 1}}
    assert report["test"] == {"frames": 2, "atoms": {"C": 2, "H": 8, "O": 1, "Si": 1}}
    carbon = rows(report, "C")
    assert carbon["C1H3"] == {"environment": "C1H3", "train": 2, "test": 1, "train_percent": 100, "test_percent": 50,
                              "absent_from_training": False}  # fmt: skip
    assert carbon["C1H1O1"]["absent_from_training"] and carbon["C1H1O1"]["train"] == 0
    assert rows(report, "Si")["H4"]["train_percent"] is None
    assert report["nmae_percent"] is None
    # one C, one O, one Si and the four H of silane
    assert report["absent_percent"] == pytest.approx(100 * 7 / 12)
    told = capsys.readouterr()
    text = told.out.splitlines()
    line = next(row for row in text if "C1H1O1" in row)
    assert line.split()[:6] == ["C", "C1H1O1", "0", "0.0", "1", "50.0"] and line.endswith("absent from training")
    assert text[-1].startswith("# 7 of 12 test atoms (58.3 %) in 4 environments absent from training")
    assert (files / "c.png").read_bytes().startswith(b"\x89PNG") and not list(files.glob(".*"))
    assert "training lacks Si altogether" in told.err


@pytest.mark.parametrize(
    "words",
    [
        ["ethane.xyz", "acetaldehyde.xyz"],
        ["ethane.xyz", "--test", "acetaldehyde.xyz"],
        ["--train", "ethane.xyz", "--test", "acetaldehyde.xyz"],
    ],
)
def test_which_is_which(files, words):
    assert main(["coverage", *words, "-o", "c.json"]) == 0
    report = json.loads((files / "c.json").read_text())
    assert (report["train"]["atoms"]["H"], report["test"]["atoms"]["H"]) == (6, 4)


def test_errors_by_environment(here, frozen):
    """Sums over the points nearest to each atom, by brute force; shares add up to the NMAE of a test."""
    parts = {}
    for seed in (0, 1):
        rho = density(seed, shape=(8, 7, 9))
        rho.values = rho.values * (1.02 + 0.1 * np.sin(rho.points()[:, 0]).reshape(rho.grid.shape))
        write(rho, f"{seed}.h5", dtype="float64")
        keys = list(zip(rho.structure.symbols, environments(rho.structure), strict=True))
        nearest = distances(rho.structure, rho.points()).argmin(1)
        error = np.abs(dcharge.load(frozen).at(rho.structure, rho.points())[0] - rho.total.ravel()) * rho.grid.dv
        for atom, key in enumerate(keys):
            mine = nearest == atom
            total = parts.setdefault(key, np.zeros(2))
            total += error[mine].sum(), np.abs(rho.total.ravel()[mine]).sum() * rho.grid.dv
    found = coverage(["0.h5"], ["0.h5", "1.h5"], model=frozen, outputs=["c.json", "c.svg"])
    assert set(found.errors) == set(parts)
    for key, (error, reference) in parts.items():
        assert found.errors[key].error == pytest.approx(error, rel=1e-4)
        assert found.errors[key].reference == pytest.approx(reference, rel=1e-6)
    report = json.loads((here / "c.json").read_text())
    each = [row for symbol in report["species"].values() for row in symbol if row["abs_error_e"] is not None]
    pooled = test([frozen], ["0.h5", "1.h5"])["pooled"]["nmae_percent"]
    assert sum(row["nmae_share_percent"] for row in each) == pytest.approx(pooled, rel=1e-5)
    assert report["nmae_percent"] == pytest.approx(pooled, rel=1e-5)
    assert "% of the error" in found.table()[-1] and "NMAE %" in "".join(found.table())


@pytest.mark.parametrize(
    "words, message",
    [
        (["water.xyz", "POSCAR"], "the sets have no species in common: training holds H, O, the test Si"),
        (["ethane.xyz"], "a training and a test set expected"),
        (["ethane.xyz", "water.xyz", "silane.xyz"], "with several of either dcharge coverage TRAIN.. --test TEST.."),
        (["ethane.xyz", "--train", "water.xyz", "--test", "silane.xyz"], "ethane.xyz belongs to neither"),
        (["ethane.xyz", "water.xyz", "-o", "c.txt"], "c.txt: .json, .png, .pdf or .svg expected"),
        (["ethane.xyz", "water.xyz", "-o", "no/c.json"], "there is no folder no"),
        (["ethane.xyz", "nothing.xyz"], "nothing.xyz"),
        (["si.h5", "points", "-m", "MODEL"], "free points fill no space"),
        (["ethane.xyz", "ethane.xyz", "-m", "MODEL"], "ethane.xyz"),
    ],
)
def test_bad_input(files, frozen, words, message, capsys):
    rho = density(0, shape=(4, 4, 4))
    write(rho, "si.h5")
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1)), "points")
    assert main(["coverage", *(str(frozen) if w == "MODEL" else w for w in words)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dcharge: error: ") and message in error and "bug" not in error


def test_frame_without_atoms(here, frozen, capsys):
    """One of several, in either order of work: named."""
    rho = density(0, shape=(4, 4, 4))
    write(rho, "si.h5")
    write(Density(Structure([], np.zeros((0, 3)), rho.grid.cell, True), rho.grid, rho.values), "empty.h5")
    assert main(["coverage", "--train", "si.h5", "--test", "si.h5", "empty.h5", "-m", str(frozen)]) == 1
    assert "error: empty.h5#0: holds no atom" in capsys.readouterr().err


def test_without_matplotlib(files, capsys, monkeypatch):
    """Told before the work; what fails later than that leaves the numbers, whatever the order of -o."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        patch.setattr("dcharge.coverage.read_structures", lambda *_, **__: pytest.fail("work has begun"))
        assert main(["coverage", "ethane.xyz", "acetaldehyde.xyz", "-o", "c.json", "-o", "c.png"]) == 1
    assert "coverage: matplotlib is missing" in capsys.readouterr().err and not (files / "c.json").exists()

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr("dcharge.coverage.save", fail)
    with pytest.raises(OSError, match="no space"):
        coverage(["ethane.xyz"], ["acetaldehyde.xyz"], outputs=["c.png", "c.json"])
    assert json.loads((files / "c.json").read_text())["species"]


def test_same_file_in_both_sets(files, capsys):
    assert main(["coverage", "ethane.xyz", "./ethane.xyz"]) == 0
    assert "./ethane.xyz is in both sets" in capsys.readouterr().err
