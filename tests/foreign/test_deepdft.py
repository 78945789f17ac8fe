"""Run folders of DeepDFT's public code: its densities and states, and what cannot be taken over is said in one line.

tests/foreign/deepdft holds tiny run folders and what the public code makes of them, from make_deepdft.py beside this
file: a molecule, a skewed crystal and a slab with heights below the cutoff, a probe on a nucleus, one in vacuum.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import dcharge
from dcharge import derivatives
from dcharge.analysis import iri
from dcharge.batch import Batch
from dcharge.cli import main
from dcharge.config import normalize_model
from dcharge.foreign import deepdft
from dcharge.grid import Grid
from dcharge.structure import Structure

FOLDER = Path(__file__).parent / "deepdft"
RUNS = ("painn", "schnet", "boxed")  # boxed: trained with ignore_pbc
NAMES = ("molecule", "crystal", "slab")


def known(run, name):
    """Structure, probes [n, 3] and all that is kept of a run and a structure."""
    kept = json.loads((FOLDER / f"{run}.json").read_text())[name]
    structure = Structure(kept["numbers"], kept["positions"], kept["cell"], kept["pbc"])
    return structure, np.array(kept["probes"]), kept


def close(a, b, limit):
    """Equal relative to the largest value."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=limit * np.abs(b).max())


