"""Models of DeePMD-kit: the same density as DeePMD-kit's own, and what cannot be taken over is said in one line.

tests/foreign/deepmd holds tiny models and their densities, made by make_deepmd.py beside this file.
"""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

import dcharge
from dcharge.cli import main
from dcharge.config import normalize_model
from dcharge.errors import InputError
from dcharge.foreign import deepmd
from dcharge.foreign.deepmd_file import read, read_tree
from dcharge.foreign.deepmd_table import NEAR, continued, far_points
from dcharge.structure import Structure

FOLDER = Path(__file__).parent / "deepmd"
# file -> precision of the model
EXACT = {"si.yaml": "float32", "water.yaml": "float64", "water.dp": "float64", "protected.yaml": "float64"}


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


def test_a_part_without_a_version_is_of_the_first(tmp_path):
    tree = read_tree(FOLDER / "si.yaml").value
    parts = [tree["model"], tree["model"]["descriptor"], tree["model"]["fitting"]]
    for part in parts:
        assert part.pop("@version") in (2, 4)  # as DeePMD-kit 3.2 wrote it
    path = tmp_path / "model.json"
    path.write_text(json.dumps(plain(tree)))
    assert read(path).type_map == ["Si"]


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
        ({"model/fitting/type": "dipole"}, "model/fitting/type: 'ener' or 'dos' expected"),
        ({"model/fitting/dim_out": 300}, "model/fitting/dim_out: 1 expected, 300 found; a density has numb_dos 1"),
        ({"model/fitting/numb_fparam": 1}, "model/fitting/numb_fparam: 0 expected"),
        ({"model/fitting/nets/networks": [None, None]}, "networks/0: the network is missing"),
        ({"model/descriptor/neuron": [4, 9]}, "networks/1/layers/1/@variables/w: 4 x 9 finite numbers expected"),
        ({"model/@version": 3}, "model/@version: 1 or 2 expected, 3 found; a Model of another version is not known"),
        ({"model/descriptor/@version": 3}, "model/descriptor/@version: 1 or 2 expected, 3 found; a Descriptor of"),
        ({"model/fitting/@version": 5}, "model/fitting/@version: 1 or 2 or 3 or 4 expected, 5 found"),
        ({"model/fitting/nets/@version": 2}, "model/fitting/nets/@version: 1 expected, 2 found; a NetworkCollection"),
        ({"model/descriptor/embeddings/networks/1/@version": "2"}, "networks/1/@version: 1 or 2 expected, '2' found"),
        ({"model/fitting/nets/networks/0/layers/2/@version": 3}, "layers/2/@version: 1 or 2 expected, 3 found"),
        ({"model/descriptor/compress": {}}, "descriptor/compress: a compressed model; convert it as it was before"),
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


@pytest.mark.parametrize("name", EXACT)
def test_interpolated(here, name, capsys):
    """For the fast kernels: DeePMD-kit's densities to 1e-5, and those of the exact model in another structure."""
    assert main(["convert-from", "deepmd", str(FOLDER / name), "--interpolate", "-o", "fast.pth"]) == 0
    assert "random atoms (--system: of your own structures)" in capsys.readouterr().err
    fast = dcharge.load("fast.pth")
    assert fast.model.config["embedding"] == "interpolated" and fast.model.config["precision"] == EXACT[name]
    assert normalize_model(fast.model.config) == fast.model.config
    assert fast.meta["interpolated"]["n_radial"] == fast.model.config["descriptor"]["n_radial"] <= 128
    structure, probes, density = known(name)
    scale = np.abs(density).max()
    np.testing.assert_allclose(fast.at(structure, probes)[0], density, rtol=0, atol=1e-5 * scale)
    exact = dcharge.predict.Predictor(deepmd.convert(FOLDER / name)[0])
    other = structure.with_(positions=structure.positions * 1.1, cell=structure.cell * 1.1)
    points = far_points(other, np.random.default_rng(4), 400)
    np.testing.assert_allclose(fast.at(other, points), exact.at(other, points), rtol=0, atol=1e-5 * scale)
    on_nucleus = fast.at(structure, structure.positions)
    assert np.isfinite(on_nucleus).all()
    away = fast.at(structure, structure.positions + 1e-4)
    assert np.abs(away - on_nucleus).max() < 1e-2 * np.abs(on_nucleus).max()  # no direction of approach


def test_continued_distance():
    """r itself from 0.3 Angstrom on; closer it stays positive, even in r, with value and slope kept at 0.3."""
    r = torch.linspace(0, 1, 1001, dtype=torch.float64)
    y = continued(r)
    assert (y[r >= NEAR] == r[r >= NEAR]).all() and (y[r < NEAR] > r[r < NEAR]).all()
    assert (y.diff() > 0).all() and 0.05 < float(y[0]) < 0.1
    edge = torch.tensor([NEAR - 1e-4], dtype=torch.float64)
    assert abs(float(continued(edge) - edge)) < 1e-15


def test_interpolation_in_another_precision_and_on_a_given_structure(here, capsys):
    structure, probes, density = known("water.dp")
    ase.io.write("POSCAR", structure.to_ase())
    command = ["convert-from", "deepmd", str(FOLDER / "water.dp"), "--interpolate", "--precision", "float32"]
    assert main([*command, "--system", "POSCAR"]) == 0
    assert "points of POSCAR" in capsys.readouterr().err
    fast = dcharge.load("frozen.pth")
    assert fast.model.config["precision"] == "float32"
    np.testing.assert_allclose(fast.at(structure, probes)[0], density, rtol=0, atol=1e-5 * np.abs(density).max())


def test_interpolation_that_fails_says_by_how_much(here, tmp_path, capsys):
    """A net that turns within hundredths of an Angstrom is beyond 128 functions."""
    tree = read_tree(FOLDER / "si.yaml").value
    layer = tree["model"]["descriptor"]["embeddings"]["networks"][1]["layers"][0]["@variables"]
    layer["w"] = layer["w"] * 300
    path = tmp_path / "wild.json"
    path.write_text(json.dumps(plain(tree)))
    assert main(["convert-from", "deepmd", str(path), "--interpolate"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "with 128 functions the density still differs by" in error and "convert without --interpolate" in error
    assert not Path("frozen.pth").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--system", "POSCAR"], "--system: says where --interpolate is measured, which is not given"),
        (["--interpolate", "--system", "POSCAR"], "POSCAR: holds H; the model knows Si"),
        (["--interpolate", "--system", "missing"], "missing"),
    ],
)
def test_systems_that_do_not_fit(here, options, message, capsys):
    ase.io.write("POSCAR", known("water.dp")[0].to_ase())
    assert main(["convert-from", "deepmd", str(FOLDER / "si.yaml"), *options]) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_no_code_in_the_frozen_file(here):
    assert main(["convert-from", "deepmd", str(FOLDER / "si.yaml")]) == 0
    content = torch.load("frozen.pth", weights_only=True)
    assert content["format"] == "dcharge" and content["state/slots"].tolist() == [24]
