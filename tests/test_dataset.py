"""Training data: held-out points, point data, spin, systems that do not fit, what the log tells about them."""

import numpy as np
import pytest
import torch
from tiny import curve, density, input_config, merged, validated

from dcharge.dataset import system_frames
from dcharge.density import Density, PointDensity
from dcharge.errors import InputError
from dcharge.io import HDF5Writer, write
from dcharge.train import Trainer, train


def test_fraction(here, cubes):
    """Held-out points are not trained on; the others are those of the run without."""
    config = input_config(cubes, {"training": {"validation_data": {"fraction": 0.25}}})
    trainer = Trainer(config)
    everything = Trainer(input_config(cubes))

    def points(s):
        return {(f, *p) for f, p in zip(s.frame.tolist(), s.points.tolist(), strict=True)}

    kept, held = points(trainer.samples), points(trainer.validation)
    assert len(held) == 150 and len(kept) == 450 and not kept & held
    assert kept | held == points(everything.samples)
    few = {"training": {"sampler": {"points_per_frame": 1}, "validation_data": {"fraction": 0.9}}}
    with pytest.raises(InputError, match="training/validation_data/fraction: no point of 2 is left for training"):
        Trainer(input_config(cubes, few))


def test_batch_without_density(here):
    """Vacuum alone has no NMAE: nan in the curve, no crash."""
    rho = density(0)
    write(Density(rho.structure, rho.grid, 0 * rho.values), "zero.cube")
    train(input_config(["zero.cube"], {"training": {"validation_data": {"systems": ["zero.cube"]}}}))
    assert np.isnan(curve()["nmae_trn"]).all() and np.isfinite(curve()["rmse_trn"]).all()


def test_spin_uses_the_total(here, said):
    rho = density(0)
    spin = Density(rho.structure, rho.grid, np.concatenate([rho.values, 0.1 * rho.values[:, ::-1]]))
    write(spin, "CHGCAR")
    write(rho, "total.h5", dtype="float64")
    a, b = (Trainer(input_config([name])) for name in ("CHGCAR", "total.h5"))
    assert "CHGCAR: spin-polarised; the total density is used" in said()
    np.testing.assert_allclose(a.samples.target.numpy(), b.samples.target.numpy(), atol=1e-9)


def test_point_data(here):
    rho = density(0)
    weight = np.random.default_rng(0).uniform(0.5, 2, rho.n_points)
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1), weight / weight.mean()), "points")
    config = input_config(["points"], {"loss": {"weights": "importance"}, "training": {"sampler": {"type": "random"}}})
    trainer = train(config)
    assert trainer.step == 20 and trainer.samples.weight.std() > 0.2


@pytest.fixture
def bad(here):
    """Name -> a system that cannot be trained on."""
    rho = density(0)
    write(Density(rho.structure, rho.grid, rho.values, "response"), "response.h5")
    write(rho.__class__(rho.structure.with_(numbers=[14, 6, 6, 14]), rho.grid, rho.values), "carbon.cube")
    text = (here / "carbon.cube").read_text()
    (here / "nan.cube").write_text(text[: text.rindex("E") - 8] + "nan\n")
    return here


@pytest.mark.parametrize(
    "system, message",
    [
        ("response.h5", r"response\.h5#0: holds a response, but model/target is 'density'"),
        ("carbon.cube", r"carbon\.cube: species C not in type_map \['Si', 'O'\]"),
        ("nan.cube", r"nan\.cube: 1 values are nan or inf, the first in line \d+"),
        ("missing.cube", r"training/training_data/systems/0: missing\.cube: no such file or folder"),
    ],
)
def test_bad_systems(bad, system, message):
    with pytest.raises(InputError, match=message) as error:
        train(input_config([system]))
    assert "\n" not in str(error.value)
    assert not list(bad.glob("out.json")) and not list(bad.glob("lcurve*")) and not list(bad.glob("model*"))


def test_overrides_of_a_system(here, cubes):
    entry = {"path": str(cubes[0]), "pbc": [1, 1, 0], "field": [0, 0, 0.5]}
    config = merged(input_config(cubes[:1]), {"training": {"training_data": {"systems": [entry]}}})
    (s,) = Trainer(config).samples.structures
    assert s.pbc.tolist() == [True, True, False] and s.field.tolist() == [0, 0, 0.5]


def test_what_the_data_cannot_teach_is_told(here, cubes, said):
    Trainer(input_config(cubes))
    assert "not learned" not in said() and "electric field" not in said()
    entry = {"path": str(cubes[0]), "field": [0, 0, 0.5]}
    changes = {"training": {"training_data": {"systems": [entry]}}, "model": {"type_map": ["Si", "H", "O"]}}
    Trainer(merged(input_config(cubes[:1]), changes))
    assert "does not see: it learns a mean over fields" in said() and "no atom of H, which model/type_map" in said()


def test_frames_of_different_size(here):
    with HDF5Writer("all.h5", "float64") as file:
        file.append(density(0))
        file.append(density(1, shape=(5, 6, 7), numbers=(14,)))
    trainer = train(input_config(["all.h5"]))
    assert torch.bincount(trainer.samples.frame).tolist() == [300, 210]


def test_told_about_the_data(here, cubes, said):
    train(input_config(cubes, validated(cubes), {"training": {"training_data": {"batch_size": 10**6}}}))
    text = said()
    assert "frame1.cube is training data too" in text
    assert "training_data/batch_size 1000000: there are only 600 points" in text
    assert "baseline alone: validation nmae = " in text and "; best validation nmae " in text


def test_frames_of_a_system(here, cubes):
    """A list of numbers, or a file that has it: how published data sets are split."""
    paths = [str(c) for c in cubes]
    (here / "all.txt").write_text("\n".join(paths))
    (here / "datasplits.json").write_text('{"train": [1], "validation": [0]}')
    names = [f.name for f in system_frames(["all.txt"])]
    for chosen, expected in (([1], [1]), ([1, 0], [1, 0]), ("datasplits.json:validation", [0]), (None, [0, 1])):
        assert [f.name for f in system_frames([{"path": "all.txt", "frames": chosen}])] == [names[i] for i in expected]
    parts = {
        part: {"systems": [{"path": "all.txt", "frames": f"datasplits.json:{name}"}]}
        for part, name in (("training_data", "train"), ("validation_data", "validation"))
    }
    trainer = Trainer(input_config([], {"training": parts}))
    assert len(trainer.samples.structures) == 1 and len(trainer.validation) > 0


@pytest.mark.parametrize(
    "frames, message",
    [
        ([2], r"systems/0: frames: all\.txt has frames 0 to 1, 2 is none of them"),
        ([-1], "-1 is none of them"),
        ([], "frames: an empty list"),
        ([1, 0, 1], "frames: 1 stands there twice"),
        ("datasplits.json:trian", r"no key 'trian' in datasplits\.json; did you mean 'train'\?"),
        ("missing.json:train", r"frames 'missing\.json:train': FILE\.json:KEY of a readable file expected"),
        ("datasplits.json:text", "a list of integers expected there"),
    ],
)
def test_frames_that_are_not_there(here, cubes, frames, message):
    (here / "all.txt").write_text("\n".join(map(str, cubes)))
    (here / "datasplits.json").write_text('{"train": [1], "text": ["1"]}')
    with pytest.raises(InputError, match=message):
        system_frames([{"path": "all.txt", "frames": frames}], "training/training_data/systems")
