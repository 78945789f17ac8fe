"""Training runs on an analytic density: learning, the learning curve, ends of a run."""

import shutil

import numpy as np
import pytest
import torch
from tiny import FIREANN, NO_BASELINE, curve, input_config, same_tensors, validated

import dcharge.train
from dcharge.config import load_config
from dcharge.errors import InputError
from dcharge.metrics import Errors
from dcharge.train import Trainer, needed, train


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


@pytest.mark.parametrize("equi", [False, True])
def test_a_validation_encodes_a_frame_once(here, cubes, monkeypatch, equi):
    """However many parts its points take; the errors are those of parts that each encode what they need."""
    model = {"model": {**FIREANN, "variant": "equi" if equi else "v1"}}
    both = {"training": {"validation_data": {"systems": [str(c) for c in cubes]}}}
    trainer = Trainer(input_config(cubes, model, both))
    s, seen, chunk = trainer.validation, [], 200
    plain = Errors()
    with torch.no_grad():
        for frame in range(2):
            for index in (s.frame == frame).nonzero()[:, 0].split(chunk):
                batch, number = needed(trainer.validation_batch, s.frame[index])
                code, geometry = trainer.model.encode(batch), trainer.validation_geometry(index)
                rho = trainer.model.decode(code, s.points[index], number, geometry)
                plain.add(rho, s.target[index], s.weight[index].numpy(), integrable=False)
    encode = trainer.model.encode
    monkeypatch.setattr(dcharge.train, "CHUNK", chunk)
    monkeypatch.setattr(trainer.model, "encode", lambda batch: seen.append(len(batch.atoms)) or encode(batch))
    assert trainer.validate().result() == plain.result()
    assert len(s) > 2 * chunk and seen == [len(x) for x in s.structures]


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


def test_any_seed(here, cubes):
    train(input_config(cubes[:1], {"training": {"seed": 2**63 - 1, "numb_steps": 1}}))


@pytest.mark.parametrize("largest", [0.0, 1e-5])
def test_long_gradients_are_shortened(here, cubes, largest):
    """The step of plain gradient descent is then rate times the largest norm, along the same direction."""
    rate = 100.0
    plain = {"optimizer": {"type": "sgd", "momentum": 0.0}, "learning_rate": {"start_lr": rate}}
    trainer = Trainer(input_config(cubes[:1], plain, {"training": {"gradient_max_norm": largest}}))
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in weights]
    trainer.batch_loss(trainer.batches(0))[0].backward()
    gradient = torch.cat([p.grad.flatten() for p in weights])
    trainer.train_step()
    step = torch.cat([(p.detach() - b).flatten() for p, b in zip(weights, before, strict=True)])
    norm = float(gradient.norm())
    assert norm > 3e-5  # something is shortened
    factor = largest / (norm + 1e-6) if largest else 1.0  # torch adds 1e-6
    torch.testing.assert_close(step, -rate * factor * gradient, rtol=1e-3, atol=1e-6)
