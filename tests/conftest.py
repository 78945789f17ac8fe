"""What all tests share."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from tiny import SILICON, density, tiny_model

import dcharge.errors
from dcharge.cli import main
from dcharge.freeze import save_frozen
from dcharge.io import write

DATA = Path(__file__).parent / "data"

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_said():
    """Every test hears what is said once."""
    dcharge.errors._said.clear()


@pytest.fixture
def said(caplog):
    """Function -> all that dcharge logged, as one text."""
    caplog.set_level(logging.INFO, logger="dcharge")
    return lambda: "\n".join(r.getMessage() for r in caplog.records)


@pytest.fixture(scope="session")
def cubes(tmp_path_factory):
    """Two cubes of the analytic density: paths."""
    folder = tmp_path_factory.mktemp("cubes")
    for seed in (0, 1):
        write(density(seed), folder / f"frame{seed}.cube")
    return [folder / "frame0.cube", folder / "frame1.cube"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def frozen(tmp_path_factory):
    """A tiny frozen model of Si and O: its path."""
    path = tmp_path_factory.mktemp("frozen") / "tiny.pth"
    save_frozen(tiny_model(), path, {"checkpoint": "tiny"})
    return path


@pytest.fixture(scope="session")
def si8():
    """Real silicon: 8 atoms, CP2K PBE valence density, every third grid point."""
    return DATA / "si8.cube.gz"


@pytest.fixture(scope="session")
def silicon(tmp_path_factory, si8):
    """A folder with silicon's density, an input, and what `dcharge train` and `dcharge freeze` made of them."""
    folder = tmp_path_factory.mktemp("silicon")
    shutil.copy(si8, folder / "si8.cube.gz")
    (folder / "input.json").write_text(json.dumps(SILICON))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "input.json"]) == 0 and main(["freeze"]) == 0
    return folder


@pytest.fixture(scope="session")
def silicon_frozen(silicon):
    """A hardly trained model of silicon: its path."""
    return silicon / "frozen.pth"
