"""`dcharge test`: metrics of a frozen model on known densities, the JSON report, the details."""

import json

import numpy as np
import pytest
from tiny import density, model_config

import dcharge
from dcharge.density import Density, PointDensity
from dcharge.errors import InputError
from dcharge.evaluate import compare, number, test
from dcharge.freeze import load_frozen, save_frozen
from dcharge.io import HDF5Writer, write
from dcharge.models import make_model
from dcharge.predict import Predictor

test.__test__ = False  # it is called as the command, and no test
KEYS = ["nmae_percent", "mae", "rmse", "r2", "max_error", "electron_error_percent", "n_points"]
POOLED = ["nmae_percent", "nmae_percent_frame_mean", *KEYS[1:]]


def deformed(seed, **options) -> Density:
    """A density that the model does not know exactly."""
    rho = density(seed, **options)
    x = rho.points()[:, 0].reshape(rho.grid.shape)
    return Density(rho.structure, rho.grid, rho.total * (1 + 0.2 * np.sin(x)) + 0.01)


@pytest.fixture
def system(here):
    """Three frames of different size."""
    with HDF5Writer("all.h5", "float64") as file:
        for seed, shape in enumerate([(6, 5, 7), (8, 8, 8), (4, 4, 4)]):
            file.append(deformed(seed, shape=shape))
    return "all.h5"


def by_hand(predicted, reference, weight):
    error, weight = predicted - reference, np.broadcast_to(weight, reference.shape)
    mean = (weight * reference).sum() / weight.sum()
    return {
        "nmae_percent": 100 * (weight * abs(error)).sum() / (weight * abs(reference)).sum(),
        "mae": (weight * abs(error)).sum() / weight.sum(),
        "rmse": np.sqrt((weight * error**2).sum() / weight.sum()),
        "r2": 1 - (weight * error**2).sum() / (weight * (reference - mean) ** 2).sum(),
        "max_error": abs(error).max(),
        "electron_error_percent": 100 * (weight * error).sum() / (weight * reference).sum(),
        "n_points": len(reference),
    }


def test_report(system, frozen):
    """The layout of the JSON, and every figure against numpy."""
    report = test([frozen], [system], json_file="report.json")
    assert json.loads(open("report.json").read()) == json.loads(json.dumps(report))
    assert list(report)[:7] == ["format", "version", "model", "target", "pooled", "baseline", "frames"]
    assert (report["format"], report["version"], report["target"]) == ("dcharge-test", 1, "density")
    assert report["model"] == [str(frozen)]
    assert list(report["pooled"]) == list(report["baseline"]) == POOLED
    model, _ = load_frozen(frozen)
    predict = dcharge.load(frozen)
    sums = {"model": [], "baseline": []}
    for i, frame in enumerate(report["frames"]):
        assert {"system", "name", "metrics", "baseline"} <= set(frame)
        assert frame["system"] == system and frame["name"] == f"all.h5#{i}"
        rho = dcharge.read(system, frame=i)
        both = predict.at(rho.structure, rho.points(), parts=True)
        for part, predicted, metrics in zip(sums, both, (frame["metrics"], frame["baseline"]), strict=True):
            assert list(metrics) == KEYS
            assert metrics == pytest.approx(by_hand(predicted[0], rho.total.ravel(), rho.grid.dv), rel=1e-5)
            sums[part].append((predicted[0], rho.total.ravel(), np.full(rho.n_points, rho.grid.dv)))
    for part, pooled in (("model", report["pooled"]), ("baseline", report["baseline"])):
        mean = pooled.pop("nmae_percent_frame_mean")
        assert pooled == pytest.approx(by_hand(*(np.concatenate(x) for x in zip(*sums[part], strict=True))), rel=1e-5)
        name = "metrics" if part == "model" else "baseline"
        assert mean == pytest.approx(np.mean([f[name]["nmae_percent"] for f in report["frames"]]))
    assert report["pooled"]["nmae_percent"] != pytest.approx(report["baseline"]["nmae_percent"])


def test_baseline_alone(system, frozen):
    """Its figures are those of a model whose network says nothing."""
    model, _ = load_frozen(frozen)
    model.output.weight.zero_()
    model.output.bias.zero_()
    save_frozen(model, "silent.pth", {})
    full, silent = test([frozen], [system]), test(["silent.pth"], [system])
    assert silent["pooled"] == pytest.approx(full["baseline"], rel=1e-5)


def test_without_baseline(system):
    save_frozen(make_model(model_config({"baseline": {"type": "none"}})), "plain.pth", {})
    report = test(["plain.pth"], [system])
    assert report["baseline"] is None and {f["baseline"] for f in report["frames"]} == {None}


