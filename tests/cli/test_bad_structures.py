"""Cells without volume, numbers that are none, atoms that coincide: one line from every command, and no file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.io import write as ase_write
from tiny import MODEL, density, structure

import dcharge
from dcharge.cli import main
from dcharge.density import PointDensity
from dcharge.io import points
from dcharge.ops import library

# fault -> (name of the array, change of it)
ARRAYS = {
    "flat": ("cell", lambda v: v.__setitem__(1, 2 * v[0])),
    "zero": ("cell", lambda v: v.__setitem__(0, 0)),
    "nan_cell": ("cell", lambda v: v.__setitem__((2, 1), np.nan)),
    "inf_cell": ("cell", lambda v: v.__setitem__((2, 1), np.inf)),
    "nan_atom": ("positions", lambda v: v.__setitem__((1, 2), np.nan)),
    "inf_atom": ("positions", lambda v: v.__setitem__((1, 2), np.inf)),
    "same": ("positions", lambda v: v.__setitem__(2, v[1])),
    "far": ("positions", lambda v: v.__setitem__((1, 2), 1e300)),
}
VOLUME, FINITE = "zero volume", "finite"
WORDS = {
    "flat": [VOLUME],
    "zero": [VOLUME],
    "nan_cell": ["cell", FINITE],
    "inf_cell": ["cell", FINITE],
    "nan_atom": ["atom 2", FINITE],
    "inf_atom": ["atom 2", FINITE],
    "same": ["atom 2 (O) and atom 3 (O) are 0.000 Angstrom apart; at least 0.1 expected (is an atom listed twice?)"],
    "far": ["atom 2: position is not a finite number below 1e+12 Angstrom"],
}
# the tables of text formats are refused where they are read, with the line
TEXT = {"nan_cell": ["line ", "nan"], "inf_cell": ["line ", "inf"], "nan_atom": ["line ", "atom 2 of 4", "nan"]}
TEXT["inf_atom"] = ["line ", "atom 2 of 4", "inf"]


def arrays(fault, cell, positions):
    """Cell and positions, copied and spoilt."""
    out = {"cell": cell.copy(), "positions": positions.copy()}
    if fault:
        name, change = ARRAYS[fault]
        change(out[name])
    return out["cell"], out["positions"]


def cube(fault):
    lines = Path("good.cube").read_text().split("\n")
    cell = np.array([line.split()[1:] for line in lines[3:6]], dtype=float)
    atoms = np.array([line.split() for line in lines[6:10]], dtype=float)
    cell, atoms[:, 2:] = arrays(fault, cell, atoms[:, 2:])
    lines[3:6] = [f"{n.split()[0]} {' '.join(map(str, row))}" for n, row in zip(lines[3:6], cell, strict=True)]
    lines[6:10] = [f"{int(row[0])} {' '.join(map(str, row[1:]))}" for row in atoms]
    Path("bad.cube").write_text("\n".join(lines))
    return "bad.cube"


def chgcar(fault):
    lines = Path("CHGCAR").read_text().split("\n")
    cell, atoms = (np.array([line.split() for line in lines[span]], dtype=float) for span in (CELL, ATOMS))
    cell, atoms = arrays(fault, cell, atoms)
    for span, rows in ((CELL, cell), (ATOMS, atoms)):
        lines[span] = [" ".join(map(str, row)) for row in rows]
    Path("CHGCAR.bad").write_text("\n".join(lines))
    return "CHGCAR.bad"


CELL, ATOMS = slice(2, 5), slice(8, 12)


def hdf5(fault):
    dcharge.write(density(0, shape=(4, 4, 4)), "bad.h5")
    with h5py.File("bad.h5", "r+") as file:
        cell, positions = arrays(fault, file["cell"][0], file["positions"][:])
        file["cell"][0], file["positions"][:] = cell, positions
    return "bad.h5"


def point_data(fault):
    rho = density(0, shape=(4, 4, 4))
    points.write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1)), "bad")
    box, coord = np.load("bad/set.000/box.npy"), np.load("bad/set.000/coord.npy")
    cell, positions = arrays(fault, box.reshape(3, 3), coord.reshape(4, 3))
    np.save("bad/set.000/box.npy", cell.reshape(box.shape))
    np.save("bad/set.000/coord.npy", positions.reshape(coord.shape))
    return "bad"


def extxyz(fault):
    atoms = structure(0).to_ase()
    cell, positions = arrays(fault, atoms.cell.array, atoms.positions)
    atoms.set_cell(cell)
    atoms.positions = positions
    ase_write("bad.xyz", atoms, format="extxyz")
    return "bad.xyz"


def dump(fault):
    cell, positions = arrays(fault, np.diag([5.0, 6.0, 7.0]), structure(0).positions)
    head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n4\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 {cell[1, 1]}\n0 7\n"
    rows = [f"{i + 1} {z} {x} {y} {w}" for i, (z, (x, y, w)) in enumerate(zip((1, 2, 2, 1), positions, strict=True))]
    Path("bad.dump").write_text(head + "ITEM: ATOMS id type x y z\n" + "\n".join(rows) + "\n")
    return "bad.dump"


def lammps_data(fault):
    _, positions = arrays(fault, np.eye(3), structure(0).positions)
    head = "a comment\n\n4 atoms\n2 atom types\n\n0 5 xlo xhi\n0 6.0 ylo yhi\n0 7 zlo zhi\n\nAtoms # atomic\n\n"
    rows = [f"{i + 1} {z} {x} {y} {w}" for i, (z, (x, y, w)) in enumerate(zip((1, 2, 2, 1), positions, strict=True))]
    Path("bad.data").write_text(head + "\n".join(rows) + "\n")
    return "bad.data"


LAMMPS = {"dump": dump, "data": lammps_data}
MAKERS = {"cube": cube, "chgcar": chgcar, "hdf5": hdf5, "points": point_data, "extxyz": extxyz, **LAMMPS}

# LAMMPS files have bounds instead of a cell, see test_bounds
CASES = [
    (kind, fault)
    for kind in MAKERS
    for fault in (None, *WORDS)
    if kind not in LAMMPS or fault is None or ARRAYS[fault][0] != "cell"
]


@pytest.fixture
def folder(here, frozen):
    rho = density(0, shape=(4, 4, 4))
    dcharge.write(rho, "good.cube")
    dcharge.write(rho, "CHGCAR")
    (here / "frozen.pth").symlink_to(frozen)
    (here / "out").mkdir()
    return here


def commands(system, kind):
    predict = ["predict", system, "--grid", "3", "3", "3", "-o", "out/rho.h5"]
    if kind in LAMMPS:
        return {"predict": [*predict, "--type-map", "Si", "O"]}
    if kind == "extxyz":
        return {"predict": predict}
    training = {"numb_steps": 2, "training_data": {"systems": [system]}, "device": "cpu"}
    Path("input.json").write_text(json.dumps({"model": MODEL, "training": training}))
    target = "out/all" if kind == "points" else "out/all.h5"
    return {
        "predict": predict,
        "train": ["train", "input.json", "-o", "out/out.json"],
        "test": ["test", "-s", system, "--json", "out/report.json"],
        "convert": ["convert", system, target],
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind, fault", CASES)
def test_every_command_tells(folder, capsys, kind, fault):
    system = MAKERS[kind](fault)
    known = {p.name for p in folder.iterdir()} | {"input.json"}
    for name, args in commands(system, kind).items():
        fine = fault is None or (fault == "same" and name == "convert")  # converting copies what is there
        if fine and name == "train":
            continue  # leaves files; other tests train
        code = main([*args, "-v", "ERROR"])
        error = capsys.readouterr().err
        if fine:
            assert code == 0, error
            continue
        assert code == 1 and error.count("\n") == 1 and "this is a bug" not in error, error
        text = TEXT if kind in ("cube", "chgcar") else {}
        assert error.startswith(f"dcharge: error: {system}"), error
        assert all(word in error for word in text.get(fault, WORDS[fault])), error
        assert {p.name for p in folder.iterdir()} <= known
    made = {p.name for p in (folder / "out").iterdir()}
    assert made <= ({"rho.h5", "report.json", "all", "all.h5"} if fault is None else {"all", "all.h5"} & made)
    assert fault in (None, "same") or not made


@pytest.mark.parametrize("bounds", ["0 nan", "0 0", "3 -inf"])
@pytest.mark.parametrize("kind", LAMMPS)
def test_bounds(folder, capsys, kind, bounds):
    system = LAMMPS[kind](None)
    text = Path(system).read_text()
    Path(system).write_text(text.replace("0 6.0", bounds))
    assert main([*commands(system, kind)["predict"], "-v", "ERROR"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and system in error and "this is a bug" not in error, error


def test_coincident_images(model_atoms):
    """Periodic images count, along periodic axes only, in any skew; the pair that is closest is named."""
    s = model_atoms
    image = s.positions.copy()
    image[3] = image[0] + s.cell[1] - 2 * s.cell[0] + [0, 0, 0.05]
    with pytest.raises(dcharge.InputError, match=r"atom 1 \(Si\) and a periodic image of atom 4 \(Si\) are 0\.050 Ang"):
        s.with_(positions=image).check_apart()
    s.with_(positions=image, pbc=(False, False, True)).check_apart()
    image[2] = image[1] + [0.0, 0.03, 0.0]
    with pytest.raises(dcharge.InputError, match=r"atom 2 \(O\) and atom 3 \(O\) are 0\.030 Angstrom apart"):
        s.with_(positions=image).check_apart()
    s.check_apart()
    with pytest.raises(dcharge.InputError, match=r"and a periodic image of atom 1 \(Si\) are 0\.080 Angstrom"):
        dcharge.Structure([14], [[0, 0, 0]], np.diag([0.08, 5, 5]), True).check_apart()
    with pytest.raises(dcharge.InputError, match="cell: too small, .* every atom coincides with its images"):
        dcharge.Structure([14], [[0, 0, 0]], np.eye(3) * 1e-4, True).check_apart()
    skewed = np.array([[3.0, 0, 0], [900, 3, 0], [0, 0, 3]])  # the cube of 3 Angstrom, in other vectors
    dcharge.Structure([14, 14], [[0, 0, 0], [1.5, 1.5, 1.5]], skewed, True).check_apart()
    dcharge.Structure([], np.zeros((0, 3)), np.eye(3), True).check_apart()


@pytest.fixture
def model_atoms():
    return structure(1)


def test_prediction_in_python(frozen):
    twice = structure(1).with_(positions=structure(1).positions[[0, 1, 1, 3]])
    for options in ({"shape": (3, 3, 3)}, {"points": np.zeros((1, 3))}, {"shape": (4, 4, 4), "coarse": 2}):
        with pytest.raises(dcharge.InputError, match="atom 2 .* and atom 3 .* are 0.000 Angstrom apart"):
            dcharge.load(frozen, "cpu").predict(twice, **options)


def test_unknown_precision_of_a_frozen_model(folder, capsys):
    import torch

    content = torch.load("frozen.pth", weights_only=True)
    config = json.loads(content["config"])
    content["config"] = json.dumps(config | {"precision": "bfloat16"})
    torch.save(content, "half.pth")
    assert main(["predict", "good.cube", "-m", "half.pth", "--grid", "2", "2", "2", "-o", "out/rho.h5"]) == 1
    error = capsys.readouterr().err
    assert "half.pth: " in error and "bfloat16" in error and error.count("\n") == 1


@pytest.mark.skipif(not library.loaded(), reason="kernels not built")
def test_unknown_instruction_set(folder):
    """A wish that the CPU cannot fulfil is told, and the best kernels that it can run answer."""
    call = [sys.executable, "-m", "dcharge", "predict", "good.cube", "--grid", "3", "3", "3", "-o", "rho.cube"]
    environment = {**os.environ, "DCHARGE_ISA": "sse9"}
    done = subprocess.run(call, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and done.stderr.count("DCHARGE_ISA=sse9: not one of avx512, avx2, baseline") == 1
    assert "Traceback" not in done.stderr
