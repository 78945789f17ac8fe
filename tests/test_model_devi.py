"""`dcharge model-devi`: the table, what it is computed from, and that it finds the odd frame out."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ase.io import write as ase_write
from tiny import calibrated, density, input_config, model_config, stirred, structure

import dcharge
import dcharge.model_devi
from dcharge.cli import main
from dcharge.freeze import freeze, save_frozen
from dcharge.grid import Grid
from dcharge.io import write
from dcharge.model_devi import BALL, BALL_POINTS, COLUMNS, MARGIN, POINTS, ball, box, deviation_of, model_devi
from dcharge.structure import Structure
from dcharge.train import Trainer


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed in (1, 2, 3):
        model = stirred(calibrated(model_config(), seed), seed, 0.1)
        model.output_scale.fill_(0.2)  # the baseline knows this density: the networks would hardly count
        save_frozen(model, folder / f"{seed}.pth", {})
    return [str(folder / f"{seed}.pth") for seed in (1, 2, 3)]


@pytest.fixture
def trajectory(here):
    """Five frames."""
    ase_write("md.xyz", [structure(i).to_ase() for i in range(5)], format="extxyz")
    return "md.xyz"


def test_grid(models, trajectory):
    """Every column against numpy."""
    model_devi(models, [trajectory], spacing=0.6)
    rows = np.loadtxt("model_devi.out")
    assert rows.shape == (5, 6) and rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    for i, row in enumerate(rows):
        each = np.array([dcharge.load(m).predict(structure(i), spacing=0.6, dtype=np.float64).values for m in models])
        std = each.std(0)
        expected = [std.max(), std.min(), std.mean(), 100 * std.sum() / np.abs(each.mean(0)).sum()]
        np.testing.assert_allclose(row[1:5], expected, rtol=1e-3, atol=1e-6)


def test_around_the_atoms(models, trajectory):
    """The last column, atom by atom; points of the ball are uniform in it."""
    model_devi(models, [trajectory], points=10, seed=5)
    rows = np.loadtxt("model_devi.out")
    points = ball(5)
    r = np.linalg.norm(points, axis=1)
    assert points.shape == (BALL_POINTS, 3) and r.max() < BALL and np.abs(points.mean(0)).max() < 0.3
    assert np.mean((r / BALL) ** 3) == pytest.approx(0.5, abs=0.15)
    for i in (0, 4):
        worst = 0.0
        for center in structure(i).positions:
            each = np.array([dcharge.load(m).at(structure(i), center + points) for m in models])
            worst = max(worst, 100 * each.std(0).sum() / np.abs(each.mean(0)).sum())
        assert rows[i, 5] == pytest.approx(worst, rel=1e-4)


def test_points(models, trajectory):
    """The same places of the cell in every frame, another seed others; the grid's figures within their noise."""
    model_devi(models, [trajectory], points=400, seed=7)
    rows = np.loadtxt("model_devi.out")
    places = np.random.default_rng(7).random((400, 3))
    for i in (0, 3):
        _, std = dcharge.load(models).at(structure(i), places @ structure(i).cell)
        # a deviation is a difference of float32 densities, which are of order one: 1e-7 of them
        np.testing.assert_allclose(rows[i, 1:4], [std.max(), std.min(), std.mean()], rtol=1e-5, atol=1e-7)
    model_devi(models, [trajectory], "other.out", points=400, seed=8)
    other = np.loadtxt("other.out")
    assert not np.allclose(rows[:, 3], other[:, 3], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 3], other[:, 3], rtol=0.5)


def test_output(models, trajectory, capsys):
    """The head, the default number of points, --every, --top and the ranking that is printed."""
    assert main(["model-devi", "-m", *models, "-s", trajectory, "-f", "2", "--top", "2", "--by", "avg_devi"]) == 0
    lines = Path("model_devi.out").read_text().splitlines()
    assert lines[0].startswith("# 3 models: ") and f"{POINTS} random points (seed 1)" in lines[1]
    assert lines[2].split() == ["#", "step", *COLUMNS] and lines[3] == f"# {trajectory}"
    rows = np.loadtxt("model_devi.out")
    assert rows[:, 0].tolist() == [0, 2, 4]
    order = rows[np.argsort(-rows[:, 3])][:2, 0].astype(int)
    printed = [line for line in capsys.readouterr().err.splitlines() if "md.xyz#" in line]
    assert [int(line.rsplit("#", 1)[1]) for line in printed] == order.tolist()


