"""Checkpoints: restarts that continue bit for bit, which are kept, the best one, files that do not fit."""

import shutil

import numpy as np
import pytest
import torch
from tiny import CGCNN, FIREANN, NO_BASELINE, PAINN, SCHNET, curve, input_config, same_tensors, validated

from dcharge import checkpoint
from dcharge.errors import InputError
from dcharge.train import Trainer, train

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
    "cgcnn": {"model": CGCNN, "training": {"ema": 0.9}},
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


def test_earlier_run_is_kept(here, cubes, said):
    train(input_config(cubes, validated(cubes)))
    old = (here / "lcurve.out").read_text()
    train(input_config(cubes))
    text = "an earlier run lies here (continue it with -r): model.ckpt.best.pt, checkpoint, lcurve.out kept as *.old"
    assert text in said()
    assert (here / "lcurve.out.old").read_text() == old and (here / "model.ckpt.best.pt.old").exists()


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
