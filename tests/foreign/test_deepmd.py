"""Models of DeePMD-kit: the same density as DeePMD-kit's own, and what cannot be taken over is said in one line.

tests/foreign/deepmd holds tiny models and their densities, made by make_deepmd.py beside this file.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dcharge
from dcharge.cli import main
from dcharge.config import normalize_model
from dcharge.errors import InputError
from dcharge.foreign import deepmd
from dcharge.foreign.deepmd_file import read, read_tree
from dcharge.structure import Structure

FOLDER = Path(__file__).parent / "deepmd"
# file -> precision of the model
EXACT = {"si.yaml": "float32", "water.yaml": "float64", "water.dp": "float64"}


def known(name) -> tuple[Structure, np.ndarray, np.ndarray]:
    """Structure, probes [n, 3] and DeePMD-kit's densities [n] of a file."""
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    return Structure(kept["numbers"], kept["positions"], kept["cell"], True), kept["probes"], np.array(kept["density"])


def plain(x):
    """A tree with arrays as lists of DeePMD-kit's form, for json."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, list):
        return [plain(v) for v in x]
    if isinstance(x, np.ndarray):
        return {"@class": "np.ndarray", "@is_variable": True, "dtype": x.dtype.name, "value": x.tolist()}
    return x


def changed(tmp_path, changes: dict, name="si.yaml") -> Path:
    """A model file with values at paths like 'model/descriptor/type' replaced."""
    tree = read_tree(FOLDER / name).value
    for path, value in changes.items():
        *parents, last = path.split("/")
        place = tree
        for key in parents:
            place = place[int(key) if isinstance(place, list) else key]
        place[last] = value
    path = tmp_path / "model.json"
    path.write_text(json.dumps(plain(tree)))
    return path


@pytest.mark.parametrize("name", EXACT)
def test_same_density_as_deepmd(here, name):
    assert main(["convert-from", "deepmd", str(FOLDER / name), "-o", "frozen.pth"]) == 0
    predictor = dcharge.load("frozen.pth")
    structure, probes, density = known(name)
    limit = 1e-5 if EXACT[name] == "float32" else 1e-12
    assert np.ptp(density) > 0.1 * np.abs(density).max()
    np.testing.assert_allclose(predictor.at(structure, probes)[0], density, rtol=0, atol=limit * np.abs(density).max())
    assert predictor.model.config["precision"] == EXACT[name]
    assert predictor.meta["program"] == "DeePMD-kit" and predictor.meta["checkpoint"] == name


@pytest.mark.parametrize("name", EXACT)
def test_the_model_section_is_a_normal_one(name):
    model, _ = deepmd.convert(FOLDER / name)
    assert normalize_model(model.config) == model.config


@pytest.mark.parametrize("name", ["si.yaml", "water.dp"])
def test_the_mean_and_the_empty_rows_matter(name):
    """These models have a mean (davg); without it, or without the empty rows, the density is another one."""
    structure, probes, density = known(name)
    for constant in ("pair_mean", "slots"):
        model, _ = deepmd.convert(FOLDER / name)
        assert getattr(model, constant).ne(0).any()
        getattr(model, constant).zero_()
        other = dcharge.predict.Predictor(model).at(structure, probes)[0]
        assert np.abs(other - density).max() > 1e-3 * np.abs(density).max()


def test_smooth_where_an_atom_enters(tmp_path):
    """With a mean, s - mean is not zero at the cutoff; the empty row that the atom replaces is the same there."""
    predictor = dcharge.predict.Predictor(deepmd.convert(FOLDER / "water.dp")[0])
    far = Structure([8, 1], [[0, 0, 0], [2.0, 0, 0]], np.eye(3) * 30, True)
    x = np.linspace(-4.0 - 1e-6, -4.0 + 1e-6, 3)
    rho = predictor.at(far, np.stack([x, 0 * x, 0 * x], 1))[0]
    assert np.ptp(rho) < 1e-9 * abs(rho[0])


def test_more_neighbours_than_sel_are_said_once(said):
    model, _ = deepmd.convert(FOLDER / "si.yaml")
    predictor = dcharge.predict.Predictor(model)
    structure, probes, _ = known("si.yaml")
    predictor.at(structure, probes)
    assert "neighbours of one species" not in said()
    dense = structure.with_(positions=structure.positions * 0.8, cell=structure.cell * 0.8)
    rho = predictor.at(dense, probes)
    predictor.at(dense, probes)
    assert np.isfinite(rho).all() and said().count("neighbours of one species") == 1


def test_json_and_other_orders_are_the_same_model(tmp_path):
    """A JSON file of the same numbers; the position of X in the type map does not matter (water.dp: in the middle)."""
    a, b = read(FOLDER / "si.yaml"), read(changed(tmp_path, {}))
    assert a.source | {"file": ""} == b.source | {"file": ""} and a.mean == b.mean and a.type_map == ["Si"]
    assert read(FOLDER / "water.dp").type_map == ["H", "O"]
    for x, y in zip(a.fitting, b.fitting, strict=True):
        assert (x.weight == y.weight).all() and x.weight.dtype == np.float32


def test_the_output_in_vacuum_is_subtracted_where_deepmd_does(tmp_path):
    """atom_ener of X asks for it; water.dp has it, and without it the density is shifted by a constant."""
    structure, probes, density = known("water.dp")
    assert read(FOLDER / "water.dp").without_vacuum
    model, _ = deepmd.convert(changed(tmp_path, {"model/fitting/atom_ener": [None, None, None]}, "water.dp"))
    shift = dcharge.predict.Predictor(model).at(structure, probes)[0] - density
    assert np.ptp(shift) < 1e-9 and abs(shift[0]) > 1e-3


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model/type": "linear"}, "model/type: 'standard' expected, 'linear' found"),
        ({"model/type_map": ["O", "Si"]}, "model/type_map: one pseudo-atom 'X' expected, the types are: O Si"),
        ({"model/type_map": ["X", "Sj"]}, "'Sj' is not a chemical symbol; did you mean 'S'?"),
        ({"model/atom_exclude_types": [0, 1]}, "model/atom_exclude_types: holds 0, the grid point 'X' itself"),
        ({"model/pair_exclude_types": [[0, 1]]}, "model/pair_exclude_types: excluded pairs [[0, 1]] are not supported"),
        ({"model/descriptor/exclude_types": [[0, 1]]}, "descriptor/exclude_types: excluded pairs"),
        ({"model/descriptor/type": "se_atten"}, "'se_e2_a' or 'se_a' expected, 'se_atten' found"),
        ({"model/descriptor/sel": [4, 20]}, "model/descriptor/sel: 0 expected for 'X'"),
        ({"model/descriptor/sel": [0, 20]}, "davg: 2 x 20 x 4 finite numbers expected"),
        ({"model/descriptor/activation_function": "relu6"}, "one of tanh, relu, gelu"),
        ({"model/descriptor/env_protection": 0.1}, "convert with --interpolate"),
        ({"model/fitting/type": "dipole"}, "model/fitting/type: 'ener' or 'dos' expected"),
        ({"model/fitting/dim_out": 300}, "model/fitting/dim_out: 1 expected, 300 found; a density has numb_dos 1"),
        ({"model/fitting/numb_fparam": 1}, "model/fitting/numb_fparam: 0 expected"),
        ({"model/fitting/nets/networks": [None, None]}, "networks/0: the network is missing"),
        ({"model/descriptor/neuron": [4, 9]}, "networks/1/layers/1/@variables/w: 4 x 9 finite numbers expected"),
        ({"model": {}}, "model/type: missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over(here, tmp_path, changes, message, capsys):
    path = changed(tmp_path, changes)
    assert main(["convert-from", "deepmd", str(path), "-o", "out.pth"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"dcharge: error: {path}: ") and message in error
    assert not Path("out.pth").exists()


def test_files_that_are_none(here):
    for name, message in (
        ("frozen.pth", "first run: dp convert-backend frozen.pth frozen.dp"),
        ("model.txt", "named *.dp, *.yaml or *.json"),
        ("model.dp", "no such file"),
    ):
        with pytest.raises(InputError, match=message.replace("*", r"\*")):
            read_tree(name)
    Path("model.dp").write_bytes(b"no HDF5")
    Path("model.yaml").write_text("a: [1\n")
    Path("other.yaml").write_text("a: 1\n")
    for name, message in (("model.dp", "cannot be read"), ("model.yaml", "cannot be read"), ("other.yaml", "'model'")):
        with pytest.raises(InputError, match=f"^{name}: .*{message}"):
            read_tree(name)


def test_no_code_in_the_frozen_file(here):
    assert main(["convert-from", "deepmd", str(FOLDER / "si.yaml")]) == 0
    content = torch.load("frozen.pth", weights_only=True)
    assert content["format"] == "dcharge" and content["state/slots"].tolist() == [24]
