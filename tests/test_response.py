"""The response to an electric field, from paired densities to a tested model; and what can be wrong with fields."""

import logging

import numpy as np
import pytest
import torch
from tiny import FIREANN, density, gaussians, input_config, model_config, stirred, structure

from dcharge import io
from dcharge.cli.main import main
from dcharge.density import Density
from dcharge.errors import InputError
from dcharge.evaluate import test
from dcharge.freeze import save_frozen
from dcharge.io.convert import convert
from dcharge.minibatch import Batches
from dcharge.models import make_model
from dcharge.predict import Predictor
from dcharge.structure import Structure
from dcharge.train import Trainer, needed

test.__test__ = False  # it is called as the command, and no test
RESPONSE = {"model": {**FIREANN, "field": True, "target": "response"}}
FIELDS = [(0.0, 0.0, 1.0), (0.5, 0.0, 0.0), (0.0, -0.5, 0.0), (0.3, 0.3, -0.6)]


def in_field(seed, field, shape=(12, 10, 12)) -> Density:
    """Atoms' Gaussians shifted against the field: exact dipoles on them, even about each atom in every direction."""
    s = structure(seed, pbc=False)
    rho = density(seed, shape, pbc=False)
    moved = s.with_(positions=s.positions - 0.05 * np.asarray(field))
    values = gaussians(moved, rho.grid.points()).reshape(shape)
    return Density(s.with_(field=field), rho.grid, values)


def write_pairs(seeds, fields=FIELDS):
    """Cubes <seed>_<k> in fields, and free/<seed> without; here."""
    from pathlib import Path

    Path("free").mkdir()
    for seed in seeds:
        io.write(in_field(seed, (0, 0, 0)), f"free/{seed}.cube", digits=12)
        for k, field in enumerate(fields):
            io.write(in_field(seed, field), f"{seed}_{k}.cube", digits=12)


def test_convert_minus(here):
    write_pairs([0, 1])
    assert main(["convert", "?_?.cube", "all.h5", "--minus", "free", "--dtype", "float64"]) == 0
    frames = list(io.read_frames("all.h5"))
    assert len(frames) == 8 and all(f.kind == "response" for f in frames)
    for i, frame in enumerate(frames):
        seed, k = divmod(i, 4)
        expected = in_field(seed, FIELDS[k]).values - in_field(seed, (0, 0, 0)).values
        np.testing.assert_allclose(frame.values, expected, rtol=0, atol=1e-10)
        assert frame.structure.field.tolist() == list(FIELDS[k])
        assert frame.source["minus"] == f"{seed}.cube"
    convert(["0_1.cube"], "points", points=40, minus="free/0.cube")
    (points,) = io.open_system("points").frames
    assert points.kind == "response" and points.n_points == 40
    assert main(["convert", "1_2.cube", "r.cube", "--minus", "free/1.cube"]) == 0
    assert io.read("r.cube").kind == "response" and io.read("r.cube").structure.field[1] == -0.5


def test_convert_minus_for_fields_given_by_hand(here):
    for name, field in (("a", FIELDS[0]), ("b", (0, 0, 0))):
        rho = in_field(0, field)
        io.write(Density(rho.structure.with_(field=np.zeros(3)), rho.grid, rho.values), f"{name}.cube")
    convert(["a.cube"], "r.h5", minus="b.cube", field=[0, 0, 1])
    assert io.read("r.h5").structure.field.tolist() == [0, 0, 1]