@pytest.mark.parametrize("precision, limit", [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("run", RUNS)
def test_same_density_as_the_public_code(here, run, precision, limit):
    assert main(["convert-from", "deepdft", str(FOLDER / run), "--precision", precision]) == 0
    predictor = dcharge.load("frozen.pth")
    assert predictor.model.config["filters"] == ("exact" if precision == "float64" else "tabulated")
    assert predictor.meta["program"] == "DeepDFT" and predictor.meta["step"] == 60
    for name in NAMES:
        structure, probes, kept = known(run, name)
        density = kept[precision]["density"]
        assert np.ptp(density) > 0.5 * np.abs(density).max()
        close(predictor.at(structure, probes)[0], density, limit)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", RUNS)
def test_states_layer_by_layer(run, name):
    model, _ = deepdft.convert(FOLDER / run, "float64")
    structure, probes, kept = known(run, name)
    batch = model.seen(Batch.collate([structure], model.type_map))
    points, zero = torch.tensor(probes), torch.zeros(len(probes), dtype=torch.int64)
    with torch.no_grad():
        code = model.encode_atoms(batch)
        states = list(model.atom_states(batch))
        if model.config["type"] == "painn":
            atoms, state, probe_states = zip(*states, strict=True), None, []
            messages = model.point_messages(code, points, zero)
            for t, layer in enumerate(model.probe_layers):
                state = layer(state, messages[:, t, 0], messages[:, t, 1:], False)
                probe_states.append(state[0])
        else:
            atoms = [states]
            pairs = deepdft_pairs(model, batch, points, zero)
            probe_states = list(model.states(code, len(points), *pairs))
    expected = kept["float64"]
    for ours, theirs in zip(atoms, expected["atoms"], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            close(a, b, 1e-12)
    for a, b in zip(probe_states, expected["probes"], strict=True):
        close(a, b, 1e-12)


def deepdft_pairs(model, batch, points, frame):
    """Pairs of points and atoms, as the invariant family sums over them."""
    from dcharge.models.pairs import frame_pairs

    return frame_pairs(batch, points, frame, model.rcut)


@pytest.mark.parametrize("run", RUNS)
def test_the_model_section_is_a_normal_one(run):
    model, source = deepdft.convert(FOLDER / run)
    assert normalize_model(model.config) == model.config
    assert model.type_map == ["H", "C", "O"]  # by the optimizer's state
    assert model.config["ignore_pbc"] == (run == "boxed") and source["arguments"]["cutoff"] == model.reach


def copied(tmp_path, run="painn", change=None, arguments=()):
    """A run folder with options changed, and `change` done to the content of best_model.pth."""
    folder = tmp_path / "run"
    shutil.copytree(FOLDER / run, folder)
    given = json.loads((folder / "arguments.json").read_text()) | dict(arguments)
    (folder / "arguments.json").write_text(json.dumps({k: v for k, v in given.items() if v != "absent"}))
    if change:
        content = torch.load(folder / "best_model.pth", weights_only=True)
        change(content)
        torch.save(content, folder / "best_model.pth")
    return folder


def test_type_map(here, tmp_path, capsys):
    model, _ = deepdft.convert(FOLDER / "painn", type_map=["O", "H"])
    assert model.type_map == ["O", "H"]
    folder = copied(tmp_path, change=lambda content: content.pop("optimizer"))
    for options, message in (
        ([], "no optimizer state that tells which species were trained; give --type-map"),
        (["--type-map", "Sj"], "--type-map: 'Sj' is not a chemical symbol; did you mean 'S'?"),
    ):
        assert main(["convert-from", "deepdft", str(folder), *options]) == 1
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(["convert-from", "deepdft", str(folder), "--type-map", "N", "H"]) == 0
    assert dcharge.load("frozen.pth").model.type_map == ["N", "H"]
    assert main(["convert-from", "deepdft", str(FOLDER / "painn"), "--type-map", "N"]) == 1
    assert "never trained on N, only on H, C, O" in capsys.readouterr().err


def without(name):
    return lambda content: content["model"].pop(name)


def damaged(content):
    content["model"]["probe_model.readout_function.0.bias"][0] = float("nan")


@pytest.mark.parametrize(
    "arguments, change, message",
    [
        ({"cutoff": "absent"}, None, "arguments.json: cutoff: missing; is this a run of DeepDFT's runner.py?"),
        ({"cutoff": "4"}, None, "arguments.json: cutoff: a positive number expected, '4' found"),
        ({"node_size": 6.5}, None, "arguments.json: node_size: a positive integer expected, 6.5 found"),
        ({"ignore_pbc": 1}, None, "arguments.json: ignore_pbc: true or false expected, 1 found"),
        ({"node_size": 7}, None, "119 x 7 numbers expected from arguments.json, 119 x 6 found"),
        ({"num_interactions": 2}, None, "is unknown; weights of DeepDFT's painn with 2 layers expected"),
        ({"use_painn_model": False}, None, "weights of DeepDFT's schnet with 3 layers expected"),
        (
            {},
            without("probe_model.readout_function.2.bias"),
            "best_model.pth: no 'probe_model.readout_function.2.bias'",
        ),
        ({}, damaged, "best_model.pth: probe_model.readout_function.0.bias: holds nan or inf"),
        ({}, lambda content: content.pop("model"), "no mapping 'model' of tensors"),
    ],
)
def test_what_cannot_be_taken_over(here, tmp_path, arguments, change, message, capsys):
    folder = copied(tmp_path, change=change, arguments=arguments.items())
    assert main(["convert-from", "deepdft", str(folder), "-o", "out.pth"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"dcharge: error: {folder}") and message in error
    assert not Path("out.pth").exists()


class Code:
    """Something that runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("it_ran"),)


def test_files_that_are_none(here, capsys):
    """No folder, files missing, no JSON, code instead of numbers: which is never run."""

    def error():
        assert main(["convert-from", "deepdft", "run"]) == 1
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "run: a run folder of DeepDFT expected" in error()
    folder = here / "run"
    folder.mkdir()
    assert "arguments.json: no such file" in error()
    (folder / "arguments.json").write_text("{")
    assert "no readable JSON" in error()
    shutil.copy(FOLDER / "painn/arguments.json", folder)
    assert "best_model.pth: no such file" in error()
    (folder / "best_model.pth").write_bytes(b"no numbers")
    assert "not readable as numbers without code" in error()
    torch.save({"model": Code()}, folder / "best_model.pth")
    assert "not readable as numbers without code" in error() and not (here / "it_ran").exists()


def test_options_of_the_other_format(here, capsys):
    for options, message in (
        (["deepdft", "--interpolate"], "--interpolate: not an option of the format deepdft"),
        (["deepmd", "--type-map", "H"], "--type-map: not an option of the format deepmd"),
    ):
        assert main(["convert-from", options[0], "model", *options[1:]]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("run", RUNS)
def test_interaction_regions(here, run, capsys):
    """IRI and DORI of a published model: derivatives exist but on nuclei and at the cutoff, which is said."""
    from ase.units import Bohr

    assert main(["convert-from", "deepdft", str(FOLDER / run)]) == 0
    structure, *_ = known(run, "crystal")
    structure.to_ase().write("crystal.xyz", format="extxyz")
    grid = ["--grid", "3", "4", "3"]
    assert main(["analyze", "-m", "frozen.pth", "crystal.xyz", *grid, "--iri", "--dori", "-o", "x.cube"]) == 0
    assert "cusps at the nuclei" in capsys.readouterr().err
    model = derivatives.in_float64(dcharge.load("frozen.pth").model)
    points = Grid((3, 4, 3), structure.cell).points()
    rho, gradient, hessian = derivatives.Derivatives(model, smooth=False)(structure, points)
    h = 1e-4
    for a in range(3):
        step = np.eye(3)[a] * h
        both = [derivatives.Derivatives(model, 1, smooth=False)(structure, points + k * step) for k in (1, -1)]
        slope = [(up - down) / (2 * h) for up, down in zip(*both, strict=True)]
        assert np.median(np.abs(slope[0] - gradient[:, a])) < 1e-6 * np.abs(gradient).max()
        assert np.median(np.abs(slope[1] - hessian[:, a])) < 1e-6 * np.abs(hessian).max()
    found = np.array(" ".join(Path("x.iri.cube").read_text().splitlines()[6 + len(structure) :]).split(), dtype=float)
    full = rho * Bohr**3 > 1e-3
    assert full.any()
    np.testing.assert_allclose(found[full], iri(rho, gradient)[full], rtol=1e-4)
