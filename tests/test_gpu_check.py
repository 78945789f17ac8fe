"""The check for machines with a GPU: its logic runs on the CPU, and says so where there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_check import checks, model, ops, standins  # noqa: E402
from benchmarks.gpu_check.__main__ import main  # noqa: E402
from dcharge.ops import library  # noqa: E402

DRY = ["--device", "cpu", "--quick", "--no-build"]


@pytest.mark.skipif(not library.loaded(), reason="kernels not built")
def test_dry_run(tmp_path, capsys):
    path = tmp_path / "results.json"
    assert main([*DRY, "--json", str(path)]) == 0, capsys.readouterr().out
    result = json.loads(path.read_text())["benchmarks"]["gpu"]
    assert result["quick"] and all(row["ok"] for row in result["checks"])
    names = " ".join(row["name"] for row in result["checks"])
    for op in ops.OPS:
        assert f"{op}, opcheck" in names and f"{op}, 37 points, float32" in names
    assert "training step, float64" in names and "whole grid, float32" in names
    assert 0 < result["rows"]["radial_moments, float32"]["ratio"] and result["rows"]["copy"]["value"] > 0


def test_every_op_is_checked():
    assert set(library.COMPILED) - set(library.CPU_ONLY) == set(ops.OPS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_says_where_there_is_no_gpu(capsys):
    assert main([]) == 2 and "no GPU that torch can use" in capsys.readouterr().out


def test_a_wrong_kernel_is_found(monkeypatch, capsys):
    right = ops.OPS["gram"].make

    def wrong(system, dtype):
        call, inputs, arguments = right(system, dtype)
        return (call if dtype == torch.float64 else lambda a: call(a) * (1 + 1e-4)), inputs, arguments

    monkeypatch.setattr(checks, "OPS", {"gram": ops.Op(wrong, None, None)})
    check = checks.Checks()
    checks.op_checks(check, "cpu", quick=True)
    assert any("gram" in name and "float32" in name for name in check.failed)
    check("crash", lambda: 1 / 0)
    assert "ZeroDivisionError" in check.results[-1]["words"]


def test_needs_neither_ase_nor_dargs():
    pytest.importorskip("ase")
    from ase.data import chemical_symbols

    assert standins.SYMBOLS == chemical_symbols
    program = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'ase' else find(name, *a)\n"
        "sys.modules['dargs'] = None\n"
        "from benchmarks.gpu_check import standins, model\n"
        f"assert standins.without_ase(); sys.path.insert(0, {str(ROOT / 'python')!r})\n"
        "assert model.Setting('cpu', 'float32', 64).grid((3, 4, 5)).shape == (1, 3, 4, 5)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_model_is_the_default_one():
    from dcharge.config import normalize_model

    given = {"type": "deep_charge", "type_map": ["O", "Si"], "descriptor": {"rcut": 4.0}}
    assert model.CONFIG == normalize_model(given)