def test_systems_of_all_kinds(models, trajectory, here):
    """LAMMPS dump, XDATCAR, density files."""
    from ase.io.vasp import write_vasp_xdatcar

    same = [structure(0).to_ase(), structure(0).to_ase()]
    with open("XDATCAR", "w") as stream:
        write_vasp_xdatcar(stream, [a[np.argsort(a.numbers, kind="stable")] for a in same])
    cell = np.eye(3) * 5
    atoms = ["1 1 0.1 0.2 0.3", "2 2 2.5 2.0 1.0"]
    frame = [
        "ITEM: NUMBER OF ATOMS",
        "2",
        "ITEM: BOX BOUNDS pp pp pp",
        *["0 5"] * 3,
        "ITEM: ATOMS id type x y z",
        *atoms,
    ]
    text = [line for step in (100, 200) for line in ("ITEM: TIMESTEP", str(step), *frame)]
    Path("md.dump").write_text("\n".join(text) + "\n")
    write(density(0, shape=(3, 3, 3)), "rho.cube")
    ranked = model_devi(models, ["md.dump", "XDATCAR", "rho.cube"], points=300, type_map=["Si", "O"], top=9)
    rows = np.loadtxt("model_devi.out")
    assert rows[:, 0].tolist() == [0, 1, 0, 1, 0] and len(ranked) == 5
    assert {"md.dump@100", "md.dump@200"} < {f.name for f in ranked}
    np.testing.assert_array_equal(rows[0, 1:], rows[1, 1:])
    dimer = Structure([14, 8], [[0.1, 0.2, 0.3], [2.5, 2.0, 1.0]], cell, True)
    found = deviation_of(dcharge.load(models), dimer, 300, None, 1)
    np.testing.assert_allclose(rows[0, 1:], [getattr(found, c) for c in COLUMNS], rtol=1e-5)
    np.testing.assert_allclose(rows[2, 1:], rows[3, 1:], rtol=1e-6)


def test_molecule_without_a_cell(models, here, said):
    """Points lie around the atoms."""
    s = Structure([14, 8], [[0.0, 0.0, 0.0], [1.6, 0.0, 0.0]], np.zeros((3, 3)), False)
    cell, origin = box(s)
    np.testing.assert_allclose(np.diag(cell), [1.6 + 2 * MARGIN, 2 * MARGIN, 2 * MARGIN])
    np.testing.assert_allclose(origin, -MARGIN)
    ase_write("mol.xyz", s.to_ase(), format="extxyz")
    model_devi(models, ["mol.xyz"], spacing=0.7)
    inside = dcharge.load(models).predict(s, grid=Grid.from_spacing(cell, 0.7, origin))[1].values
    assert np.loadtxt("model_devi.out")[1] == pytest.approx(inside.max(), rel=1e-4)
    assert "a structure without a cell" in said()


def test_atoms_outside_the_points(models, here, said):
    """Random points fill the cell: what lies outside of it is not judged, and that is said."""
    s = Structure([14, 8], [[-3.0, 0.0, 0.0], [1.6, 1.0, 1.0]], np.eye(3) * 5, False)
    ase_write("out.xyz", s.to_ase(), format="extxyz")
    model_devi(models, ["out.xyz"], points=50)
    assert "1 of 2 atoms (the first: 1) lie outside the grid" in said()


def test_distorted_structure_comes_first(here, cubes, monkeypatch):
    """Three short trainings; among moved structures the one with two atoms pushed together is the one unknown."""
    for seed in (1, 2, 3):
        (here / str(seed)).mkdir()
        monkeypatch.chdir(here / str(seed))
        # without a baseline, which would know this density already
        changes = {"training": {"seed": seed, "numb_steps": 300}, "model": {"baseline": {"type": "none"}}}
        changes["learning_rate"] = {"decay_steps": 20, "start_lr": 0.02}
        Trainer(input_config(cubes, changes)).run()
        freeze(".", here / f"{seed}.pth")
    monkeypatch.chdir(here)
    frames = []
    for i in range(5):
        s = structure(0)
        frames.append(s.with_(positions=s.positions + np.random.default_rng(i).normal(0, 0.02, s.positions.shape)))
    odd = frames[3].positions.copy()
    odd[1] = odd[0] + [0.5, 0.0, 0.0]
    frames[3] = frames[3].with_(positions=odd)
    ase_write("md.xyz", [f.to_ase() for f in frames], format="extxyz")
    for by in ("rel_devi", "max_devi", "avg_devi", "atom_devi"):
        ranked = model_devi(["1.pth", "2.pth", "3.pth"], ["md.xyz"], by=by, points=2000)
        assert ranked[0].step == 3 and getattr(ranked[0], by) > 1.5 * getattr(ranked[1], by)


# ------------------------------------------------------------------------------------------- a run that does not end
@pytest.fixture
def with_a_bad_frame(here):
    """Seven frames; the sixth has a species that the models do not know."""
    frames = [structure(i).to_ase() for i in range(7)]
    frames[5].numbers[0] = 6
    ase_write("bad.xyz", frames, format="extxyz")
    return "bad.xyz"


