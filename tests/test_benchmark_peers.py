"""Peers: the neighbour lists they are given, how their processes are driven, what is told of peers not at hand."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import docs  # noqa: E402
from benchmarks.peers import __main__ as peers  # noqa: E402
from benchmarks.peers import lists  # noqa: E402

# a stand-in for DeepDFT's model: the density is a sum over the edges of the graph, so a wrong graph shows
STANDIN = """
import torch

class PainnDensityModel(torch.nn.Module):
    def __init__(self, layers, width, cutoff):
        super().__init__()
        self.cutoff = cutoff

    def atom_model(self, d):
        print("noise on stdout")
        assert (d["atom_edges"][0].amax() < d["num_nodes"][0]) and d["atom_edges"].shape[1] == d["num_atom_edges"][0]
        return d["atom_xyz"][0], d["atom_xyz"][0]

    def probe_model(self, d, scalar, vector):
        atom, probe = d["probe_edges"][0].T
        where = scalar[atom] + d["probe_edges_displacement"][0] @ d["cell"][0]
        r = (where - d["probe_xyz"][0][probe]).norm(dim=1)
        assert (r <= self.cutoff + 1e-3).all()
        return torch.zeros(len(d["probe_xyz"][0])).index_add(0, probe, (self.cutoff - r) ** 2)[None]
"""


def test_lists():
    """k-d tree lists over images against all pairs, with atoms outside a cell that is smaller than the cutoff."""
    rng = np.random.default_rng(0)
    cell, cutoff = np.diag([3.0, 4.0, 7.0]), 4.5
    positions = rng.uniform(-1, 2, (6, 3)) @ cell
    points = rng.uniform(0.2, 0.5, (20, 3)) @ cell
    shift = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3, indexing="ij"), -1).reshape(-1, 3)
    everywhere = positions[:, None] + shift @ cell
    distance = np.linalg.norm(everywhere[None] - points[:, None, None], axis=-1)  # [point, atom, shift]
    expected = {(a, p, *shift[s]) for p, a, s in np.argwhere(distance < cutoff)}
    edges, shifts = lists.pairs(positions, cell, points, cutoff)
    assert {(*e, *s) for e, s in zip(edges.tolist(), shifts.tolist(), strict=True)} == expected
    assert len(edges) == len(expected)

    where, atom, index = lists.nearest(positions, cell, points, cutoff, 200)
    assert (index >= 0).sum() == len(expected)
    np.testing.assert_allclose((where - positions[atom]) @ np.linalg.inv(cell) % 1 % 1.0, 0, atol=1e-9)
    of_point = np.linalg.norm(where[index[0][index[0] >= 0]] - points[0], axis=1)
    np.testing.assert_allclose(np.sort(of_point), np.sort(distance[0][distance[0] < cutoff]))


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.peers", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_peer_takes_turns(tmp_path):
    (tmp_path / "densitymodel.py").write_text(STANDIN)
    done = run("--deepdft", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout.strip().splitlines()[-1])
    row = next(row for name, row in rows.items() if "PaiNN" in name and not row.get("old"))
    ours = rows["silicon, 1 thread: dcharge"]
    assert row["value"] > 0 and row["ratio"] == pytest.approx(ours["per_cpu_s"] / row["per_cpu_s"])
    assert "noise on stdout" in done.stderr


def test_a_wrong_peer_is_an_error(tmp_path):
    wrong = STANDIN.replace("(self.cutoff - r) ** 2)[None]", "(self.cutoff - r) ** 2)[None] + where[0, 0]")
    (tmp_path / "densitymodel.py").write_text(wrong)
    done = run("--deepdft", str(tmp_path))
    assert done.returncode and "'moved' differs" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("deepmd") is not None, reason="DeePMD-kit is installed here")
def test_a_peer_that_is_not_installed():
    if not (Path(sys.prefix) / "bin/python").exists():
        pytest.skip("not a virtual environment")
    done = run("--peers", sys.prefix)
    assert done.returncode == 0 and "deepmd-kit is not installed" in done.stderr


def test_committed_figures_are_marked(monkeypatch):
    about = {"date": "2026-01-02T03:04", "cpu": "A CPU"}
    rows = {"a: dcharge": {"value": 1.0}, "a: p": {"value": 2.0, "peer": "deepmd"}}
    rows["a: q"] = {"value": 3.0, "peer": "deepdft", "old": "2025-01-01, B"}
    monkeypatch.setattr(docs, "newest", lambda: {"peers": {"machine": about, "rows": rows}})
    assert list(peers.committed({})) == list(rows)
    assert peers.committed({"deepdft": None}) == {"a: p": {"value": 2.0, "peer": "deepmd", "old": "2026-01-02, A CPU"}}
    assert peers.committed({"deepmd": None})["a: q"]["old"] == "2025-01-01, B"


@pytest.mark.skipif("DEEPDFT" not in os.environ, reason="DEEPDFT: a checkout of the public code, is not set")
def test_public_deepdft_with_equal_weights():
    command = [sys.executable, "-m", "benchmarks.deepdft", "--quick", "--deepdft", os.environ["DEEPDFT"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(rows) == 2 * 2 * 5
    for name, row in rows.items():
        assert row["value"] > 0
        if "difference" in row:
            assert 0 < row["difference"] < 1e-5, name
        if "ratio" in row:
            ours = "dcharge training step" if "training step" in name else "dcharge, "
            peer = name.split(": ")[0]
            per_cpu_s = next(r["per_cpu_s"] for n, r in rows.items() if n.startswith(f"{peer}: {ours}"))
            assert row["ratio"] == pytest.approx(per_cpu_s / row["per_cpu_s"])
