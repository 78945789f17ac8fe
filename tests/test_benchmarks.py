"""The measurements run, the yardstick is the paper's model, and the page takes its figures from the newest results."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import docs, machine, table  # noqa: E402
from benchmarks.cases import deep_charge, silicon  # noqa: E402
from benchmarks.naive import Naive, paper_model, some_tiles  # noqa: E402


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


def test_all_measurements_run(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(path.read_text())
    assert set(content["benchmarks"]) == set(docs.ORDER)
    for name, result in content["benchmarks"].items():
        assert result["quick"] and result["machine"]["cpu"] and result["rows"], name
    assert "2 threads: dcharge over naive" in content["benchmarks"]["predict"]["rows"]


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
    assert table.cells("x", {"ratio": 0.25, "of": "of the time"})[3] == "25 % of the time"
    assert table.cells("x", {"value": 3.0, "unit": "MB", "target": "< 4 MB", "met": False})[4] == "< 4 MB (missed)"
    name = machine.file_name({"cpu": "Intel(R) Xeon(R) Processor @ 2.5GHz", "cores": 2, "date": "2026-11-21T02:00"})
    assert name == "intel-xeon-2-cores-2026-11-21.json"