def test_rows_before_a_bad_frame_are_kept(models, trajectory, with_a_bad_frame, capsys):
    """One line names the frame and where the rows are; with the frame put right the run goes on from there."""
    call = ["model-devi", "-m", *models, "-s", trajectory, with_a_bad_frame, "--points", "50"]
    assert main(call) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "bad.xyz#5: species C not in type_map" in error and "rows of 10 frames are in model_devi.out.part" in error
    assert not Path("model_devi.out").exists() and len(np.loadtxt("model_devi.out.part")) == 10

    ase_write(with_a_bad_frame, [structure(i).to_ase() for i in range(7)], format="extxyz")
    rows = Path("model_devi.out.part").read_text().splitlines(True)
    Path("model_devi.out.part").write_text("".join(rows)[:-30])  # killed while a row was written
    assert main([*call, "--restart", "--top", "12"]) == 0
    again = Path("model_devi.out").read_text()
    assert not Path("model_devi.out.part").exists() and again.startswith("".join(rows))
    printed = [line for line in capsys.readouterr().err.splitlines() if ".xyz#" in line]
    assert len(printed) == 12
    assert main([*call, "-o", "whole.out"]) == 0 and Path("whole.out").read_text() == again


def test_rows_taken_over_are_not_computed_again(models, trajectory, with_a_bad_frame, capsys, monkeypatch):
    call = ["model-devi", "-m", *models, "-s", with_a_bad_frame, "--points", "50"]
    assert main(call) == 1
    evaluated = []
    real = dcharge.model_devi._evaluated
    monkeypatch.setattr(dcharge.model_devi, "_evaluated", lambda *args: evaluated.append(args[-1]) or real(*args))
    assert main([*call, "--restart"]) == 1 and evaluated == ["bad.xyz#5"]
    assert "rows of 5 frames are in model_devi.out.part" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "change, message",
    [
        (["--points", "60"], "model_devi.out.part: of another command"),
        (["--points", "50", "-f", "2"], "model_devi.out.part: of another command"),
        (["--points", "50", "-s", "md.xyz"], "model_devi.out.part: holds step 0 of bad.xyz where md.xyz#0 comes"),
    ],
)
def test_rows_of_another_run(models, trajectory, with_a_bad_frame, change, message, capsys):
    call = ["model-devi", "-m", *models, "-s", with_a_bad_frame, "--points", "50"]
    assert main(call) == 1
    before = Path("model_devi.out.part").read_text()
    assert main([*call, *change, "--restart"]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert Path("model_devi.out.part").read_text() == before
    # without --restart it is set aside
    assert main(["model-devi", "-m", *models, "-s", trajectory, "--points", "50"]) == 0
    assert Path("model_devi.out.part.old").read_text() == before


def test_sigterm_keeps_the_rows(models, trajectory, monkeypatch, capsys):
    real, n = dcharge.model_devi._evaluated, []

    def one(*args):
        n.append(0)
        if len(n) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(dcharge.model_devi, "_evaluated", one)
    call = ["model-devi", "-m", *models, "-s", trajectory, "--points", "50"]
    assert main(call) == 143 and len(np.loadtxt("model_devi.out.part")) == 2
    assert "interrupted: rows of 2 frames are in model_devi.out.part" in capsys.readouterr().err
    assert main([*call, "--restart"]) == 0 and len(np.loadtxt("model_devi.out")) == 5 and len(n) == 6


def test_rows_of_a_system_that_is_no_longer_named(models, trajectory, monkeypatch, capsys):
    Path("second.xyz").write_text(Path(trajectory).read_text())
    real, n = dcharge.model_devi._evaluated, []

    def one(*args):
        n.append(0)
        if len(n) == 7:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(dcharge.model_devi, "_evaluated", one)
    call = ["model-devi", "-m", *models, "--points", "50", "-s", trajectory]
    assert main([*call, "second.xyz"]) == 1
    assert main([*call, "--restart"]) == 1
    assert "holds rows of second.xyz, which this command does not name" in capsys.readouterr().err
    assert not Path("model_devi.out").exists()
    assert main([*call, "second.xyz", "--restart"]) == 0 and len(np.loadtxt("model_devi.out")) == 10


def test_nothing_to_continue(models, trajectory, capsys):
    assert main(["model-devi", "-m", *models, "-s", trajectory, "--points", "50", "--restart"]) == 0
    assert "there is no such file, nothing to continue" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call, message",
    [
        (["-s", "md.xyz"], "two models or more expected: -m a.pth b.pth c.pth"),
        (["-m", "{0}", "-s", "md.xyz"], "two models or more expected, one given"),
        (["-m", "{0}", "{0}", "-s", "md.xyz"], "is given twice"),
        (["-m", "{0}", "{1}", "-s", "C.xyz"], "C.xyz#0: species C not in type_map"),
        (["-m", "{0}", "{1}", "-s", "missing.xyz"], "missing.xyz"),
        (["-m", "{0}", "{1}", "-s", "md.xyz", "-o", "no/devi.out"], "no"),
        (["-m", "{0}", "C.xyz", "-s", "md.xyz"], "C.xyz"),
    ],
)
def test_bad_input(models, trajectory, here, call, message, capsys):
    (here / "C.xyz").write_text('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nC 0 0 0\n')
    assert main(["model-devi", *(word.format(*models) for word in call)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dcharge: error: ") and message in error
    assert not list(here.glob("model_devi*"))


def test_either_points_or_spacing(models, capsys):
    assert main(["model-devi", "-m", *models, "-s", "x", "--points", "5", "--spacing", "1"]) == 2
    assert "not allowed with" in capsys.readouterr().err
