"""Training runs on an analytic density: learning, restarts, checkpoints, data, errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tiny import FIREANN, PAINN, SCHNET, density, input_config, merged, model_config, structure

from dcharge import checkpoint
from dcharge.average import Average
from dcharge.config import load_config
from dcharge.dataset import Samples
from dcharge.density import Density, PointDensity
from dcharge.errors import InputError
from dcharge.io import HDF5Writer, write
from dcharge.minibatch import Batches, GeometryCache
from dcharge.models import make_model
from dcharge.train import Trainer, train

NO_BASELINE = {"model": {"baseline": {"type": "none"}}}


def validated(cubes) -> dict:
    return {"training": {"validation_data": {"systems": [str(cubes[1])]}}}


def curve(path="lcurve.out"):
    """Columns of a learning curve without the time."""
    rows = np.genfromtxt(path, names=True)
    return {name: np.atleast_1d(rows[name]) for name in rows.dtype.names if name != "seconds"}


def same_tensors(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stopping(trainer, step):
    """The trainer, interrupted by Ctrl-C in the middle of step number `step`."""
    one = trainer.train_step

    def train_step():
        if trainer.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return one()

    trainer.train_step = train_step
    return trainer


def test_learns(here, cubes):
    steps = {"training": {"numb_steps": 200, "disp_freq": 20}, "learning_rate": {"decay_steps": 20, "start_lr": 0.02}}
    trainer = Trainer(input_config(cubes[:1], NO_BASELINE, validated(cubes), steps))
    before = trainer.validate().result()["nmae_percent"]
    trainer.run()
    rows = curve()
    assert rows["step"].tolist() == list(range(20, 201, 20))
    assert before > 60 and rows["nmae_trn"][-1] < 15 and rows["nmae_val"][-1] < 30
    assert trainer.validate().result()["nmae_percent"] == pytest.approx(rows["nmae_val"][-1], rel=1e-4)
    assert rows["lr"][0] == pytest.approx(0.02) and (np.diff(rows["lr"]) < 0).all()


def test_learning_curve_file(here, cubes):
    train(input_config(cubes[:1]))
    rows = np.genfromtxt("lcurve.out", names=True)
    assert rows.dtype.names == ("step", "nmae_val", "nmae_trn", "rmse_val", "rmse_trn", "lr", "seconds")
    assert rows["step"].tolist() == [5, 10, 15, 20] and np.isnan(rows["nmae_val"]).all()
    assert np.isfinite(rows["nmae_trn"]).all() and (np.diff(rows["seconds"]) > 0).all()


def test_out_json_is_an_input(here, cubes):
    config = input_config(cubes, validated(cubes))
    train(config)
    assert load_config("out.json") == config


RUNS = {
    "plain": {},
    "ema": {"training": {"ema": 0.9}},
    "frames_per_batch": {"training": {"training_data": {"frames_per_batch": 1}}},
    "no_cache": {"training": {"cache_gb": 0}},
    "exact": {"model": {"embedding": "exact", "standardize": False}},
    "plateau": {
        "learning_rate": {"type": "plateau", "patience": 1, "start_lr": 0.5, "stop_lr": 1e-9},
        "training": {"disp_freq": 1},
    },
    "adamw_huber": {"optimizer": {"type": "adamw"}, "loss": {"type": "huber", "weights": "importance"}},
    "sgd": {"optimizer": {"type": "sgd"}, "learning_rate": {"start_lr": 1e-3}},
    "fireann": {"model": FIREANN, "training": {"training_data": {"frames_per_batch": 1}}},
    "painn": {"model": PAINN, "training": {"training_data": {"frames_per_batch": 1}}},
    "schnet": {"model": SCHNET, "training": {"training_data": {"frames_per_batch": 1}}},
    "equi": {"model": {**FIREANN, "variant": "equi"}, "training": {"ema": 0.9}},
    "fraction": {"training": {"validation_data": {"fraction": 0.2}}},
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_restart_continues_bit_for_bit(here, cubes, monkeypatch, changes):
    given = validated(cubes) if changes is not RUNS["fraction"] else {}
    config = input_config(cubes, NO_BASELINE, given, changes)
    whole = train(config)
    (here / "again").mkdir()
    middle = checkpoint.section(checkpoint.load("model.ckpt-10.pt", checkpoint.CHECKPOINT), "run")
    assert middle["schedule"]["drops"] > 0 or changes is not RUNS["plateau"]
    for name in ("model.ckpt-10.pt", "lcurve.out"):
        shutil.copy(name, "again")
    monkeypatch.chdir(here / "again")
    again = train(config, restart="model.ckpt-10.pt")
    for name, column in curve(here / "lcurve.out").items():
        assert np.array_equal(column, curve()[name], equal_nan=True), name
    assert same_tensors(whole.model.state_dict(), again.model.state_dict())
    assert whole.best == again.best and whole.schedule.state == again.schedule.state
    if whole.average:
        assert same_tensors(whole.average.values, again.average.values)
        assert not same_tensors(whole.average.values, dict(whole.model.named_parameters()))


def test_cache_changes_nothing(here, cubes):
    """All points cached, some of them, none: the same curve and weights, up to the rounding of sums."""
    size = 2 * 4 * 12 * 4 / 1e9  # one point's moments in GB
    runs = []
    for cache in (2.0, 350 * size, 0.0):
        runs.append(train(input_config(cubes, validated(cubes), {"training": {"cache_gb": cache}})))
        shutil.move("lcurve.out", f"{len(runs)}.out")
    stored = [0 if t.geometry.stored is None else len(t.geometry.stored) for t in runs]
    assert stored == [600, 350, 0]
    for other in (2, 3):
        for k, column in curve(f"{other}.out").items():
            np.testing.assert_allclose(column, curve("1.out")[k], rtol=1e-3)
        for k, p in runs[other - 1].model.named_parameters():
            torch.testing.assert_close(p, runs[0].model.get_parameter(k), rtol=0, atol=1e-3)


def test_other_seed_other_run(here, cubes):
    a, b, c = (train(input_config(cubes, {"training": {"seed": s}})).model.state_dict() for s in (1, 1, 2))
    assert same_tensors(a, b) and not same_tensors(a, c)


def test_checkpoints_kept(here, cubes):
    config = input_config(cubes[:1], {"training": {"save_freq": 4, "max_ckpt_keep": 2}})
    for step in (100, 200, 300):  # of an earlier, longer run
        (here / f"model.ckpt-{step}.pt").write_bytes(b"")
    (here / "model.ckpt-best-4.pt").write_bytes(b"mine")
    train(config)
    kept = sorted(p.name for p in here.glob("model.ckpt*"))
    assert kept == sorted(
        ["model.ckpt-16.pt", "model.ckpt-20.pt", "model.ckpt-best-4.pt"]
        + [f"model.ckpt-{s}.pt" for s in (100, 200, 300)]
    )
    assert (here / "checkpoint").read_text() == "model.ckpt-20.pt\n"
    assert checkpoint.resolve(".").name == "model.ckpt-20.pt"
    with pytest.raises(InputError, match=r"model\.ckpt: no such file .*; there is model\.ckpt-20\.pt"):
        checkpoint.load("model.ckpt", checkpoint.CHECKPOINT)


def test_checkpoints_elsewhere(here, cubes):
    (here / "run").mkdir()
    train(input_config(cubes[:1], {"training": {"save_ckpt": "run/[a]", "max_ckpt_keep": 1, "save_freq": 6}}))
    assert [p.name for p in (here / "run").iterdir()] == ["[a]-20.pt"]
    with pytest.raises(InputError, match="training/save_ckpt: there is no folder nowhere"):
        Trainer(input_config(cubes[:1], {"training": {"save_ckpt": "nowhere/x"}}))


def test_best_checkpoint(here, cubes):
    """It is that of the smallest validation error, and the best of an earlier run does not survive."""
    (here / "model.ckpt.best.pt").write_bytes(b"of another run")
    config = input_config(cubes[:1], NO_BASELINE, validated(cubes), {"learning_rate": {"start_lr": 0.05}})
    train(config)
    rows = curve()
    run = checkpoint.section(checkpoint.load("model.ckpt.best.pt", checkpoint.CHECKPOINT), "run")
    assert run["step"] == rows["step"][rows["nmae_val"].argmin()]
    assert run["best"] == pytest.approx(rows["nmae_val"].min(), rel=1e-5)
    train(input_config(cubes[:1]))
    assert not (here / "model.ckpt.best.pt").exists()


def test_interrupt_saves(here, cubes):
    config = input_config(cubes, validated(cubes), {"training": {"ema": 0.9}})
    whole = train(config)
    shutil.move("lcurve.out", "whole.out")
    for p in here.glob("model.ckpt*"):
        p.unlink()
    with pytest.raises(KeyboardInterrupt):
        stopping(Trainer(config), 7).run()
    assert (here / "checkpoint").read_text() == "model.ckpt-7.pt\n"
    again = train(config, restart=".")
    assert same_tensors(whole.model.state_dict(), again.model.state_dict())
    assert all(np.array_equal(c, curve()[k]) for k, c in curve("whole.out").items())


def test_interrupt_while_validating(here, cubes):
    """The averaged weights that validation uses do not end up as the weights of the run."""
    trainer = Trainer(input_config(cubes, validated(cubes), {"training": {"ema": 0.9}}))

    geometry = trainer.validation_geometry

    def interrupted(index):
        signal.raise_signal(signal.SIGINT)
        return geometry(index)

    trainer.validation_geometry = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    content = checkpoint.load("model.ckpt-5.pt", checkpoint.CHECKPOINT)
    average = checkpoint.tensors(content, "ema")
    parameters = {k: v for k, v in checkpoint.tensors(content, "state").items() if k in average}
    other = stopping(Trainer(input_config(cubes, {"training": {"ema": 0.9}})), 5)
    with pytest.raises(KeyboardInterrupt):
        other.run()
    assert same_tensors(parameters, {k: p.detach() for k, p in other.model.named_parameters()})
    assert same_tensors(average, other.average.values) and not same_tensors(parameters, average)


def test_second_interrupt_ends_at_once(here, cubes):
    trainer = Trainer(input_config(cubes))
    trainer.train_step = lambda: [signal.raise_signal(signal.SIGTERM) for _ in range(2)]
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.step == 0 and not list(here.glob("model.ckpt*"))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_kill_loses_at_most_save_freq_steps(here, cubes):
    given = {"training": {"numb_steps": 10**6, "save_freq": 10, "disp_freq": 1}}
    (here / "input.json").write_text(json.dumps(input_config(cubes[:1], given)))
    call = [sys.executable, "-m", "dcharge", "train", "input.json"]
    with subprocess.Popen(call, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        end = time.monotonic() + 60
        while not (here / "model.ckpt-30.pt").exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    reached = int(np.genfromtxt("lcurve.out", names=True)["step"][-1])
    saved = checkpoint.section(checkpoint.load(checkpoint.resolve("."), checkpoint.CHECKPOINT), "run")["step"]
    assert reached >= 30 and 0 <= reached - saved <= 10
    again = train(input_config(cubes[:1], given, {"training": {"numb_steps": saved + 3}}), restart=".")
    assert again.step == saved + 3
    assert curve()["step"].tolist() == list(range(1, saved + 4))


def test_init_model(here, cubes):
    config = input_config(cubes, validated(cubes))
    first = train(config)
    held = {k: v.clone() for k, v in first.model.state_dict().items()}
    new = Trainer(input_config(cubes[1:], {"training": {"seed": 99}}), init_model="model.ckpt-20.pt")
    assert new.step == 0 and same_tensors(new.model.state_dict(), held) and not new.optimizer.state_dict()["state"]
    assert same_tensors(Trainer(config, init_model="model.ckpt-20").model.state_dict(), held)  # as in DeePMD: no suffix


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": {"fitting_net": {"neuron": [11]}}}, r"model/fitting_net/neuron is .* there and \[11\] in the input"),
        ({"optimizer": {"type": "sgd"}}, "optimizer/type is adam there and sgd in the input"),
    ],
)
def test_restart_of_another_run(here, cubes, changes, message):
    train(input_config(cubes[:1]))
    with pytest.raises(InputError, match=message):
        Trainer(input_config(cubes[:1], changes), restart="model.ckpt-20.pt")


def test_restart_files(here, cubes):
    config = input_config(cubes[:1])
    with pytest.raises(InputError, match=r"no\.pt: no such file \(checkpoint expected\)"):
        Trainer(config, restart="no.pt")
    with pytest.raises(InputError, match="no file 'checkpoint' in this folder"):
        Trainer(config, restart=".")
    (here / "x.pt").write_bytes(b"not torch")
    with pytest.raises(InputError, match=r"x\.pt: not a dcharge checkpoint"):
        Trainer(config, restart="x.pt")
    train(config)
    content = torch.load("model.ckpt-20.pt", weights_only=True)
    torch.save({**content, "version": 99}, "new.pt")
    with pytest.raises(InputError, match=r"new\.pt: checkpoint of version 99; this dcharge reads up to 1"):
        Trainer(config, restart="new.pt")


def test_fraction(here, cubes):
    """Held-out points are not trained on; the others are those of the run without."""
    config = input_config(cubes, {"training": {"validation_data": {"fraction": 0.25}}})
    trainer = Trainer(config)
    everything = Trainer(input_config(cubes))

    def points(s):
        return {(f, *p) for f, p in zip(s.frame.tolist(), s.points.tolist(), strict=True)}

    kept, held = points(trainer.samples), points(trainer.validation)
    assert len(held) == 150 and len(kept) == 450 and not kept & held
    assert kept | held == points(everything.samples)
    few = {"training": {"sampler": {"points_per_frame": 1}, "validation_data": {"fraction": 0.9}}}
    with pytest.raises(InputError, match="training/validation_data/fraction: no point of 2 is left for training"):
        Trainer(input_config(cubes, few))


def samples(counts) -> Samples:
    n = sum(counts)
    frame = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Samples([structure(0)] * len(counts), torch.zeros(n, 3), frame, torch.zeros(n, 1), torch.ones(n), frame)


def test_batches_cover_an_epoch():
    batches = Batches(samples([30, 10, 20]), 12, 0, seed=1)
    epoch = [batches(i) for i in range(5)]
    assert torch.cat(epoch).sort()[0].tolist() == list(range(60))
    assert not torch.equal(torch.cat(epoch), torch.cat([batches(i) for i in range(5, 10)]))
    assert torch.equal(batches(3), epoch[3])  # a function of the step, also backwards
    assert not torch.equal(Batches(samples([30, 10, 20]), 12, 0, seed=2)(3), epoch[3])
    assert len(Batches(samples([3]), 4096, 0, seed=1)(7)) == 3


def test_batches_of_frames():
    data = samples([30, 0, 10, 20])
    batches = Batches(data, 12, 2, seed=1)
    seen = set()
    for step in range(40):
        index = batches(step)
        frames = set(data.frame[index].tolist())
        assert len(index) == 12 == len(set(index.tolist())) and len(frames) == 2
        seen |= frames
    assert seen == {0, 2, 3}
    assert all(len(Batches(samples([0, 5, 0]), 4, 1, seed=s)(0)) == 4 for s in range(10))


def test_partial_cache_mixes_right():
    model = make_model(model_config())
    s = structure(0)
    points = torch.tensor(np.random.default_rng(0).uniform(0, 5, (20, 3)))
    zero, ones = torch.zeros(20, dtype=torch.int64), torch.ones(20)
    data = Samples([s], points, zero, torch.zeros(20, 1), ones, torch.arange(20))
    batch = data.batch(model.type_map, "cpu")
    one = 2 * 4 * 12 * 4
    caches = [GeometryCache(model, data, batch, budget) for budget in (20 * one, 7 * one + 1, 0)]
    index = torch.tensor([3, 19, 0, 7, 6])
    assert [0 if c.stored is None else len(c.stored) for c in caches] == [20, 7, 0]
    for cache in caches:
        torch.testing.assert_close(cache(index), model.geometry(batch, points[index], data.frame[index]))


def test_average():
    model = torch.nn.Linear(2, 1)
    average, first = Average(model, 0.5), model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1.0
    average.update(model)
    decay = min(0.5, 2 / 11)
    assert torch.allclose(average.values["weight"], first * decay + (first + 1) * (1 - decay))
    with average.applied(model):
        assert torch.equal(model.weight, average.values["weight"])
    assert torch.equal(model.weight, first + 1)


def test_batch_without_density(here):
    """Vacuum alone has no NMAE: nan in the curve, no crash."""
    rho = density(0)
    write(Density(rho.structure, rho.grid, 0 * rho.values), "zero.cube")
    train(input_config(["zero.cube"], {"training": {"validation_data": {"systems": ["zero.cube"]}}}))
    assert np.isnan(curve()["nmae_trn"]).all() and np.isfinite(curve()["rmse_trn"]).all()


def test_diverging_loss(here, cubes):
    config = input_config(cubes[:1], {"optimizer": {"type": "sgd"}, "learning_rate": {"start_lr": 1e18}})
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+; lower learning_rate/start_lr"):
        train(config)


def test_max_minutes(here, cubes, said):
    config = input_config(cubes[:1], {"training": {"numb_steps": 10**6, "max_minutes": 1e-3}})
    trainer = train(config)
    assert 0 < trainer.step < 10**6 and (here / f"model.ckpt-{trainer.step}.pt").exists()
    assert curve()["step"][-1] == trainer.step
    assert f"ended at step {trainer.step} of 1000000" in said()


def test_spin_uses_the_total(here, said):
    rho = density(0)
    spin = Density(rho.structure, rho.grid, np.concatenate([rho.values, 0.1 * rho.values[:, ::-1]]))
    write(spin, "CHGCAR")
    write(rho, "total.h5", dtype="float64")
    a, b = (Trainer(input_config([name])) for name in ("CHGCAR", "total.h5"))
    assert "CHGCAR: spin-polarised; the total density is used" in said()
    np.testing.assert_allclose(a.samples.target.numpy(), b.samples.target.numpy(), atol=1e-9)


def test_point_data(here):
    rho = density(0)
    weight = np.random.default_rng(0).uniform(0.5, 2, rho.n_points)
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1), weight / weight.mean()), "points")
    config = input_config(["points"], {"loss": {"weights": "importance"}, "training": {"sampler": {"type": "random"}}})
    trainer = train(config)
    assert trainer.step == 20 and trainer.samples.weight.std() > 0.2


@pytest.fixture
def bad(here):
    """Name -> a system that cannot be trained on."""
    rho = density(0)
    write(Density(rho.structure, rho.grid, rho.values, "response"), "response.h5")
    write(rho.__class__(rho.structure.with_(numbers=[14, 6, 6, 14]), rho.grid, rho.values), "carbon.cube")
    text = (here / "carbon.cube").read_text()
    (here / "nan.cube").write_text(text[: text.rindex("E") - 8] + "nan\n")
    return here


@pytest.mark.parametrize(
    "system, message",
    [
        ("response.h5", r"response\.h5#0: holds a response, but model/target is 'density'"),
        ("carbon.cube", r"carbon\.cube: species C not in type_map \['Si', 'O'\]"),
        ("nan.cube", r"nan\.cube: 1 values are nan or inf, the first in line \d+"),
        ("missing.cube", r"training/training_data/systems/0: missing\.cube: no such file or folder"),
    ],
)
def test_bad_systems(bad, system, message):
    with pytest.raises(InputError, match=message) as error:
        train(input_config([system]))
    assert "\n" not in str(error.value)
    assert not list(bad.glob("out.json")) and not list(bad.glob("lcurve*")) and not list(bad.glob("model*"))


def test_overrides_of_a_system(here, cubes):
    entry = {"path": str(cubes[0]), "pbc": [1, 1, 0], "field": [0, 0, 0.5]}
    config = merged(input_config(cubes[:1]), {"training": {"training_data": {"systems": [entry]}}})
    (s,) = Trainer(config).samples.structures
    assert s.pbc.tolist() == [True, True, False] and s.field.tolist() == [0, 0, 0.5]


def test_what_the_data_cannot_teach_is_told(here, cubes, said):
    Trainer(input_config(cubes))
    assert "not learned" not in said() and "electric field" not in said()
    entry = {"path": str(cubes[0]), "field": [0, 0, 0.5]}
    changes = {"training": {"training_data": {"systems": [entry]}}, "model": {"type_map": ["Si", "H", "O"]}}
    Trainer(merged(input_config(cubes[:1]), changes))
    assert "does not see: it learns a mean over fields" in said() and "no atom of H, which model/type_map" in said()


def test_any_seed(here, cubes):
    train(input_config(cubes[:1], {"training": {"seed": 2**63 - 1, "numb_steps": 1}}))


def test_frames_of_different_size(here):
    with HDF5Writer("all.h5", "float64") as file:
        file.append(density(0))
        file.append(density(1, shape=(5, 6, 7), numbers=(14,)))
    trainer = train(input_config(["all.h5"]))
    assert torch.bincount(trainer.samples.frame).tolist() == [300, 210]


def test_earlier_run_is_kept(here, cubes, said):
    train(input_config(cubes, validated(cubes)))
    old = (here / "lcurve.out").read_text()
    train(input_config(cubes))
    text = "an earlier run lies here (continue it with -r): model.ckpt.best.pt, checkpoint, lcurve.out kept as *.old"
    assert text in said()
    assert (here / "lcurve.out.old").read_text() == old and (here / "model.ckpt.best.pt.old").exists()


def test_told_about_the_data(here, cubes, said):
    train(input_config(cubes, validated(cubes), {"training": {"training_data": {"batch_size": 10**6}}}))
    text = said()
    assert "frame1.cube is training data too" in text
    assert "training_data/batch_size 1000000: there are only 600 points" in text
    assert "baseline alone: validation nmae = " in text and "; best validation nmae " in text


def test_best_counts_electrons(here, cubes):
    """The best checkpoint integrates the validation points exactly, and differs from the run in its baseline only."""
    longer = {"training": {"numb_steps": 60, "disp_freq": 60}}
    trainer = train(input_config(cubes, validated(cubes), longer))
    before = trainer.validate()
    own = trainer.model.state_dict()
    best = checkpoint.tensors(checkpoint.load("model.ckpt.best.pt", checkpoint.CHECKPOINT), "state")
    assert {k for k in own if not torch.equal(own[k], best[k])} == {"baseline.coefficients"}
    trainer.model.load_state_dict(best)
    after = trainer.validate()
    assert 1e-5 < abs(before.integral_error / before.reference) < 0.01
    assert abs(after.integral_error / after.reference) < 1e-6
