"""Which device is taken, what is said where it cannot be, and predictions where the GPU's memory is short."""

import numpy as np
import pytest
import torch
from tiny import structure

import dcharge
from dcharge.cli import main
from dcharge.device import LEAST_POINTS, choose_device, out_of_memory, runs_on
from dcharge.errors import InputError
from dcharge.evaluate import compare
from dcharge.grid import Grid
from dcharge.predict import Predictor


@pytest.fixture
def gpus(monkeypatch):
    """Function: pretend that there are GPUs -> nothing."""

    def pretend(count=1, capability=(9, 0), torch_has=("sm_80", "sm_90"), dcharge_has=("sm_80", "PTX 80")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Pretended GPU")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(torch_has))
        monkeypatch.setattr("dcharge.ops.library.cuda_architectures", lambda: list(dcharge_has))

    return pretend


def test_choice(gpus):
    gpus(2)
    assert [str(choose_device(name)) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    gpus(0)
    assert str(choose_device("auto")) == str(choose_device("cpu")) == "cpu"


@pytest.mark.parametrize(
    "name, pretended, words",
    [
        ("gpu", {}, "device 'gpu': auto, cpu, cuda or cuda:N expected"),
        ("cuda:1", {}, "device 'cuda:1': there is one GPU, cuda:0"),
        ("cuda:4", {"count": 3}, "there are GPUs 0 to 2"),
        ("cuda", {"capability": (7, 0)}, "Pretended GPU has compute capability 7.0, torch was built for sm_80, sm_90"),
        ("cuda", {"dcharge_has": ["sm_90a"], "capability": (8, 6)}, "8.6, dcharge was built for sm_90a"),
    ],
)
def test_refused(gpus, name, pretended, words):
    gpus(**pretended)
    with pytest.raises(InputError) as error:
        choose_device(name)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_auto_leaves_a_gpu_that_it_cannot_use(gpus, said):
    gpus(capability=(7, 0))
    assert str(choose_device("auto")) == "cpu"
    assert "compute capability 7.0, torch was built for sm_80, sm_90; the CPU is used" in said()


@pytest.mark.parametrize(
    "architectures, yes, no",
    [
        (["sm_80"], [(8, 0), (8, 9)], [(7, 5), (9, 0)]),
        (["sm_86"], [(8, 6), (8, 9)], [(8, 0)]),
        (["sm_90a"], [(9, 0)], [(8, 0), (10, 0)]),
        (["PTX 80"], [(8, 0), (9, 0), (12, 0)], [(7, 5)]),
        (["sm_75", "compute_120"], [(7, 5), (12, 1)], [(9, 0)]),
        (["sm_120"], [(12, 0)], [(10, 0)]),
        (["gfx90a"], [(9, 0)], []),
    ],
)
def test_architectures(architectures, yes, no):
    assert all(runs_on(architectures, c) for c in yes) and not any(runs_on(architectures, c) for c in no)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize(
    "args",
    [
        ["train", "input.json"],
        ["test", "-s", "si8.cube.gz"],
        ["predict", "si8.cube.gz", "--grid", "2", "2", "2", "-o", "a.cube"],
    ],
)
@pytest.mark.parametrize("name", ["cuda", "cuda:7"])
def test_no_gpu_on_the_command_line(silicon, here, monkeypatch, capsys, args, name):
    monkeypatch.chdir(silicon)
    before = sorted(silicon.iterdir())
    assert main([*args, "--device", name, "-v", "ERROR"]) == 1
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert line.startswith(f"dcharge: error: device '{name}': torch ") and sorted(silicon.iterdir()) == before


def test_device_on_the_command_line(silicon, monkeypatch, capsys):
    monkeypatch.chdir(silicon)
    seen = []
    real = choose_device
    for place in ("predict", "train"):
        monkeypatch.setattr(f"dcharge.{place}.choose_device", lambda name: seen.append(name) or real("cpu"))
    assert main(["test", "-s", "si8.cube.gz", "--device", "cuda:3"]) == 0
    assert main(["predict", "si8.cube.gz", "--grid", "2", "2", "2", "-o", "device.cube"]) == 0
    monkeypatch.setattr("dcharge.train.Trainer.run", lambda self: None)
    assert main(["train", "input.json", "-o", "device.json"]) == 0
    assert main(["train", "input.json", "-o", "device.json", "--device", "cuda"]) == 0
    assert seen == ["cuda:3", "auto", "auto", "cuda"]
    assert main(["test", "-s", "si8.cube.gz", "--device", "gpu"]) == 2
    assert "'gpu': auto, cpu, cuda or cuda:N expected" in capsys.readouterr().err


class Small(Predictor):
    """A predictor on a device that holds the tensors of `room` points; `asked` are the points of every attempt."""

    def __init__(self, model, room, error, tile=8192):
        super().__init__(model, tile=tile)
        self.room, self.error, self.asked = room, error, []
        whole = self.model.geometry
        model.geometry = lambda batch, points, frame: self.fits(points) or whole(batch, points, frame)

    def fits(self, points):
        self.asked.append(len(points))
        if len(points) > self.room:
            raise self.error


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB.")


@pytest.fixture
def model(frozen):
    return dcharge.load(frozen, "cpu").model


@pytest.mark.parametrize("error", [NO_MEMORY, RuntimeError("CUDA: out of memory")], ids=["torch", "dcharge"])
@pytest.mark.parametrize("options", [{}, {"coarse": 2}, {"symmetry": True}, {"coarse": 2, "symmetry": True}], ids=str)
def test_smaller_tiles(frozen, model, said, error, options):
    """Half the points at a time until they fit, said once; the result is the same."""
    if "symmetry" in options:
        pytest.importorskip("spglib")
    s = structure(1)
    small = Small(model, 1500, error)
    rho = small.predict(s, shape=(24, 20, 30), dtype=np.float64, **options)
    tried = [n for n in small.asked if n > 1500]
    assert tried and tried == [tried[0] // 2**k for k in range(len(tried))]  # what did not fit is not tried again
    want = dcharge.load(frozen, "cpu").predict(s, shape=(24, 20, 30), dtype=np.float64, **options)
    np.testing.assert_allclose(rho.values, want.values, rtol=0, atol=1e-5 * np.abs(want.values).max())
    assert said().count("GPU memory is short") == 1


def test_smaller_tiles_in_a_test_and_at_points(frozen, model, said):
    s = structure(1)
    plain, small = dcharge.load(frozen, "cpu"), Small(model, 1024, NO_MEMORY)
    reference = plain.predict(s, grid=Grid((20, 20, 20), s.cell))
    errors, _, _ = compare(small, reference)
    assert errors.n_points == 8000 and errors.max_error < 1e-5
    points = np.random.default_rng(0).uniform(0, 5, (5000, 3))
    np.testing.assert_allclose(small.at(s, points), plain.at(s, points), rtol=0, atol=1e-5)


def test_no_tile_is_small_enough(model):
    small = Small(model, LEAST_POINTS - 1, NO_MEMORY)
    with pytest.raises(InputError, match=r"^out of memory with 1024 points at once .*Tried to allocate 7\.00 GiB"):
        small.predict(structure(1), shape=(30, 30, 30))
    assert small.asked == [n := small.asked[0], n // 2, n // 4, 1024] and n > 7000


def test_other_errors_pass(model):
    with pytest.raises(RuntimeError, match="something else"):
        Small(model, 10, RuntimeError("something else")).predict(structure(1), shape=(30, 30, 30))


def test_lost_words_of_an_allocation(gpus):
    """They mean memory in work on a GPU alone: not on the CPU of a machine that has a GPU too."""
    gpus()
    cpu, cuda = torch.device("cpu"), torch.device("cuda:0")
    lost = RuntimeError("torch_call_dispatcher(...) API call failed at x.cpp, line 3")
    assert out_of_memory(lost, cuda) and not out_of_memory(lost, cpu)
    assert out_of_memory(NO_MEMORY, cpu) and not out_of_memory(RuntimeError("points: wrong shape"), cuda)


def test_a_failure_on_the_cpu_is_told_as_it_is(model, gpus):
    gpus()
    small = Small(model, 10, RuntimeError("API call failed at x.cpp, line 3"))
    with pytest.raises(RuntimeError, match="API call failed"):
        small.predict(structure(1), shape=(30, 30, 30))
    assert len(small.asked) == 1
