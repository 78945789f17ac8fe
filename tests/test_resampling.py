"""Cycles of sampling and training: which points, and restarts in the middle of them."""

import shutil

import numpy as np
import pytest
import torch
from tiny import FIREANN, NO_BASELINE, curve, input_config, merged, same_tensors, validated

from dcharge import checkpoint
from dcharge.errors import InputError
from dcharge.io import PointWriter
from dcharge.sampling import Random, draw
from dcharge.train import Trainer, train

CYCLES = {
    "training": {
        "sampler": {
            "type": "independent",
            "points_per_frame": 24,
            "threshold": 1e-3,
            "rounds": 20,
            "cycles": 4,
            "candidates": {"type": "random", "points_per_frame": 200},
        },
        "training_data": {"batch_size": 16},
        "disp_freq": 1,
        "save_freq": 1,
        "max_ckpt_keep": 100,
    }
}


def cycled(cubes, *changes):
    return input_config(cubes, NO_BASELINE, CYCLES, *changes)


def sampler(**keys):
    return {"training": {"sampler": keys}}


def points_of(path):
    """Points of a checkpoint: [(index, count)] of training, and of validation."""
    content = checkpoint.load(path, checkpoint.CHECKPOINT)
    return [
        [part.tolist() for part in content[f"{name}/index"].split(content[f"{name}/count"].tolist())]
        for name in ("sample", "held")
        if f"{name}/index" in content
    ]


def test_points_accumulate(here, cubes, said):
    train(cycled(cubes, validated(cubes)))
    sets = [points_of(f"model.ckpt-{step}.pt")[0] for step in (1, 5, 6, 11, 16, 20)]
    assert [len(frame) for frame in sets[0]] == [6, 6] and sets[0] == sets[1]
    assert [[len(f) for f in s] for s in sets[2:]] == [[12, 12], [18, 18], [24, 24], [24, 24]]
    for before, after in zip(sets, sets[1:], strict=False):
        for a, b in zip(before, after, strict=True):
            assert set(a) <= set(b) and len(set(b)) == len(b) and b == sorted(b)
    assert "training data: 2 frames, 36 points in cycle 3 of 4" in said()
    assert "validation data: 2 frames" not in said() and "validation data: 1 frame, 1440 points" in said()


def test_points_are_replaced(here, cubes):
    trainer = train(cycled(cubes, sampler(accumulate=False, points_per_frame=10, cycles=2)))
    first, second = (points_of(f"model.ckpt-{step}.pt")[0] for step in (10, 11))
    assert [len(f) for f in first] == [len(f) for f in second] == [10, 10] and first != second
    assert len(trainer.samples) == 20 and trainer.resampling.cycle == 1


def test_points_depend_on_the_weights(here, cubes):
    """The second cycle's points are chosen by the trained model: another learning rate, other points."""
    picked = []
    for rate in (1e-3, 5e-2):
        train(cycled(cubes, {"learning_rate": {"start_lr": rate}}, sampler(threshold=0.3, rounds=1)))
        picked.append([points_of(f"model.ckpt-{step}.pt") for step in (5, 11)])
    assert picked[0][0] == picked[1][0] and picked[0][1] != picked[1][1]


RUNS = {
    "accumulate": {},
    "replace": sampler(accumulate=False),
    "fireann": {"model": FIREANN, "training": {"training_data": {"frames_per_batch": 1}, "ema": 0.9}},
    "fraction": {"training": {"validation_data": {"fraction": 0.25}}},
    "one_cycle": sampler(cycles=1),
}