def test_several_systems_and_frames(system, frozen, here):
    write(deformed(5), "one.cube")
    report = test([frozen], [system, "one.cube"], n=2)
    assert [(f["system"], f["name"]) for f in report["frames"]] == [
        (system, "all.h5#0"),
        (system, "all.h5#1"),
        ("one.cube", "one.cube"),
    ]
    assert len(test([frozen], [system, "one.cube"])["frames"]) == 4


def test_points(system, frozen, here, said):
    """Point data count by their weights; their electrons are undefined, also in the pool."""
    rho = deformed(0, shape=(6, 5, 7))
    weight = np.random.default_rng(0).uniform(0.5, 2, rho.n_points)
    weight /= weight.mean()
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1), weight), "points")
    report = test([frozen], ["points"], json_file="report.json")
    predicted = dcharge.load(frozen).at(rho.structure, rho.points())[0]
    expected = {**by_hand(predicted, rho.total.ravel(), weight), "electron_error_percent": None}
    metrics = report["frames"][0]["metrics"]
    assert metrics.pop("electron_error_percent") is expected.pop("electron_error_percent")
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert '"electron_error_percent": null' in open("report.json").read()
    assert "in one test" not in said()
    assert test([frozen], ["points", system])["pooled"]["electron_error_percent"] is None
    assert "grids and free points in one test" in said()


def test_perfect_model(here, frozen):
    """A density the model predicted itself: no error."""
    rho = dcharge.load(frozen).predict(density(3).structure, shape=(6, 6, 6), dtype=np.float64)
    write(rho, "own.h5", dtype="float64")
    pooled = test([frozen], ["own.h5"])["pooled"]
    assert pooled["nmae_percent"] < 1e-4 and pooled["r2"] == pytest.approx(1) and pooled["max_error"] < 1e-5


def test_spin_counts_the_total(here, frozen, said):
    rho = deformed(0)
    write(Density(rho.structure, rho.grid, np.concatenate([rho.values, 0.3 * rho.values])), "CHGCAR")
    write(rho, "total.h5", dtype="float64")
    a, b = (test([frozen], [name])["pooled"] for name in ("CHGCAR", "total.h5"))
    assert a == pytest.approx(b, rel=1e-6)
    assert "spin-polarised; the total density is used" in said()


def test_tiles_change_nothing(system, frozen):
    model, _ = load_frozen(frozen)
    rho = dcharge.read(system, frame=1)
    whole, cut = (compare(Predictor(model, tile=t), rho)[0].result() for t in (8192, 64))
    assert cut == pytest.approx(whole, rel=1e-5)


def test_details(system, frozen, here):
    """Reference and prediction of every frame; frames of one name do not overwrite each other."""
    for folder in ("a", "b"):
        (here / folder).mkdir()
        write(deformed("ab".index(folder), shape=(4, 5, 6)), here / folder / "CHGCAR")
    test([frozen], ["a/CHGCAR", "b/CHGCAR", system], prefix="out")
    found = sorted(p.name for p in here.glob("out*"))
    assert found == sorted(
        ["out.CHGCAR.npz", "out.CHGCAR_2.npz", "out.summary.txt"] + [f"out.all.h5_{i}.npz" for i in range(3)]
    )
    rho = dcharge.read("b/CHGCAR")
    with np.load("out.CHGCAR_2.npz") as file:
        assert np.allclose(file["reference"], rho.values) and np.allclose(file["cell"], rho.grid.cell)
        predicted = dcharge.load(frozen).predict(rho.structure, like=rho).values
        np.testing.assert_allclose(file["predicted"], predicted, atol=1e-5)
    summary = (here / "out.summary.txt").read_text()
    assert "# number of test frames : 5" in summary and "baseline" in summary and "NMAE" in summary


@pytest.mark.parametrize(
    "systems, message",
    [
        (["none.cube"], r"^none\.cube: no such file or folder"),
        (["response.h5"], r"response\.h5#0: holds a response, but model/target is 'density'"),
        (["carbon.h5"], r"carbon\.h5#0: species C not in type_map"),
        (["good.h5", "carbon.h5"], "species C not in type_map"),
    ],
)
def test_bad_systems(here, frozen, systems, message):
    rho = density(0, shape=(3, 3, 3))
    write(rho, "good.h5")
    write(Density(rho.structure, rho.grid, rho.values, "response"), "response.h5")
    write(Density(rho.structure.with_(numbers=[6, 8, 8, 14]), rho.grid, rho.values), "carbon.h5")
    with pytest.raises(InputError, match=message):
        test([frozen], systems, json_file="report.json")
    assert not (here / "report.json").exists()


def test_same_model_twice(frozen):
    with pytest.raises(InputError, match="is given twice"):
        test([frozen, frozen], ["x"])


def test_number():
    assert number(None) == "-" and number(1.23456789) == "1.23457"
