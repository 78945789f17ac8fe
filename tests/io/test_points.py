"""DeePMD-kit style point data."""

import shutil

import numpy as np
import pytest
from made import make_density

import dcharge.io as io
from dcharge.density import PointDensity
from dcharge.errors import InputError


def points_of(density, n=20, seed=0, weight=True):
    rng = np.random.default_rng(seed)
    index = rng.choice(density.n_points, n, replace=False)
    weights = rng.uniform(0.5, 1.5, n) if weight else None
    return PointDensity(density.structure, density.points(index), density.values_at(index), weights)


def write_by_hand(folder, channels=1, flat=False):
    """The files as another program would write them."""
    rng = np.random.default_rng(0)
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n1\n1\n")
    (folder / "type_map.raw").write_text("O\nH\nX\n")
    arrays = {
        "coord": rng.uniform(0, 3, (2, 9)),
        "box": np.tile(np.eye(3).ravel() * 3, (2, 1)),
        "grid": rng.uniform(0, 3, (2, 5, 3)),
        "density": rng.uniform(0, 1, (2, 5, channels)),
    }
    for name, array in arrays.items():
        shape = (2, -1) if flat else array.shape
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(shape).astype(np.float32 if flat else float))
    return arrays


@pytest.mark.parametrize("flat", [False, True])
def test_files_of_others(tmp_path, flat):
    arrays = write_by_hand(tmp_path / "data", flat=flat)
    system = io.open_system(tmp_path / "data")
    assert [f.name for f in system.frames] == ["data#0", "data#1"]
    frame = system.frames[1]
    density = frame.read()
    assert density.structure.symbols == ["O", "H", "H"] and density.structure.pbc.all()
    assert np.allclose(density.positions, arrays["grid"][1], rtol=1e-6)
    assert np.allclose(density.values[0], arrays["density"][1, :, 0], rtol=1e-6)
    assert frame.n_points == 5 and frame.grid is None and len(frame.structure) == 3
    assert np.allclose(frame.values_at([4, 0]), density.values_at([4, 0]))
    assert np.allclose(frame.points([4, 0]), density.points([4, 0]))


@pytest.mark.parametrize("pbc", [(True, True, True), (False, False, False), (True, False, True)])
def test_round_trip(tmp_path, pbc):
    frames = [points_of(make_density(i, n_channels=2, pbc=pbc, field=(0, 0, 0.1 * i)), seed=i) for i in range(3)]
    for frame in frames:
        frame.kind = "response"
    with io.PointWriter(tmp_path / "data") as writer:
        for frame in frames:
            writer.append(frame)
    assert (tmp_path / "data/nopbc").exists() == (not any(pbc))
    again = list(io.read_frames(tmp_path / "data"))
    assert len(again) == 3
    for a, b in zip(again, frames, strict=True):
        assert np.array_equal(a.values, b.values) and np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.weight, b.weight) and a.kind == "response"
        assert np.array_equal(a.structure.pbc, b.structure.pbc)
        assert np.array_equal(a.structure.field, b.structure.field)


def test_several_compositions_and_sizes(tmp_path):
    one, two = make_density(0), make_density(1)
    two.structure = two.structure.with_(numbers=np.array([6, 1, 1]))
    with io.PointWriter(tmp_path / "data") as writer:
        for density, n in ((one, 10), (two, 10), (one, 12), (one, 10)):
            writer.append(points_of(density, n))
    system = io.open_system(tmp_path / "data")
    assert [f.name for f in system.frames] == ["C1H2#0", "O1H2#0", "O1H2#1", "O1H2#2"]
    assert [f.n_points for f in system.frames] == [10, 10, 10, 12]


def test_whole_grid(tmp_path, density):
    with io.PointWriter(tmp_path / "data", np.float32) as writer:
        writer.append(density)
    again = io.read(tmp_path / "data")
    assert np.allclose(again.values, density.values.reshape(1, -1), rtol=1e-7, atol=0)


def test_write_function(tmp_path, density):
    points = points_of(density, weight=False)
    io.write(points, tmp_path / "data")
    assert io.read(tmp_path / "data").weight is None
    with pytest.raises(InputError, match="exists already"):
        io.write(points, tmp_path / "data")


def test_overrides(tmp_path):
    write_by_hand(tmp_path / "data")
    density = io.read(tmp_path / "data", pbc="T T F", field="0 0 1")
    assert density.structure.pbc.tolist() == [True, True, False] and density.structure.field[2] == 1


def test_nopbc_needs_no_box(tmp_path):
    write_by_hand(tmp_path / "data")
    (tmp_path / "data/nopbc").touch()
    (tmp_path / "data/set.000/box.npy").unlink()
    assert not io.read(tmp_path / "data").structure.pbc.any()


def damage(folder, what):
    first = folder / "set.000"
    if what == "nan":
        values = np.load(first / "density.npy")
        values[1, 2] = np.nan
        np.save(first / "density.npy", values)
    elif what == "pickle":
        np.save(first / "density.npy", np.array([{}], dtype=object), allow_pickle=True)
    elif what == "shape":
        np.save(first / "density.npy", np.zeros((2, 4, 1)))
    elif what == "channels":
        np.save(first / "density.npy", np.zeros((2, 5, 3)))
    elif what == "type":
        (folder / "type.raw").write_text("0 1 7")
    elif what == "word":
        (folder / "type.raw").write_text("0 1 H")
    elif what == "symbol":
        (folder / "type_map.raw").write_text("O Hh")
    elif what == "cut":
        path = first / "grid.npy"
        path.write_bytes(path.read_bytes()[:150])
    elif what == "sets":
        shutil.rmtree(first)
    else:
        (folder / what).unlink()


@pytest.mark.parametrize(
    "what, message",
    [
        ("set.000/density.npy", r"set.000/density.npy: missing; the label, \[n_frames, n_points, 1\] e/Angstrom"),
        ("set.000/grid.npy", "set.000/grid.npy: missing"),
        ("set.000/box.npy", "set.000/box.npy: missing"),
        ("type_map.raw", "type_map.raw: missing"),
        ("nan", "data#1: 1 density values are not finite"),
        ("pickle", "density.npy: not a readable .npy file"),
        ("shape", r"density.npy: shape \[2, 4, 1\]; \[2, 5, 'any'\] expected"),
        ("channels", "density.npy: 3 channels"),
        ("type", "type.raw: type 7, but type_map.raw names 3 types"),
        ("word", "type.raw: whole numbers expected"),
        ("symbol", "type_map.raw: 'Hh' is not a chemical symbol; did you mean"),
        ("cut", "grid.npy: not a readable .npy file"),
        ("sets", "no set"),
    ],
)
def test_bad_data(tmp_path, what, message):
    write_by_hand(tmp_path / "data")
    damage(tmp_path / "data", what)
    with pytest.raises(InputError, match=message) as error:
        list(io.read_frames(tmp_path / "data"))
    assert "\n" not in str(error.value)


def test_nan_at_points(tmp_path):
    write_by_hand(tmp_path / "data")
    damage(tmp_path / "data", "nan")
    frame = io.open_system(tmp_path / "data").frames[1]
    with pytest.raises(InputError, match="density.npy: frame 1: 1 values are not finite"):
        frame.values_at([1, 2])
