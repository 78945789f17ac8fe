"""Fresh points from a rotating pool: a function of seed and step, read in the background, streamed from tar files."""

import gzip
import shutil
import tarfile
import threading
import time

import numpy as np
import pytest
import torch
from tiny import PAINN, curve, density, input_config, merged, same_tensors

from dcharge.errors import InputError
from dcharge.io import open_system, write
from dcharge.pool import AHEAD, Pool
from dcharge.sampling import make_sampler
from dcharge.train import Trainer, train

N = 7
SHAPES = [(6, 5, 6 + i) for i in range(N)]
FRESH = {
    "training": {
        "sampler": {"type": "fresh", "pool": 3, "rotate": 2},
        "training_data": {"batch_size": 60, "frames_per_batch": 2},
        "disp_freq": 1,
        "save_freq": 1,
        "max_ckpt_keep": 100,
    }
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A tar file of compressed cubes: its path."""
    folder = tmp_path_factory.mktemp("tar")
    with tarfile.open(folder / "frames.tar", "w") as tar:
        for i, shape in enumerate(SHAPES):
            write(density(i, shape), folder / f"{i}.cube.gz")
            tar.add(folder / f"{i}.cube.gz", f"{i}.cube.gz")
            (folder / f"{i}.cube.gz").unlink()
    return folder / "frames.tar"


def config(systems, *changes):
    return input_config([systems], FRESH, *changes)


def pool(archive, *changes) -> Pool:
    return Pool(open_system(archive).frames, config(archive, *changes))


def frames_at(samples) -> list[int]:
    """Numbers of the frames behind a step's structures, told by their positions."""
    known = [density(i, (1, 1, 1)).structure.positions for i in range(N)]
    return [int(np.argmin([np.abs(k - s.positions).max() for k in known])) for s in samples.structures]


def test_a_function_of_seed_and_step(archive):
    first, again = pool(archive), pool(archive)
    steps = [first(step) for step in range(12)]
    for step in (11, 3, 4, 0):
        a, b = steps[step], again(step)
        for name in ("points", "frame", "target", "weight", "index"):
            assert torch.equal(getattr(a, name), getattr(b, name))
        assert frames_at(a) == frames_at(b)
    other = pool(archive, {"training": {"seed": 4}})
    assert any(not torch.equal(other(step).points, steps[step].points) for step in range(3))
    for a, b in zip(steps, steps[1:], strict=False):
        assert not torch.equal(a.index, b.index)


def test_points_and_targets_are_the_files(archive):
    frames = open_system(archive).frames
    samples = pool(archive)(5)
    assert torch.bincount(samples.frame).tolist() == [30, 30]
    for slot, number in enumerate(frames_at(samples)):
        mine, rho = samples.frame == slot, frames[number].read()
        index = samples.index[mine].numpy()
        np.testing.assert_allclose(samples.points[mine], rho.points(index), atol=1e-12)
        np.testing.assert_allclose(samples.target[mine, 0], rho.values_at(index)[0], rtol=1e-6)
    assert torch.equal(samples.weight, torch.ones(60, dtype=torch.float64))


def test_uniform_with_replacement(archive):
    """Counts of the points of one frame over many steps: those of independent uniform draws."""
    one = pool(archive, {"training": {"sampler": {"pool": 1, "rotate": 10**6}, "training_data": {"batch_size": 90}}})
    assert one.frames == 1 and one.each == 90
    index = torch.stack([one(step).index for step in range(400)])
    n = int(np.prod(SHAPES[one.number(0)]))
    counts = torch.bincount(index.flatten(), minlength=n).double()
    expected = index.numel() / n
    assert abs(float(((counts - expected) ** 2 / expected).sum()) / n - 1) < 5 * (2 / n) ** 0.5  # chi^2
    doubled = np.mean([len(set(row.tolist())) for row in index])  # n (1 - (1 - 1/n)^90) differ on average
    assert doubled == pytest.approx(n * (1 - (1 - 1 / n) ** 90), rel=0.01)


def test_frames_rotate(archive):
    """At every step frames of the window alone, and all frames in turn; each once before one comes again."""
    p = pool(archive)
    for step in range(2 * N * 2):
        window = [p.number(k) for k in range(step // 2, step // 2 + 3)]
        chosen = frames_at(p(step))
        assert set(chosen) <= set(window) and len(chosen) == 2
        assert len(p.held) <= 3 + AHEAD
    for epoch in range(3):
        assert sorted(p.number(epoch * N + k) for k in range(N)) == list(range(N))
    whole = pool(archive, {"training": {"sampler": {"pool": 20}, "training_data": {"frames_per_batch": 0}}})
    assert sorted(frames_at(whole(1000))) == list(range(N)) and whole.each == 60 // N and whole.size == N


class Slow:
    """A frame that takes its time, and notes who reads it."""

    def __init__(self, frame, readers):
        self.frame, self.readers = frame, readers

    def read(self, dtype):
        time.sleep(0.03)
        self.readers.append((self.frame.name, threading.current_thread().name))
        return self.frame.read(dtype)


def test_reads_in_the_background(archive, said):
    readers = []
    p = Pool([Slow(f, readers) for f in open_system(archive).frames], config(archive))
    p(0)
    time.sleep(0.03 * (3 + AHEAD) + 0.5)
    assert len(readers) == min(N, 3 + AHEAD) and all(name.startswith("reading") for _, name in readers)
    p.waited = 0.0
    for step in range(2, 2 * AHEAD):  # frames that were read meanwhile
        p(step)
    assert p.waited == 0.0
    p.tell(10.0)
    assert "steps waited 0.0 s of 10.0 s" in said() and "a larger" not in said()
    p.waited = 1.0
    p.tell(10.0)
    assert "a larger training/sampler/rotate (now 2) asks for fewer" in said()
    p.close()
    assert not p.held and len(p(3)) == 60


RUNS = {
    "deep_charge": {},
    "painn": {"model": PAINN, "training": {"ema": 0.9}},
    "all": {"training": {"sampler": {"pool": 9}}},
}


@pytest.mark.parametrize("name", RUNS)
def test_restart_continues_the_same_curve(archive, here, monkeypatch, name):
    write(density(9), "valid.cube")
    given = config(archive, {"training": {"validation_data": {"systems": [str(here / "valid.cube")]}}}, RUNS[name])
    whole = train(given)
    assert whole.validation is not None and len(whole.validation) == 12 * 10 * 12
    (here / "again").mkdir()
    for file in ("model.ckpt-9.pt", "lcurve.out"):
        shutil.copy(file, "again")
    monkeypatch.chdir(here / "again")
    again = train(given, restart="model.ckpt-9.pt")
    for column, values in curve(here / "lcurve.out").items():
        assert np.array_equal(values, curve()[column], equal_nan=True), column
    assert same_tensors(whole.model.state_dict(), again.model.state_dict()) and whole.best == again.best


def test_streamed_from_the_tar_file(archive, here, said):
    """Nothing is unpacked; the same as from the files themselves."""
    before, threads = sorted(archive.parent.iterdir()), set(threading.enumerate())
    inside = train(config(archive))
    assert sorted(archive.parent.iterdir()) == before and not list(here.glob("*.cube*"))
    assert (
        "7 frames, 3 of them in memory, one replaced every 2 steps; every step 30 fresh points of each of 2" in said()
    )
    (here / "files").mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(here / "files", filter="data")
    outside = train(config(here / "files"))
    assert same_tensors(inside.model.state_dict(), outside.model.state_dict())
    for thread in {t for t in threading.enumerate() if t.name.startswith("reading")} - threads:
        thread.join(60.0)  # a frame that is being read is read to its end, slowly where the machine is busy
        assert not thread.is_alive()


def test_it_learns(archive, here):
    """Fresh points bring the error down."""
    changes = {"training": {"numb_steps": 150, "disp_freq": 10, "save_freq": 1000}, "learning_rate": {"start_lr": 0.02}}
    train(config(archive, changes, {"model": {"baseline": {"type": "none"}}}))
    errors = curve()["nmae_trn"]
    assert errors[-3:].mean() < 0.5 * errors[0]


def test_a_damaged_frame(archive, here):
    """Found while it is read in the background: one line that names it."""
    shutil.copy(archive, here)
    (here / "files").mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(here / "files", filter="data")
    text = gzip.open(here / "files/4.cube.gz", "rt").read()
    with gzip.open(here / "files/4.cube.gz", "wt") as stream:
        stream.write(text[: len(text) // 2])
    p = Pool(open_system(here / "files").frames, config(here / "files"))
    with pytest.raises(InputError, match=r"4\.cube\.gz: ") as error:
        for step in range(60):
            p(step)
    assert "\n" not in str(error.value)


def test_bad_input(archive):
    with pytest.raises(InputError, match="training/validation_data/fraction: sampler 'fresh' keeps no points"):
        config(archive, {"training": {"validation_data": {"fraction": 0.2}}})
    with pytest.raises(InputError, match="training/sampler/pool: "):
        config(archive, {"training": {"sampler": {"pool": 0}}})
    with pytest.raises(InputError, match="sampler 'fresh': draws points at every step"):
        make_sampler({"type": "fresh", "pool": 2, "rotate": 1})
    carbon = merged(config(archive), {"model": {"type_map": ["Si"]}})
    with pytest.raises(InputError, match=r"frames\.tar:0\.cube\.gz: species O not in type_map"):
        Trainer(carbon)
