"""--precision bf16: refused until a test of the model has accepted it; the verdict lives in the frozen file."""

import json

import numpy as np
import pytest
from tiny import density, model_config, tiny_model

import dcharge
from dcharge.cli.main import main
from dcharge.errors import InputError
from dcharge.evaluate import test as evaluate
from dcharge.freeze import load_frozen, save_frozen
from dcharge.io import write
from dcharge.models import make_model
from dcharge.predict import Predictor


@pytest.fixture
def own(here):
    """A model of this test's own, and rho.cube."""
    save_frozen(tiny_model(), "own.pth", {})
    write(density(0), "rho.cube")
    return "own.pth"


def set_verdict(path, rise):
    model, meta = load_frozen(path)
    save_frozen(model, path, meta | {"bf16": {"rise_percent": rise, "accepted": rise < 1}})


def test_verdict_is_measured_and_stored(own):
    with pytest.raises(InputError, match="has not been tested with it; run dcharge test -m own.pth .* --store"):
        dcharge.load(own, precision="bf16")
    assert main(["test", "-m", own, "-s", "rho.cube", "--precision", "bf16", "--store", "--json", "r.json"]) == 0
    found = json.load(open("r.json"))["bf16"]
    assert found == {k: v for k, v in load_frozen(own)[1]["bf16"].items() if k in found}
    by_hand = evaluate_rounded(own)
    assert found["nmae_percent"] == pytest.approx(by_hand, rel=1e-4)
    assert found["accepted"] == (found["rise_percent"] < 1)
    assert 0 < abs(found["nmae_percent"] / found["full_nmae_percent"] - 1)


def evaluate_rounded(path) -> float:
    """NMAE in percent with bfloat16, through the Python interface."""
    rho = dcharge.read("rho.cube")
    found = Predictor(load_frozen(path)[0], precision="bf16").predict(rho.structure, grid=rho.grid)
    return 100 * np.abs(found.total - rho.total).sum() / np.abs(rho.total).sum()


def test_refused_where_it_costs_too_much(own, capsys):
    set_verdict(own, 0.2)
    rounded, exact = (dcharge.load(own, precision=p).predict(density(0).structure, shape=(8, 8, 8)).total
                      for p in ("bf16", None))  # fmt: skip
    assert 0 < np.abs(rounded - exact).max() < 0.02 * np.abs(exact).max()
    set_verdict(own, 1.7)
    arguments = ["predict", "-m", own, "rho.cube", "--grid", "4", "4", "4", "-o", "out.cube", "--precision", "bf16"]
    assert main(arguments) == 1
    assert "raised NMAE by 1.70 % of its value" in capsys.readouterr().err
    assert main([*arguments[:-2], "--precision", "fp8"]) != 0


@pytest.mark.parametrize("change", [
    {"precision": "float64"},
    {"embedding": "exact", "standardize": False},
    {"fitting_net": {"activation_function": "gelu"}},
])  # fmt: skip
def test_models_without_it(here, change):
    save_frozen(make_model(model_config(change), 1), "other.pth", {})
    write(density(0), "rho.cube")
    with pytest.raises(InputError, match="--precision bf16: needs a model of precision float32"):
        evaluate(["other.pth"], ["rho.cube"], precision="bf16")
    set_verdict("other.pth", 0.1)
    with pytest.raises(InputError, match="--precision bf16: needs"):
        dcharge.load("other.pth", precision="bf16")