def test_a_density_minus_itself(here):
    """Source and reference the same file, and a field given by hand: no response of zero in a field."""
    write_pairs([0])
    with pytest.raises(InputError, match="0.cube: in a field of 2 V/Angstrom, but every value is that of 0.cube"):
        convert(["0_0.cube", "free/0.cube"], "r.h5", minus="free", field=[0, 0, 2])
    assert not (here / "r.h5").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"numbers": [14, 8, 14, 8]}, r"cannot be subtracted: other atoms \(Si2O2|O2Si2"),
        ({"positions": None}, "cannot be subtracted: atom 3 is 0.01 Angstrom away"),
        ({"shape": (12, 10, 11)}, "cannot be subtracted: another grid .*12x10x12 and 12x10x11"),
        ({"pbc": [True, False, False]}, "cannot be subtracted: other periodic axes"),
        ({"field": [0, 0, 1.0]}, "free.cube: has an electric field"),
        ({"kind": "response"}, "free.cube: holds a response already"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_pairs_that_do_not_fit(here, change, message):
    io.write(in_field(0, FIELDS[0]), "a.cube")
    free = in_field(0, (0, 0, 0), change.pop("shape", (12, 10, 12)))
    kind = change.pop("kind", "density")
    if "positions" in change:
        change["positions"] = free.structure.positions + np.outer([0, 0, 1, 0], [0.01, 0, 0])
    io.write(Density(free.structure.with_(**change), free.grid, free.values, kind), "free.cube")
    with pytest.raises(InputError, match=message):
        convert(["a.cube"], "r.h5", minus="free.cube")


def test_pairs_without_a_partner(here):
    write_pairs([0, 1])
    io.write(in_field(2, FIELDS[0]), "alone.cube")
    with pytest.raises(InputError, match="alone.cube: none of 2 reference frames has its atoms and its grid"):
        convert(["alone.cube"], "r.h5", minus="free")
    with pytest.raises(InputError, match="0_0.cube: both .* have its atoms"):
        convert(["0_0.cube"], "r.h5", minus=twice())
    rho = in_field(0, FIELDS[0])
    io.write(Density(Structure(rho.structure.numbers, rho.structure.positions, rho.structure.cell, False),
                     rho.grid, rho.values), "unknown.cube")  # fmt: skip
    with pytest.raises(InputError, match="unknown.cube: no electric field is known"):
        convert(["unknown.cube"], "r.h5", minus="free")
    with pytest.raises(InputError, match="--electrons and --kind make no sense"):
        convert(["0_0.cube"], "r.h5", minus="free", electrons=8)


def twice() -> str:
    """A folder with one density under two names."""
    from pathlib import Path

    Path("twice").mkdir()
    for name in "ab":
        io.write(in_field(0, (0, 0, 0)), f"twice/{name}.cube")
    return "twice"


def test_learns_a_response(here, capsys):
    """Trained on three fields, tested on a fourth: better than nothing by far; the report says what it is."""
    write_pairs([0])
    convert(["0_[012].cube"], "train.h5", minus="free")
    convert(["0_3.cube"], "test.h5", minus="free")
    steps = {"training": {"numb_steps": 150, "disp_freq": 50, "validation_data": {"fraction": 0.1}}}
    rates = {"learning_rate": {"type": "cosine", "start_lr": 1e-2, "stop_lr": 1e-4}}
    trainer = Trainer(input_config(["train.h5"], RESPONSE, steps, rates))
    assert trainer.model.baseline is None
    trainer.run()
    assert main(["freeze"]) == 0
    report = test(["frozen.pth"], ["test.h5"])
    assert report["target"] == "response" and report["baseline"] is None
    assert report["pooled"]["nmae_percent"] < 50
    assert report["pooled"]["electron_error_percent"] is None
    reference = io.read("test.h5")
    predictor = Predictor(trainer.model.eval())
    rho = predictor.predict(reference.structure, like=reference)
    assert rho.kind == "response" and rho.structure.field[0] == 0.3
    nmae = 100 * np.abs(rho.values - reference.values).sum() / np.abs(reference.values).sum()
    assert 0.5 < nmae / report["pooled"]["nmae_percent"] < 2
    with pytest.raises(InputError, match="free.*: holds a density, but model/target is 'response'"):
        test(["frozen.pth"], ["free/0.cube"])
    command = ["predict", "-m", "frozen.pth", "0_0.cube", "--like", "0_0.cube", "-o", "out.cube", "--electrons", "8"]
    assert main(command) == 1
    assert "--electrons 8: the model predicts a response, which has no electron count" in capsys.readouterr().err
    with pytest.raises(InputError, match="predicts a response, which has no electron count"):
        predictor.predict(reference.structure, like=reference, electrons=8)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "dcharge")
    return caplog


def test_response_without_field(here, said):
    rho = in_field(0, FIELDS[0])
    bare = Structure(rho.structure.numbers, rho.structure.positions, rho.structure.cell, False)
    io.write(Density(bare, rho.grid, rho.values, "response"), "a.cube")
    with pytest.raises(InputError, match="a.cube: a response, but no electric field is known"):
        Trainer(input_config(["a.cube"], RESPONSE))
    model = stirred(make_model(model_config(RESPONSE["model"])))
    assert not Predictor(model).predict(bare, like=rho).values.any()
    assert "the structure has none: it is zero" in said.text


