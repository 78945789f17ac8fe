"""dcharge convert, through the function behind it and once through the command."""

import tarfile

import numpy as np
import pytest
from made import FORMATS, chgcar, make_density

import dcharge.io as io
from dcharge.density import PointDensity
from dcharge.errors import InputError
from dcharge.io.convert import convert


@pytest.fixture
def cubes(tmp_path):
    """Three cubes in a folder."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        io.write(make_density(i, (4 + i, 5, 6)), tmp_path / f"in/f{i}.cube.gz", digits=15)
    return tmp_path / "in"


def test_to_hdf5(cubes, tmp_path):
    with tarfile.open(tmp_path / "more.tar", "w") as tar:
        tar.add(FORMATS / "CHGCAR.spin.xz", "CHGCAR.spin.xz")
    sources = [cubes, cubes / "f[12].cube.gz", tmp_path / "more.tar", FORMATS / "CHGCAR.Si2.gz"]
    assert convert(sources, tmp_path / "all.h5", dtype="float64") == 7
    frames = list(io.read_frames(tmp_path / "all.h5"))
    assert [f.n_points for f in frames] == [120, 150, 180, 150, 180, 48**3, 24**3]
    assert np.allclose(frames[0].values, make_density(0).values, rtol=1e-13, atol=0)
    assert frames[5].channels == ("total", "spin") and frames[5].source["code"] == "VASP"
    io.write(frames[6], tmp_path / "CHGCAR")
    assert io.read(tmp_path / "CHGCAR").extra == io.read(FORMATS / "CHGCAR.Si2.gz").extra


def test_dtype_of_hdf5(cubes, tmp_path):
    convert([cubes], tmp_path / "a.h5")
    convert([tmp_path / "a.h5"], tmp_path / "b.h5", dtype="float64", compress="gzip")
    a, b = io.open_system(tmp_path / "a.h5").frames[0], io.open_system(tmp_path / "b.h5").frames[0]
    assert a.values_at([1]).dtype == np.float32 and b.values_at([1]).dtype == np.float64
    assert a.values_at([1]) == b.values_at([1])


def test_overrides_and_kind(cubes, tmp_path):
    convert([cubes], tmp_path / "a.h5", pbc=[True, False, False], field=[0, 0, 1], kind="response")
    frame = io.open_system(tmp_path / "a.h5").frames[1]
    assert frame.structure.pbc.tolist() == [True, False, False] and frame.structure.field[2] == 1
    assert frame.kind == "response"


def test_points(cubes, tmp_path):
    convert([cubes], tmp_path / "data", points=50, seed=3)
    convert([cubes], tmp_path / "again", points=50, seed=3)
    convert([cubes], tmp_path / "other", points=50, seed=4)
    frames = io.open_system(tmp_path / "data").frames
    assert [f.n_points for f in frames] == [50, 50, 50]
    for i, frame in enumerate(frames):
        density, points = make_density(i, (4 + i, 5, 6)), frame.read()
        where = np.linalg.norm(density.points()[:, None] - points.positions, axis=2).argmin(axis=0)
        assert len(set(where)) == 50
        assert np.allclose(points.values, density.values_at(where), rtol=1e-13, atol=0)
    same = [io.read(tmp_path / name).positions for name in ("data", "again", "other")]
    assert np.array_equal(same[0], same[1]) and not np.array_equal(same[0], same[2])
    with pytest.raises(InputError, match="121 points asked for, the frame has 120"):
        convert([cubes / "f0.cube.gz"], tmp_path / "x", points=121)


def test_points_from_hdf5_are_the_same(cubes, tmp_path):
    convert([cubes], tmp_path / "a.h5", dtype="float64")
    convert([cubes], tmp_path / "one", points=30)
    convert([tmp_path / "a.h5"], tmp_path / "two", points=30)
    for a, b in zip(io.read_frames(tmp_path / "one"), io.read_frames(tmp_path / "two"), strict=True):
        assert np.allclose(a.positions, b.positions) and np.allclose(a.values, b.values, rtol=1e-14, atol=0)


def test_points_of_points_keep_their_weights(tmp_path):
    rho, weight = make_density(0), np.linspace(0.5, 1.5, 120)
    io.write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1), weight), tmp_path / "data")
    convert([tmp_path / "data"], tmp_path / "some", points=20)
    some = io.read(tmp_path / "some")
    where = np.linalg.norm(rho.points()[:, None] - some.positions, axis=2).argmin(axis=0)
    assert np.allclose(some.weight, weight[where] / weight[where].mean()) and np.ptp(some.weight) > 0.1


def test_whole_grids_as_points(cubes, tmp_path):
    convert([cubes], tmp_path / "data")
    assert sorted(f.n_points for f in io.open_system(tmp_path / "data").frames) == [120, 150, 180]


def test_many_files(cubes, tmp_path):
    convert([cubes], str(tmp_path / "rho.%03d.cube"))
    assert sorted(p.name for p in tmp_path.glob("rho*")) == ["rho.000.cube", "rho.001.cube", "rho.002.cube"]
    convert([cubes], tmp_path / "out", format="chgcar")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["f0.CHGCAR", "f1.CHGCAR", "f2.CHGCAR"]
    assert len(io.open_system(tmp_path / "out").frames) == 3


def test_one_file(tmp_path):
    convert([FORMATS / "elec.cube.gz"], tmp_path / "CHGCAR.gz")
    a, b = io.read(FORMATS / "elec.cube.gz"), io.read(tmp_path / "CHGCAR.gz")
    assert np.allclose(a.values, b.values, rtol=1e-10) and a.structure.formula == b.structure.formula


def test_electron_count(tmp_path, caplog):
    with caplog.at_level("WARNING", "dcharge"):
        convert([FORMATS / "CHGCAR.Si2.gz"], tmp_path / "a.h5", electrons=8)
        assert not caplog.text
        convert([FORMATS / "CHGCAR.Si2.gz"], tmp_path / "b.h5", electrons=28)
    assert "holds 8.0000 electrons, 28 expected" in caplog.text
    assert io.open_system(tmp_path / "a.h5").frames[0].n_electrons == 8


@pytest.mark.parametrize(
    "target, options, message",
    [
        ("x.cube", {}, "3 frames for one file"),
        ("CHGCAR", {}, "3 frames for one file"),
        ("x.dat", {}, "the name tells no format"),
        ("x.h5", {"points": 5}, "--points makes point data"),
        ("x.%q.cube", {}, "one %d"),
        ("none/x.h5", {}, "there is no folder"),
        ("none/data", {"points": 5}, "there is no folder"),
    ],
)
def test_bad_targets(cubes, tmp_path, target, options, message):
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        convert([cubes], str(tmp_path / target), **options)
    assert set(tmp_path.iterdir()) == before


def test_nothing_half_written(cubes, tmp_path):
    (cubes / "f1.cube.gz").unlink()
    (cubes / "f1.cube").write_text("broken\n\n 1 0 0 0\n")
    before = set(tmp_path.iterdir())
    for target, options in (("x.h5", {}), ("data", {}), ("out", {"format": "cube"})):
        with pytest.raises(InputError, match="f1.cube: line 4"):
            convert([cubes], tmp_path / target, **options)
    assert set(tmp_path.iterdir()) == before


def test_points_have_no_grid(cubes, tmp_path):
    convert([cubes], tmp_path / "data", points=5)
    for target in ("x.h5", "x.%d.cube"):
        with pytest.raises(InputError, match="free points have no grid"):
            convert([tmp_path / "data"], str(tmp_path / target))
    assert not (tmp_path / "x.h5").exists()


def test_command(tmp_path, capfd):
    from dcharge.cli.main import main

    (tmp_path / "CHGCAR").write_text(chgcar())
    target = str(tmp_path / "x.cube")
    options = ["--pbc", "T", "T", "F", "--field", "0", "0", "-1e-1"]
    assert main(["convert", str(tmp_path / "CHGCAR"), target, *options]) == 0
    structure = io.read(target).structure
    assert structure.pbc.tolist() == [True, True, False] and structure.field[2] == -0.1
    capfd.readouterr()
    assert main(["convert", str(tmp_path / "none.cube"), target]) == 1
    told = capfd.readouterr().err
    assert told.count("\n") == 1 and "no such file or folder" in told
