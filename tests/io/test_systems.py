"""What may be given as a system: files, folders, patterns, tar files."""

import gzip
import shutil
import tarfile

import numpy as np
import pytest
from made import FORMATS, chgcar, make_density

import dcharge.io as io
from dcharge.errors import InputError, UnsupportedFormat


@pytest.fixture
def folder(tmp_path):
    """Two cubes, a CHGCAR in a sub-folder with a CHG beside it, HDF5 of two frames, and things that are none."""
    here = tmp_path / "data"
    (here / "vasp/run").mkdir(parents=True)
    for i in range(2):
        io.write(make_density(i), here / f"b{i}.cube.gz")
    (here / "vasp/run/CHGCAR").write_text(chgcar())
    (here / "vasp/run/CHG").write_text(chgcar())
    (here / "vasp/run/AECCAR0").write_text(chgcar())
    shutil.copy(FORMATS / "ELFCAR.gz", here / "vasp/run/ELFCAR.gz")
    (here / "index.json").write_text("{}")
    (here / ".hidden.cube").write_text("x")
    with io.HDF5Writer(here / "c.h5") as writer:
        for i in range(2):
            writer.append(make_density(i))
    io.write(_points(), here / "points")
    return here


def _points():
    from dcharge.density import PointDensity

    density = make_density()
    return PointDensity(density.structure, density.points([1, 2]), density.values_at([1, 2]))


def test_folder(folder, caplog):
    with caplog.at_level("INFO", "dcharge"):
        system = io.open_system(folder)
    names = [f.name for f in system.frames]
    assert names == ["b0.cube.gz", "b1.cube.gz", "c.h5#0", "c.h5#1", "points#0", "vasp/run/CHGCAR"]
    assert "AECCAR0, CHG not used beside CHGCAR" in caplog.text
    assert len(system) == 6 and all(f.read().n_points == f.n_points for f in system)


def test_listing_reads_no_values(folder, monkeypatch):
    from dcharge.io import cube

    monkeypatch.setattr(cube, "read", None)
    monkeypatch.setattr(cube._io, "parse", None)
    frame = io.open_system(folder / "b0.cube.gz").frames[0]
    assert len(frame.structure) == 3 and frame.n_points == 120 and frame.grid.shape == (4, 5, 6)


def test_pattern(folder):
    names = [f.name for f in io.open_system(folder / "b*.cube.gz").frames]
    assert names == ["b0.cube.gz", "b1.cube.gz"]
    assert len(io.open_system(str(folder / "**/CHGCAR")).frames) == 1
    with pytest.raises(InputError, match="no file matches"):
        io.open_system(folder / "*.nothing")


