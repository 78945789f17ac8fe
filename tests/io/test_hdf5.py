"""dcharge's own HDF5."""

import json

import h5py
import numpy as np
import pytest
from made import FORMATS, make_density

import dcharge.io as io
from dcharge.errors import InputError
from dcharge.grid import Grid
from dcharge.io.hdf5_writer import Slabs


@pytest.fixture
def file(tmp_path):
    """Three frames of different size, channels, kind and field."""
    frames = [make_density(0), make_density(1, (50, 40, 45), 2, (True, True, False), (0, 0, -1.0)), make_density(2)]
    frames[2].kind, frames[2].source = "response", {"code": "VASP", "xc": "PBE", "file": "a"}
    with io.HDF5Writer(tmp_path / "x.h5", "float64") as writer:
        for i, frame in enumerate(frames):
            writer.append(frame, f"frame {i}", n_electrons=None if i else 7.0)
    return tmp_path / "x.h5", frames


def test_round_trip(file):
    path, frames = file
    system = io.open_system(path)
    assert [f.name for f in system.frames] == ["x.h5#0", "x.h5#1", "x.h5#2"]
    assert [f.n_electrons for f in system.frames] == [7.0, None, None]
    for frame, before in zip(system.frames, frames, strict=True):
        after = frame.read()
        assert np.array_equal(after.values, before.values) and after.kind == before.kind == frame.kind
        assert after.grid.same_as(before.grid, 0) and frame.n_points == before.n_points
        for name in ("numbers", "positions", "cell", "pbc"):
            assert np.array_equal(getattr(after.structure, name), getattr(before.structure, name))
        assert (after.structure.field is None) == (before.structure.field is None)
    assert system.frames[2].read().source["xc"] == "PBE"


@pytest.mark.parametrize("compress", [None, "gzip"])
def test_points_without_reading_the_frame(tmp_path, compress):
    density = make_density(1, (50, 40, 45), 2)
    with io.HDF5Writer(tmp_path / "x.h5", "float64", compress) as writer:
        writer.append(make_density(0))
        writer.append(density)
    frame = io.open_system(tmp_path / "x.h5").frames[1]
    index = np.random.default_rng(0).integers(0, density.n_points, 1000)
    assert np.array_equal(frame.values_at(index), density.values_at(index))
    assert np.array_equal(frame.points(index), density.points(index))
    assert frame.values_at(np.zeros(0, dtype=int)).shape == (2, 0)
    with pytest.raises(InputError, match="outside the grid"):
        frame.values_at([density.n_points])


def test_a_file_written_anew_is_read_anew(tmp_path):
    for seed in (0, 1):
        density = make_density(seed)
        io.write(density, tmp_path / "x.h5")
        assert np.array_equal(io.open_system(tmp_path / "x.h5").frames[0].values_at([3, 1]), density.values_at([3, 1]))


def test_float32(tmp_path, density):
    io.write(density, tmp_path / "x.h5", dtype="float32")
    assert np.allclose(io.read(tmp_path / "x.h5").values, density.values, rtol=1e-7, atol=0)
    assert io.read(tmp_path / "x.h5", dtype=np.float32).values.dtype == np.float32


def test_augmentation_travels(tmp_path):
    before = io.read(FORMATS / "CHGCAR.spin.xz")
    io.write(before, tmp_path / "x.h5")
    io.write(io.read(tmp_path / "x.h5"), tmp_path / "CHGCAR")
    after = io.read(tmp_path / "CHGCAR")
    assert np.array_equal(after.values, before.values)
    assert after.extra["vasp"]["tails"] == before.extra["vasp"]["tails"]
    assert after.extra["vasp"]["header"] == before.extra["vasp"]["header"]


@pytest.mark.parametrize("order", ["tiles", "random"])
def test_tile_by_tile(tmp_path, order):
    density = make_density(0, (20, 12, 18), 2)
    tiles = list(density.grid.tiles(200, edge=4))
    if order == "random":
        everything = np.random.default_rng(0).permutation(density.n_points)
        tiles = np.array_split(everything, 17)
    with io.open_writer(tmp_path / "x.h5", density.structure, density.grid, 2, dtype=np.float64) as writer:
        for index in tiles:
            writer.put(index, density.values_at(index))
        assert writer.electrons == pytest.approx(density.electrons())
        writer.close(scale=2.0)
    assert np.array_equal(io.read(tmp_path / "x.h5").values, 2 * density.values)