@pytest.mark.parametrize("step", [7, 10])
@pytest.mark.parametrize("name", RUNS)
def test_restart_continues_the_same_curve(here, cubes, monkeypatch, name, step):
    """In the middle of a cycle, and where one ends: the points of the checkpoint, the next ones chosen alike."""
    config = cycled(cubes, validated(cubes) if name != "fraction" else {}, RUNS[name])
    whole = train(config)
    (here / "again").mkdir()
    for file in (f"model.ckpt-{step}.pt", "lcurve.out"):
        shutil.copy(file, "again")
    monkeypatch.chdir(here / "again")
    again = train(config, restart=f"model.ckpt-{step}.pt")
    for column, values in curve(here / "lcurve.out").items():
        assert np.array_equal(values, curve()[column], equal_nan=True), column
    assert same_tensors(whole.model.state_dict(), again.model.state_dict())
    assert whole.best == again.best and torch.equal(whole.samples.index, again.samples.index)
    torch.testing.assert_close(whole.samples.weight, again.samples.weight)


def test_held_out_points_are_never_trained_on(here, cubes):
    train(cycled(cubes, RUNS["fraction"]))
    trained, held = points_of("model.ckpt-20.pt")
    assert sum(map(len, held)) == 3 and held == points_of("model.ckpt-1.pt")[1]
    for a, b in zip(trained, held, strict=True):
        assert not set(a) & set(b) and len(a) + len(b) == 24


def test_features_are_dependent_is_told(here, cubes, said):
    Trainer(cycled(cubes, sampler(rounds=1, cycles=1, points_per_frame=100)))
    assert "2 frames of 2 with fewer than asked for" in said()


def test_restart_with_other_data(here, cubes, said):
    config = cycled(cubes)
    train(config)
    other = merged(config, {"training": {"training_data": {"systems": [{"path": str(cubes[0]), "pbc": None,
                                                                        "field": None}]}}})  # fmt: skip
    trainer = Trainer(other, restart="model.ckpt-7.pt")
    assert "restart with another training/training_data" in said()
    assert trainer.resampling.cycle == 1 and len(trainer.samples) == 12  # chosen anew, as many as in this cycle


def test_restart_where_the_files_changed(here, cubes):
    for cube in cubes:
        shutil.copy(cube, here)
    config = cycled([here / "*.cube"])
    train(config)
    (here / cubes[1].name).unlink()
    with pytest.raises(InputError, match=r"model.ckpt-7.pt: training points of 2 frames, but .*systems holds 1"):
        Trainer(config, restart="model.ckpt-7.pt")


def test_init_model_chooses_with_its_weights(here, cubes):
    train(cycled(cubes, {"learning_rate": {"start_lr": 5e-2}}))
    one = sampler(cycles=1, rounds=1, threshold=0.3)
    untrained, trained = Trainer(cycled(cubes, one)), Trainer(cycled(cubes, one), init_model="model.ckpt-20.pt")
    assert untrained.samples.index.tolist() != trained.samples.index.tolist()


def test_point_data_keep_their_weights(here, cubes):
    from dcharge.density import PointDensity
    from dcharge.io import open_system

    rho = open_system(cubes[0]).frames[0].read()
    index, _ = draw(Random(300), rho, 0, 0)
    own = np.random.default_rng(0).uniform(0.5, 2, 300)
    with PointWriter("data") as writer:
        writer.append(PointDensity(rho.structure, rho.points(index), rho.values_at(index), own / own.mean()))
    trainer = Trainer(cycled(["data"], sampler(cycles=1)))
    expected = own[trainer.samples.index]
    np.testing.assert_allclose(trainer.samples.weight, expected / expected.mean())


def test_points_held_out_of_chosen_ones_count_no_electrons(here, cubes):
    """Few, with the weights of candidates: their sum is no integral, and the baseline of the best model stays."""
    learned, fraction = (
        {"model": {"baseline": {"type": "additive"}}},
        {"training": {"validation_data": {"fraction": 0.1}}},
    )
    held = Trainer(cycled(cubes, learned, fraction))
    same = held._counted(held.validate())["state/baseline.coefficients"]
    assert torch.equal(same, held.model.baseline.coefficients) and same.any()
    frames = Trainer(cycled(cubes, learned, validated(cubes)))
    errors = frames.validate()
    errors.integral_error = 1e-3 * frames.baseline_sum
    scaled = frames._counted(errors)["state/baseline.coefficients"]
    torch.testing.assert_close(scaled, 0.999 * frames.model.baseline.coefficients)