def test_pattern_with_equal_names(tmp_path):
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "CHGCAR").write_text(chgcar())
    assert [f.name for f in io.open_system(tmp_path / "*/CHGCAR").frames] == ["a/CHGCAR", "b/CHGCAR"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_tar(tmp_path, suffix, said):
    io.write(make_density(0), tmp_path / "a.cube.zz")
    (tmp_path / "CHGCAR.gz").write_bytes(gzip.compress(chgcar().encode()))
    archive = tmp_path / f"all{suffix}"
    with tarfile.open(archive, "w:" + {".tgz": "gz", ".tar": ""}.get(suffix, suffix.split(".")[-1])) as tar:
        for name in ("a.cube.zz", "CHGCAR.gz"):
            tar.add(tmp_path / name, f"in/{name}")
        tar.add(FORMATS / "ELFCAR.gz", "in/ELFCAR.gz")
    system = io.open_system(archive)
    assert "1 member of other names not used: in/ELFCAR.gz" in said()
    assert [f.name for f in system.frames] == ["in/a.cube.zz", "in/CHGCAR.gz"]  # as in the archive
    assert np.allclose(system.frames[0].read().values, make_density(0).values, rtol=6e-6, atol=0)
    assert len(system.frames[1].structure) == 3


def test_list_of_tar_files(tmp_path):
    """The published data of DeepDFT: compressed members named by number in tar files, which a text file names."""
    values = {}
    for archive in ("b.tar", "a.tar"):
        with tarfile.open(tmp_path / archive, "w") as tar:
            for name in ("000002.CHGCAR.zz", "000001.cube.gz"):
                density = make_density(len(values))
                io.write(density, tmp_path / name)
                tar.add(tmp_path / name, name)
                values[f"{archive}/{name}"] = density.values
    (tmp_path / "one.CHGCAR").write_text(chgcar())
    (tmp_path / "all.txt").write_text("b.tar\na.tar\n\none.CHGCAR\n")
    frames = io.open_system(tmp_path / "all.txt").frames
    assert [f.name for f in frames] == [
        f"{archive}.tar/{name}" for archive in "ba" for name in ("000002.CHGCAR.zz", "000001.cube.gz")
    ] + ["one.CHGCAR"]
    for frame in frames[:4]:
        np.testing.assert_allclose(frame.read().values, values[frame.name], rtol=6e-6, atol=1e-9)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == []  # nothing is unpacked


def test_bad_lists(tmp_path):
    (tmp_path / "one.CHGCAR").write_text(chgcar())
    (tmp_path / "all.txt").write_text("one.CHGCAR\n\na.tar\n")
    with pytest.raises(InputError, match=r"all\.txt: line 3: a\.tar: no such file or folder"):
        io.open_system(tmp_path / "all.txt")
    for content in (b"a.tar\n", b"\n", b"\xff\xfe\x00"):
        (tmp_path / "all.txt").write_bytes(content)
        with pytest.raises(UnsupportedFormat, match="of no density format"):
            io.open_system(tmp_path / "all.txt")


def test_tar_without_densities(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(FORMATS / "ELFCAR.gz", "ELFCAR.gz")
    with pytest.raises(InputError, match="no density in this tar file"):
        io.open_system(tmp_path / "x.tar")
    (tmp_path / "y.tar").write_text("no tar")
    with pytest.raises(InputError, match="not a readable tar file"):
        io.open_system(tmp_path / "y.tar")


def test_overrides_reach_every_frame(folder):
    for frame in io.open_system(folder, pbc=["T", "F", "F"], field=[0, 0, 1]).frames:
        for structure in (frame.structure, frame.read().structure):
            assert structure.pbc.tolist() == [True, False, False] and structure.field.tolist() == [0, 0, 1]


def test_content_tells_where_the_name_does_not(tmp_path):
    (tmp_path / "density.dat").write_text(chgcar())
    io.write(make_density(), tmp_path / "x.cube")
    (tmp_path / "x.cube").rename(tmp_path / "rho.txt")
    io.write(make_density(), tmp_path / "x.h5")
    (tmp_path / "x.h5").rename(tmp_path / "rho.bin")
    assert io.read(tmp_path / "density.dat").source["format"] == "vasp"
    assert io.read(tmp_path / "rho.txt").source["format"] == "cube"
    assert io.read(tmp_path / "rho.bin").source["format"] == "hdf5"
    (tmp_path / "notes.txt").write_text("hello\n" * 10)
    with pytest.raises(UnsupportedFormat, match="of no density format that dcharge reads; expected CHGCAR"):
        io.read(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["CHGCAR_x", "x.CHGCAR", "run.chgcar.gz", "AECCAR2", "CHG.1", "PARCHG.gz"])
def test_names(tmp_path, name, density):
    io.write(density, tmp_path / name)
    assert io.read(tmp_path / name).source["format"] == "vasp"


@pytest.mark.parametrize("suffix", [".gz", ".zz", ".xz", ".bz2"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_compression(tmp_path, density, suffix, damage):
    path = tmp_path / f"x.cube{suffix}"
    io.write(density, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"not compressed at all")
    with pytest.raises(InputError, match=r"x.cube\.\w+: ") as error:
        io.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix, package", [(".lz4", "lz4"), (".zst", "zstandard")])
def test_optional_compression(tmp_path, density, suffix, package):
    path = tmp_path / f"x.cube{suffix}"
    try:
        __import__(package)
    except ImportError:
        path.write_bytes(b"x")
        with pytest.raises(InputError, match=f"need the package '{package}'"):
            io.read(path)
        with pytest.raises(InputError, match=f"pip install {package}"):
            io.write(density, path)
        return
    io.write(density, path)
    assert np.allclose(io.read(path).values, density.values, rtol=6e-6, atol=0)


def test_missing(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        io.read(tmp_path / "x.cube")
    with pytest.raises(InputError, match="no density in this folder"):
        io.read(tmp_path)
    with pytest.raises(InputError, match="frame 5 asked for; there are 1"):
        io.read(FORMATS / "CHGCAR.Si2.gz", frame=5)
    with pytest.raises(InputError, match="the name tells no format"):
        io.write(make_density(), tmp_path / "x.dat")


def test_unreadable_file(tmp_path):
    (tmp_path / "x.cube").mkdir()
    with pytest.raises(InputError):
        io.read(tmp_path / "x.cube")