def test_memory_of_tiles_is_a_few_planes():
    grid, done = Grid((64, 16, 16), np.eye(3)), []
    slabs = Slabs(1, grid.shape, lambda p, v: done.append(p))
    for index in grid.tiles(512):
        slabs.put(index, np.zeros((1, len(index))))
    assert done == list(range(64)) and len(slabs.buffer) <= 16 and slabs.left.sum() == 0


def test_trajectory_tile_by_tile(tmp_path):
    frames = [make_density(i, (6 + i, 5, 4)) for i in range(4)]
    with io.HDF5Writer(tmp_path / "x.h5", "float64") as writer:
        for i, density in enumerate(frames):
            writer.begin(density.structure, density.grid, name=f"step {i}")
            for index in density.grid.tiles(64, edge=4):
                writer.put(index, density.values_at(index)[0])
            writer.end()
    for frame, density in zip(io.read_frames(tmp_path / "x.h5"), frames, strict=True):
        assert np.array_equal(frame.values, density.values)


@pytest.mark.parametrize("what", ["missing", "twice", "nan", "interrupt", "abort"])
def test_nothing_is_left(tmp_path, density, what):
    if what == "abort":
        writer = io.open_writer(tmp_path / "x.h5", density.structure, density.grid)
        writer.put(np.arange(10), np.zeros(10))
        writer.abort()
    else:
        wrong = {"missing": ValueError, "twice": ValueError, "nan": InputError, "interrupt": KeyboardInterrupt}[what]
        with pytest.raises(wrong):
            with io.open_writer(tmp_path / "x.h5", density.structure, density.grid) as writer:
                values = density.values_at(slice(None))
                if what == "missing":
                    writer.put(np.arange(10), values[:, :10])
                elif what == "twice":
                    writer.put(np.zeros(60, dtype=int), values[:, :60])
                elif what == "nan":
                    writer.put(np.arange(density.n_points), values * np.nan)
                else:
                    raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_schema_is_as_documented(file):
    with h5py.File(file[0]) as f:
        assert f.attrs["format"] == "dcharge-density" and f.attrs["version"] == 1
        assert f["rho"].attrs["unit"] == "e/Angstrom^3" and f["positions"].attrs["unit"] == "Angstrom"
        assert f["offset"][:].tolist() == [0, 120, 120 + 2 * 90000]
        assert json.loads(f["source"][2])["code"] == "VASP" and f["n_atoms"][:].tolist() == [3, 3, 3]


def change(path, name, value):
    with h5py.File(path, "r+") as f:
        if name in f.attrs:
            f.attrs[name] = value
        elif value is None:
            del f[name]
        else:
            f[name][...] = value


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("format", "other", "not of dcharge"),
        ("version", 99, "version 99 of the format"),
        ("rho", None, "/rho is missing"),
        ("rho", np.nan, "density values are not finite"),
        ("offset", 10**9, "the frames need"),
        ("shape", 0, "grid shape"),
        ("cell", 0.0, "zero volume"),
    ],
)
def test_bad_files(file, name, value, message):
    change(file[0], name, value)
    with pytest.raises(InputError, match=message) as error:
        io.read(file[0])
    assert "x.h5" in str(error.value) and "\n" not in str(error.value)


def test_nan_at_points(file):
    change(file[0], "rho", np.nan)
    with pytest.raises(InputError, match="not finite"):
        io.open_system(file[0]).frames[0].values_at([0, 1])


def test_other_files_named_h5(tmp_path):
    (tmp_path / "x.h5").write_text("text")
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        io.read(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as f:
        f["rho"] = 1
    with pytest.raises(InputError, match="not of dcharge"):
        io.read(tmp_path / "y.h5")


def test_truncated(file):
    data = file[0].read_bytes()
    for cut in (0.3, 0.9):
        file[0].write_bytes(data[: int(len(data) * cut)])
        with pytest.raises(InputError, match="not a readable HDF5 file"):
            io.read(file[0])


def test_known_electron_count_is_checked(tmp_path, caplog, density):
    io.write(density, tmp_path / "x.h5", n_electrons=density.electrons() * 1.02)
    with caplog.at_level("WARNING", "dcharge"):
        io.read(tmp_path / "x.h5")
    assert "electrons" in caplog.text and "-1.96 %" in caplog.text
    caplog.clear()
    assert io.check_electrons(density, density.electrons() * 1.005) and not caplog.text
    assert not io.check_electrons(density, density.electrons() * 1.005, tolerance=1e-4)
