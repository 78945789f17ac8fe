"""Training data: held-out points, point data, spin, systems that do not fit, what the log tells about them."""

import numpy as np
import pytest
import torch
from tiny import curve, density, input_config, merged, validated

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
