"""The presets are inputs as they stand, and have the sizes that the papers print."""

import json
from pathlib import Path

import pytest

from dcharge.config import load_config
from dcharge.models import make_model
from dcharge.schedule import Schedule

PRESETS = Path(__file__).parent.parent / "examples/presets"
# preset -> features of a point, widths of the two nets, cutoff, iterations, frames of a step (FIREANN paper, Table 1)
TABLE_1 = {
    "fireann_qm9": (108, [32, 32], [16, 16], 4.0, 2, 16),
    "fireann_h2o_pt111": (108, [64, 64], [32, 32], 4.0, 2, 8),
    "fireann_au_response": (234, [128, 128], [64, 64], 6.0, 6, 8),
}


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.json")), ids=lambda p: p.stem)
def test_presets_are_inputs(path):
    config = load_config(path)
    make_model(config["model"])
    assert path.stem.startswith(config["model"]["type"]) and json.loads(path.read_text())["_comment"]


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1(name):
    features, fitting, orbital, rcut, iterations, frames = TABLE_1[name]
    config = load_config(PRESETS / f"{name}.json")
    model, d = config["model"], config["model"]["descriptor"]
    assert make_model(model).n_features == features and d["l_max"] == 2
    assert (model["fitting_net"]["neuron"], model["orbital_net"]["neuron"]) == (fitting, orbital)
    assert (d["rcut"], d["n_iterations"]) == (rcut, iterations)
    assert config["training"]["training_data"]["frames_per_batch"] == frames
    rate = config["learning_rate"]
    assert (rate["start_lr"], rate["factor"], rate["patience"], rate["stop_lr"]) == (1e-3, 0.5, 50, 1e-6)
    assert rate["patience_unit"] == "epochs" and config["optimizer"]["type"] == "adamw"
    assert config["training"]["validation_data"]["fraction"] == 0.1


def test_deepdft_is_the_public_code():
    """Parameter counts, and a learning rate that falls by 0.96 every 100000 steps."""
    for family, count in {"painn": 1_487_233, "schnet": 2_071_681}.items():
        config = load_config(PRESETS / f"{family}_qm9.json")
        assert sum(p.numel() for p in make_model(config["model"]).parameters()) == count
        schedule = Schedule(config["learning_rate"], config["training"]["numb_steps"])
        for step in (0, 100_000, 5_000_000):
            assert schedule.rate(step) == pytest.approx(1e-4 * 0.96 ** (step / 100_000), rel=1e-3)
        data = config["training"]["training_data"]
        assert (data["batch_size"], data["frames_per_batch"]) == (2000, 2) and config["loss"]["type"] == "mse"
        sampler = config["training"]["sampler"]
        assert (sampler["type"], sampler["pool"]) == ("fresh", 20)


def test_cgcnn_is_the_public_code():
    """Parameter count; 30 epochs of batches of 256, the rate as it was until epoch 100."""
    for name, n in {"polymers": 30_000, "zeolites": 8_000}.items():
        config = load_config(PRESETS / f"cgcnn_{name}.json")
        assert sum(p.numel() for p in make_model(config["model"]).parameters()) == 97_345
        steps, rate = config["training"]["numb_steps"], config["learning_rate"]
        assert config["training"]["training_data"]["batch_size"] == 256 and 29 * n <= 256 * steps <= 30 * n
        schedule = Schedule(rate, steps)
        assert schedule.rate(0) == schedule.rate(steps - 1) == 0.01
        assert schedule.rate(101 * n // 256) == pytest.approx(1e-3)


def test_deep_charge_is_the_papers():
    """337 201 weights in the fitting net and 4160 per species."""
    for name, n_types in {"water": 2, "si": 1, "al": 1, "almg": 2}.items():
        model = make_model(load_config(PRESETS / f"deep_charge_{name}.json")["model"])
        assert sum(p.numel() for p in model.parameters()) == 337201 + 4160 * n_types
