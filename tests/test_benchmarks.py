"""The measurements run, the yardstick is the paper's model, and the page takes its figures from the newest results."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import docs, machine, table  # noqa: E402
from benchmarks.__main__ import NAMES  # noqa: E402
from benchmarks.cases import SYSTEMS, Timing, deep_charge, interleaved, rate, silicon  # noqa: E402
from benchmarks.naive import Naive, paper_model, some_tiles  # noqa: E402
from benchmarks.train import NaiveTraining  # noqa: E402


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
@pytest.mark.parametrize("species", [[14], [14, 8]])
def test_naive_is_the_exact_model(pbc, species):
    from dcharge import Grid, Structure
    from dcharge.predict import Predictor

    crystal = silicon(repeat=1, rattle=0.1)
    numbers = np.resize(species, len(crystal))
    cell = crystal.cell + np.array([[0, 0, 0], [0.7, 0, 0], [-0.4, 0.9, 0]])
    structure = Structure(numbers, crystal.positions, cell, pbc)
    grid = Grid((10, 9, 8), cell)
    model = paper_model(structure)
    tiles = some_tiles(grid, grid.n_points, 64)
    expected = Predictor(model).predict(structure, grid=grid, dtype=np.float64).values.reshape(-1)
    found = Naive(model, structure).predict(grid, tiles).numpy()
    np.testing.assert_allclose(found, expected[np.concatenate(tiles)], atol=1e-5 * np.abs(expected).max())


def test_naive_refuses_another_model():
    structure = silicon(repeat=1)
    with pytest.raises(ValueError, match="exact"):
        Naive(deep_charge(structure), structure)


@pytest.mark.parametrize("name", NAMES)
def test_measurement_runs(tmp_path, name):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if name in ("peers", "deepdft"):  # none at hand
        assert not path.exists()
        return
    result = json.loads(path.read_text())["benchmarks"][name]
    assert result["quick"] and result["machine"]["cpu"] and result["rows"]
    if name == "predict":
        for system in SYSTEMS:
            row = result["rows"][f"{system}, 1 thread: dcharge"]
            assert row["value"] > 0 and row["per_cpu_s"] > 0 and row["ratio"] > 0
        assert "met" in result["rows"]["silicon, 1 thread: dcharge over naive torch"]


def test_every_measurement_has_its_place():
    assert set(docs.ORDER) == set(NAMES)


def test_systems():
    """Densities of real silicon, aluminium and water; no two molecules of water in each other."""
    for name, density in {"silicon": 0.049, "aluminium": 0.060, "water": 0.100}.items():
        s = SYSTEMS[name]()
        assert len(s) / s.volume == pytest.approx(density, rel=0.01)
    difference = s.positions[:, None] - s.positions
    distance = np.linalg.norm(difference - s.cell[0, 0] * np.round(difference / s.cell[0, 0]), axis=-1)
    molecule = np.arange(len(s)) // 3
    assert distance[molecule[:, None] != molecule].min() > 1.5
    bonds = distance[np.arange(0, len(s), 3), np.arange(1, len(s), 3)]
    np.testing.assert_allclose(bonds, 0.97)


def test_naive_training_learns():
    """One step of it is a step of the same model: the loss falls."""
    structure = silicon(repeat=1)
    training = NaiveTraining(structure, 128)

    def loss():
        with torch.no_grad():
            return float((training.naive.chunk(training.parts[0]) - training.target[0]).abs().mean())

    before = loss()
    for _ in range(20):
        training.step()
    assert loss() < 0.8 * before


def test_timing():
    took = interleaved({"wait": lambda: time.sleep(0.02), "told": lambda: Timing(7.0, 9.0)}, 3)
    assert took["told"] == (7.0, 9.0)  # a call in another process times itself
    assert took["wait"].wall >= 0.02 > took["wait"].cpu
    assert rate(14, took["told"])["value"] == 2.0 and rate(18, took["told"])["per_cpu_s"] == 2.0


def test_old_figures_say_so():
    row = {"value": 3.0, "unit": "points/s", "old": "2026-01-01, A CPU"}
    assert table.cells("peer", row)[0] == "peer (old: 2026-01-01, A CPU)"
    text = table.markdown({"silicon, 1 thread: a": row, "silicon, 1 thread: b": row, "water: a": row})
    assert [line.split("|")[1].strip() for line in text[2::3]] == ["**silicon, 1 thread**", "**water**"]


def result(date, value, quick=False):
    about = {"date": date, "cpu": "A CPU", "cores": 2, "isa": "avx512", "torch": "2.13", "load": [0.1, 0.1, 0.1]}
    return {"machine": about, "quick": quick, "seconds": 1.0, "rows": {"row": {"value": value, "unit": "points/s"}}}


def test_page_takes_the_newest_figures(tmp_path):
    for name, entry in {"a": result("2026-01-01", 1.0), "b": result("2026-02-01", 2e6)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"benchmarks": {"predict": entry}}))
    (tmp_path / "c.json").write_text(json.dumps({"benchmarks": {"predict": result("2026-03-01", 3.0, quick=True)}}))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{docs.BEGIN}\nold\n{docs.END}\nafter\n")
    for _ in range(2):
        docs.refresh(page, tmp_path)
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith(f"{docs.END}\nafter\n") and "old" not in text
        assert "| row | 2 M points/s |" in text and "AVX-512" in text
    with pytest.raises(ValueError, match="once each"):
        docs.replaced("no markers", "text")
    docs.replaced(docs.PAGE.read_text(), "the real page has its markers")


def test_figures_as_text():
    assert [table.number(x) for x in (0, 0.00123, 2.5, 33.333, 1234.5, 2.5e6)] == [
        "0", "0.00123", "2.5", "33.3", "1,234", "2.5 M",
    ]  # fmt: skip
    assert table.cells("x", {"ratio": 0.25, "of": "of the time"})[4] == "25 % of the time"
    assert table.cells("x", {"value": 3.0, "unit": "MB", "target": "< 4 MB", "met": False})[5] == "< 4 MB (missed)"
    name = machine.file_name({"cpu": "Intel(R) Xeon(R) Processor @ 2.5GHz", "cores": 2, "date": "2026-11-21T02:00"})
    assert name == "intel-xeon-2-cores-2026-11-21.json"
