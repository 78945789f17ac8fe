"""Nothing half written."""

import os
import signal
import subprocess
import sys
import time

import pytest
from made import FORMATS, make_density

import dcharge.io as io
from dcharge.errors import InputError
from dcharge.io.replacing import replacing, replacing_file

NAMES = ["x.cube", "x.cube.gz", "x.cube.zz", "CHGCAR", "CHGCAR.xz", "x.h5"]


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_leaves_the_old_file(tmp_path, density, name, monkeypatch):
    io.write(density, tmp_path / name)
    before = (tmp_path / name).read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=f"cannot write .*{name}: No space left on device"):
        io.write(make_density(1), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("name", ["x.cube", "CHGCAR", "x.cube.gz"])
def test_full_disk(tmp_path, name):
    target = tmp_path / name
    target.symlink_to("/dev/full")
    density = make_density(shape=(20, 20, 20))
    with pytest.raises(InputError, match="cannot write .*No space left on device"):
        io.write(density, target)


def test_full_disk_hdf5(tmp_path):
    """A limit on the size of files stands for a full disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from made import make_density\nimport dcharge.io as io\nfrom dcharge.errors import InputError\n"
        "for name in ('x.h5', 'x.cube', 'CHGCAR', 'points'):\n"
        "    try:\n"
        "        if name == 'points':\n"
        "            with io.PointWriter(sys.argv[1] + '/points') as w: w.append(make_density(shape=(40, 40, 40)))\n"
        "        else:\n"
        "            io.write(make_density(shape=(40, 40, 40)), sys.argv[1] + '/' + name)\n"
        "    except InputError as e: print('one line:', e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.count("one line: cannot write") == 4 and not done.stderr, done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_no_such_folder(tmp_path, density):
    for name in NAMES:
        with pytest.raises(InputError, match="there is no folder"):
            io.write(density, tmp_path / "none" / name)
    (tmp_path / "x.cube").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        io.write(density, tmp_path / "x.cube")


def test_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing_file(tmp_path / "x.gz") as stream:
        stream.write(b"x")
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "folder", folder=True) as part:
        (part / "x").write_text("x")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_links_are_followed(tmp_path, density):
    (tmp_path / "real.cube").write_text("old")
    (tmp_path / "link.cube").symlink_to("real.cube")
    io.write(density, tmp_path / "link.cube")
    assert (tmp_path / "link.cube").is_symlink() and io.read(tmp_path / "real.cube").n_points == 120


def test_kill_leaves_no_target(tmp_path):
    """kill -9 in the middle of writing: the target does not exist."""
    code = (
        "import sys, time\nimport dcharge.io as io\nfrom dcharge.io.replacing import replacing_file\n"
        "with replacing_file(sys.argv[1]) as f:\n    f.write(b'x' * 100)\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x.cube")], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    time.sleep(0.01)
    assert not (tmp_path / "x.cube").exists()


def test_writer_in_memory(tmp_path, density):
    for name in ("x.cube", "CHGCAR"):
        writer = io.open_writer(tmp_path / name, density.structure, density.grid, dtype="float64")
        for index in density.grid.tiles(32, edge=2):
            writer.put(index, density.values_at(index))
        assert writer.electrons == pytest.approx(density.electrons())
        assert not (tmp_path / name).exists()
        writer.close(scale=3.0)
        assert io.read(tmp_path / name).values == pytest.approx(3 * density.values, rel=6e-6)
    with (
        pytest.raises(ValueError, match="never put"),
        io.open_writer(tmp_path / "y.cube", density.structure, density.grid) as writer,
    ):
        writer.put([0], [1.0])
    assert not (tmp_path / "y.cube").exists()


def test_writer_like_a_chgcar(tmp_path):
    like = io.read(FORMATS / "CHGCAR.Si2.gz")
    with io.open_writer(tmp_path / "CHGCAR", like.structure, like.grid, extra=like.extra, dtype="float64") as writer:
        writer.put(range(like.n_points), like.values.reshape(1, -1))
    assert io.read(tmp_path / "CHGCAR").extra["vasp"]["tails"] == like.extra["vasp"]["tails"]
