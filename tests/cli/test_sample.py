"""`dcharge sample`: point data that training can use, what it tells, and one line for every mistake."""

import numpy as np
import pytest
from tiny import input_config

from dcharge.cli import main
from dcharge.io import open_system
from dcharge.sample import Shells
from dcharge.sampling import Random, Targeted, draw
from dcharge.train import Trainer


def frames(path):
    return [frame.read() for frame in open_system(path).frames]


def complaint(capsys, *args) -> str:
    assert main(["sample", *map(str, args)]) == 1
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("dcharge: error: ")][0].removeprefix("dcharge: error: ")


def test_points_and_weights(here, cubes, capsys):
    assert main(["sample", *map(str, cubes), "points", "--sampler", "targeted", "-n", "120", "--seed", "5"]) == 0
    names = ("coord", "box", "grid", "density", "weight")
    assert {p.name for p in (here / "points/set.000").iterdir()} == {f"{name}.npy" for name in names}
    for number, (cube, found) in enumerate(zip(cubes, frames("points"), strict=True)):
        rho = frames(cube)[0]
        index, weight = draw(Targeted(120), rho, 5, number)
        np.testing.assert_array_equal(found.positions, rho.points(index))
        np.testing.assert_array_equal(found.values, rho.values_at(index))
        np.testing.assert_allclose(found.weight, weight)
    text = capsys.readouterr().err
    assert "targeted sampler: effective sample size" in text and "of 120 points of a frame" in text
    assert "1e-01 to 1e+00" in text and "points: 2 frames, 240 points written" in text


def test_training_takes_them_with_their_weights(here, cubes):
    assert main(["sample", str(cubes[0]), "points", "--sampler", "targeted", "-n", "150"]) == 0
    trainer = Trainer(input_config(["points"], {"loss": {"weights": "importance"}}))
    found = frames("points")[0]
    assert len(trainer.samples) == 150
    np.testing.assert_allclose(trainer.samples.weight, found.weight / found.weight.mean())
    np.testing.assert_allclose(trainer.samples.target[:, 0], found.values[0])


def test_independent_of_a_frozen_model(here, cubes, frozen, capsys):
    args = ["--sampler", "independent", "-m", frozen, "-n", 8, "--candidates", "random", "--candidate-points", 300]
    assert main(["sample", *map(str, [cubes[0], "points", "--seed", 2, *args])]) == 0
    found, rho = frames("points")[0], frames(cubes[0])[0]
    assert 1 < found.n_points <= 8
    candidates = rho.points(draw(Random(300), rho, 2, 0)[0])
    assert all((candidates == p).all(1).any() for p in found.positions)
    assert "independent sampler: effective sample size" in capsys.readouterr().err


def test_periodicity_and_field(here, cubes):
    args = ["--sampler", "random", "-n", "9", "--pbc", "T", "T", "F", "--field", "0", "0", "-1"]
    assert main(["sample", str(cubes[0]), "points", *args]) == 0
    structure = frames("points")[0].structure
    assert structure.pbc.tolist() == [True, True, False] and structure.field.tolist() == [0, 0, -1]


def test_shells_of_density():
    shells = Shells()
    shells.add(np.array([0.0, 5e-9, 2e-3, -3e-3, 0.5, 5000.0]), np.array([2, 3, 5]))
    shells.add(np.array([4e-3]), np.array([], dtype=np.int64))
    assert shells.all.sum() == 7 and shells.kept.sum() == 3
    lines = {line[:24].strip(): line[24:].split() for line in shells.lines()}
    assert lines["1e-03 to 1e-02"] == ["3", "2", "66.7", "%"]
    assert lines["0 to 1e-08"] == ["2", "0", "0", "%"] and lines["above 1e+03"] == ["1", "1", "100", "%"]
    assert lines["1e-06 to 1e-05"] == ["0", "0"]


@pytest.mark.parametrize(
    "args,message",
    [
        (["--sampler", "targeted", "--sigma", "0"], "--sigma: a positive number expected, 0 given"),
        (["--sampler", "targeted", "--uniform-share", "1"], "--uniform-share: a number from 0 to below 1 expected"),
        (["--sampler", "random", "--sigma", "3"], "--sigma: unknown key for type 'random'; it belongs to 'targeted'"),
        (["--rounds", "3"], "--rounds: unknown key for type 'stratified'; it belongs to 'independent'"),
        (["--candidates", "random"], "--candidates: only with --sampler independent"),
        (["--sampler", "random", "-n", "99999"], "--points: 99999 points asked for, frame0.cube has 1440"),
        (["--sampler", "independent", "--threshold", "1"], "--threshold: a number from 1e-10 to below 1 expected, 1"),
        (
            ["--sampler", "independent", "-n", "3000"],
            "--points: at most --candidate-points (2000) expected, 3000",
        ),
        (["--sampler", "independent", "--sigma", "-2"], "--sigma: a positive number expected, -2 given"),
        (["--sampler", "independent"], "--model: sampler 'independent' needs a frozen model"),
        (["-m", "x.pth"], "--model: sampler 'stratified' looks at no model; --sampler independent does"),
        (["--sampler", "independent", "-m", "x.pth"], "x.pth: no such file (frozen model expected)"),
    ],
)
def test_bad_options(here, cubes, capsys, args, message):
    assert complaint(capsys, cubes[0], "points", *args).startswith(message)
    assert not list(here.iterdir())


def test_bad_files(here, cubes, frozen, capsys):
    assert "a name without suffix expected" in complaint(capsys, cubes[0], "points.h5")
    assert "no such file" in complaint(capsys, "missing.cube", "points")
    args = ["--sampler", "independent", "-m", frozen, "-n", 5, "--candidate-points", 1441]
    assert "--candidate-points: 1441 points asked for, frame0.cube has 1440" in complaint(
        capsys, cubes[0], "points", *args
    )
