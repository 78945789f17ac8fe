"""The command on real silicon, from densities to a picture; and everything a user can give wrongly."""

import gzip
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny import SILICON, merged

import dcharge
from dcharge.cli import main


@pytest.fixture
def there(silicon, monkeypatch):
    monkeypatch.chdir(silicon)
    return silicon


@pytest.fixture
def copy(silicon, here):
    """Density and model in an empty folder."""
    for name in ("si8.cube.gz", "frozen.pth"):
        shutil.copy(silicon / name, here / name)
    return here


def test_train_and_freeze(there):
    made = {p.name for p in there.iterdir()}
    assert {"out.json", "lcurve.out", "checkpoint", "model.ckpt-20.pt", "model.ckpt-40.pt", "frozen.pth"} <= made
    assert not [name for name in made if name.startswith(".")]
    rows = np.genfromtxt("lcurve.out", names=True)
    assert rows["step"].tolist() == [10, 20, 30, 40] and rows["nmae_val"][-1] < 30
    meta = json.loads(torch.load("frozen.pth", weights_only=True)["meta"])
    assert meta["training"]["training_data"]["systems"][0]["path"] == "si8.cube.gz"


def test_restart(there, tmp_path, monkeypatch, capsys):
    for name in ("si8.cube.gz", "out.json", "model.ckpt-20.pt", "lcurve.out"):
        shutil.copy(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "out.json", "-r", "model.ckpt-20.pt"]) == 0
    assert "restart from step 20" in capsys.readouterr().err
    a, b = (torch.load(f / "model.ckpt-40.pt", weights_only=True) for f in (there, tmp_path))
    assert all(torch.equal(v, b[k]) for k, v in a.items() if k.startswith("state/"))


def test_test(there, capsys):
    assert main(["test", "-s", "si8.cube.gz", "--json", "report.json", "-d", "detail"]) == 0
    report = json.loads((there / "report.json").read_text())
    assert report["model"] == ["frozen.pth"] and report["frames"][0]["system"] == "si8.cube.gz"
    assert report["pooled"]["nmae_percent"] < 25 and report["baseline"]["nmae_percent"] < 25
    assert report["pooled"]["n_points"] == 16**3
    assert (there / "detail.si8.cube.gz.npz").exists() and (there / "detail.summary.txt").exists()
    out = capsys.readouterr()
    assert "NMAE" in out.err and not out.out


def test_predict(there):
    assert main(["predict", "si8.cube.gz", "--like", "si8.cube.gz", "-o", "rho.cube", "--electrons", "32"]) == 0
    rho, reference = dcharge.read("rho.cube"), dcharge.read("si8.cube.gz")
    assert rho.grid.same_as(reference.grid) and rho.electrons() == pytest.approx(32, rel=1e-6)
    assert np.abs(rho.total - reference.total).sum() < 0.25 * reference.total.sum()
    assert main(["predict", "si8.cube.gz", "--grid", "6", "6", "6", "--pattern", "r.%02d.cube"]) == 0
    assert (there / "r.00.cube").exists()


def test_plot(there):
    pytest.importorskip("matplotlib")
    assert main(["plot", "-s", "si8.cube.gz", "-o", "si.png", "--axis", "a"]) == 0
    assert (there / "si.png").read_bytes().startswith(b"\x89PNG")


def complaint(capsys, folder, args) -> str:
    """Run a command that must fail: exit code 1, one line on stderr, no file made. Returns the line."""
    before = sorted(p.name for p in folder.iterdir())
    code = main([*args, "-v", "WARNING"])
    out = capsys.readouterr()
    lines = [line for line in out.err.strip().split("\n") if " WARNING " not in line]
    assert code == 1 and not out.out and len(lines) == 1 and "Traceback" not in out.err
    assert lines[0].startswith("dcharge: error: ") and "this is a bug" not in lines[0]
    assert sorted(p.name for p in folder.iterdir()) == before
    return lines[0]


@pytest.mark.parametrize(
    "path, value, words",
    [
        ("training/numb_stepz", 5, "input.json: training/numb_stepz: unknown key; did you mean 'numb_steps'?"),
        ("model/descriptor/rcut", "6", "model/descriptor/rcut: a positive number expected, the string '6' given"),
        ("model/type", "deep_charm", "did you mean 'deep_charge'"),
        ("training/training_data/systems", ["no.cube"], "systems/0: no.cube: no such file or folder"),
        ("model/type_map", ["C"], "si8.cube.gz: species Si not in type_map ['C']"),
        ("model/precision", "float16", "model/precision: one of float32, float64 expected"),
        ("training/device", "gpu", "auto, cpu, cuda or cuda:N expected"),
        ("training/save_ckpt", "no/model", "there is no folder no"),
    ],
)
def test_bad_input(copy, capsys, path, value, words):
    config = merged(SILICON)
    *sections, name = path.split("/")
    at = config
    for section in sections:
        at = at[section]
    at[name] = value
    (copy / "input.json").write_text(json.dumps(config))
    assert words in complaint(capsys, copy, ["train", "input.json"])