def test_field_along_a_periodic_axis(here, said):
    s = structure(1).with_(field=[0, 0, 1.0])
    assert s.field_along_periodic() in "abc"
    assert s.with_(pbc=[True, True, False], cell=np.diag([4.6, 4.2, 5])).field_along_periodic() is None
    assert s.with_(cell=np.diag([4.6, 4.2, 30.0])).field_along_periodic() is None  # vacuum
    assert s.with_(cell=np.diag([4.6, 4.2, 6.0])).field_along_periodic() == "c"
    assert s.with_(field=np.zeros(3)).field_along_periodic() is None
    model = stirred(make_model(model_config({**FIREANN, "field": True})))
    Predictor(model).at(s, np.zeros((1, 3)))
    assert "periodic and has no vacuum" in said.text


def test_field_for_a_model_that_does_not_see_it(here, said):
    model = stirred(make_model(model_config(FIREANN)))
    Predictor(model).at(structure(1, pbc=False).with_(field=[0, 0, 1.0]), np.zeros((1, 3)))
    assert "the model (fireann) does not see the electric field; it is ignored" in said.text


def test_field_asked_of_a_model_that_does_not_see_it(here, cubes, capsys):
    """Given by the user, not by a file: an error, and nothing is written. Zero is what such a model knows."""
    save_frozen(stirred(make_model(model_config(FIREANN))), "frozen.pth", {})
    cube, model, field = str(cubes[0]), ["-m", "frozen.pth"], ["--field", "0", "0", "1"]
    like = ["--like", cube, "-o", "out.cube"]
    for command in (["test", "-s", cube], ["predict", cube, *like], ["analyze", cube, "--planar", "z", *like[:2]]):
        assert main([*command, *model, *field]) == 1
        assert "--field: the model (fireann) does not see the electric field" in capsys.readouterr().err
    assert not (here / "out.cube").exists()
    assert main(["test", "-s", cube, *model, *field[:-1], "0"]) == 0
    systems = [{"path": str(cubes[0]), "field": [0, 0, 1.0]}]
    with pytest.raises(
        InputError, match="training_data/systems/0/field: a model that sees the electric field expected"
    ):
        Trainer(input_config(cubes, {"model": FIREANN, "training": {"training_data": {"systems": systems}}}))


def test_field_that_training_data_lack(here, cubes, said):
    Trainer(input_config(cubes[:1], {"model": {**FIREANN, "field": True}}))
    assert "no frame has an electric field" in said.text


def test_field_that_is_no_vector():
    with pytest.raises(InputError, match="three numbers in V/Angstrom"):
        structure(1).with_(field=[0, 1])


def test_extxyz_carries_the_field(tmp_path):
    import ase.io

    s = structure(1, pbc=False).with_(field=[0.0, 0.25, -1.0])
    ase.io.write(tmp_path / "a.extxyz", s.to_ase())
    assert io.read_structure(tmp_path / "a.extxyz").field.tolist() == [0.0, 0.25, -1.0]


def test_batches_of_configurations(here):
    """A step encodes its frames alone, with the result of encoding all."""
    write_pairs([0, 1, 2], FIELDS[:1])
    convert(["?_0.cube"], "train.h5", minus="free")
    # float64: a response is a small difference of large numbers
    data = {"model": {"precision": "float64"}, "training": {"training_data": {"frames_per_batch": 2}}}
    trainer = Trainer(input_config(["train.h5"], RESPONSE, data))
    stirred(trainer.model, size=0.1)
    index, s = trainer.batches(3), trainer.samples
    assert len(torch.unique(s.frame[index])) == 2 and trainer.batches.per_epoch == 1
    batch, frame = needed(trainer.batch, s.frame[index])
    assert batch.n_frames == 2 and frame.max() == 1
    with torch.no_grad():
        part = trainer.model.decode(trainer.model.encode(batch), s.points[index], frame)
        whole = trainer.model.decode(trainer.model.encode(trainer.batch), s.points[index], s.frame[index])
        loss, predicted, *_ = trainer.batch_loss(index)
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-10 * whole.abs().max().item())
    assert torch.equal(predicted, part) and whole.abs().max() > 0


def test_epochs(cubes, here):
    trainer = Trainer(input_config(cubes, {"training": {"training_data": {"batch_size": 64}}}))
    assert trainer.batches.per_epoch == 600 // 64
    two = Batches(trainer.samples, 64, 2, 1)
    assert two.per_epoch == 1