@pytest.fixture
def damaged(copy):
    """Densities that are damaged, one by one."""
    rho = dcharge.read("si8.cube.gz")
    text = gzip.decompress((copy / "si8.cube.gz").read_bytes()).decode()
    (copy / "short.cube").write_text(text[: len(text) // 2])
    (copy / "short.cube.gz").write_bytes((copy / "si8.cube.gz").read_bytes()[:9000])
    values = text.split()
    (copy / "nan.cube").write_text(text.replace(values[-5], "nan"))
    dcharge.write(rho, "CHGCAR")
    lines = (copy / "CHGCAR").read_text().split("\n")
    (copy / "CHGCAR").write_text("\n".join(lines[:200]) + "\n")
    (copy / "points/set.000").mkdir(parents=True)
    (copy / "points/type.raw").write_text("0\n")
    (copy / "points/type_map.raw").write_text("Si\n")
    np.save(copy / "points/set.000/coord.npy", np.zeros((1, 3)))
    np.save(copy / "points/set.000/box.npy", np.eye(3).reshape(1, 9))
    np.save(copy / "points/set.000/grid.npy", np.zeros((1, 5, 3)))
    (copy / "input.json").write_text(json.dumps(SILICON))
    return copy


@pytest.mark.parametrize("command", ["train", "test"])
@pytest.mark.parametrize(
    "system, words",
    [
        ("short.cube", ["short.cube: line ", "4096"]),
        ("short.cube.gz", ["short.cube.gz"]),
        ("nan.cube", ["nan.cube: ", "nan or inf, the first in line "]),
        ("CHGCAR", ["CHGCAR: line 201: the file ends after ", "of 4096 values"]),
        ("points", ["points", "density.npy"]),
        ("frozen.pth", ["frozen.pth: of no density format that dcharge reads"]),
    ],
)
def test_damaged_densities(damaged, capsys, command, system, words):
    args = ["test", "-s", system, "--json", "report.json"]
    if command == "train":
        config = merged(SILICON, {"training": {"training_data": {"systems": [system]}}})
        (damaged / "input.json").write_text(json.dumps(config))
        args = ["train", "input.json"]
    line = complaint(capsys, damaged, args)
    assert all(w in line for w in words), line


@pytest.mark.parametrize(
    "args, words",
    [
        (["train", "inptu.json"], "inptu.json: no such file; did you mean 'input.json'?"),
        (["freeze", "-c", "no.pt"], "no.pt: no such file (checkpoint expected)"),
        (["freeze"], "no file 'checkpoint' in this folder"),
        (["test", "-m", "si8.cube.gz", "-s", "si8.cube.gz"], "si8.cube.gz: not a dcharge frozen model"),
        (["test", "-m", "no.pth", "-s", "si8.cube.gz"], "no.pth: no such file (frozen model expected)"),
        (["predict", "si8.cube.gz", "--grid", "4", "4", "4", "-o", "no/a.cube"], "there is no folder no"),
        (["predict", "si8.cube.gz", "--like", "other.cube", "-o", "a.cube"], "other.cube has another cell"),
        (["predict", "no.xyz", "--spacing", "1", "-o", "a.cube"], "no.xyz: no such file"),
        (["predict", "si8.cube.gz", "--spacing", "1", "--pattern", "a.cube"], "a frame number such as %06d"),
        (["plot", "-s", "si8.cube.gz", "-n", "3"], "frame 3 asked for; there are 1"),
        (["plot", "-s", "si8.cube.gz", "-o", "a.bmp"], ".png, .pdf or .svg expected"),
    ],
)
def test_bad_arguments(damaged, capsys, args, words):
    rho = dcharge.read("si8.cube.gz")
    cell = rho.grid.cell * 1.1
    stretched = dcharge.Density(rho.structure.with_(cell=cell), dcharge.Grid((2, 2, 2), cell), np.zeros((2, 2, 2)))
    dcharge.write(stretched, "other.cube")
    assert words in complaint(capsys, damaged, args)


def test_process(copy):
    """One real process: the exit code, one line, no traceback."""
    call = [sys.executable, "-m", "dcharge", "test", "-s", "missing.cube"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.strip().split("\n")[-1]
    assert last == "dcharge: error: missing.cube: no such file or folder" and "Traceback" not in done.stderr
