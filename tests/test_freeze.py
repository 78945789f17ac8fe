"""Frozen models: what the file holds, which checkpoint it is of, files that are none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import input_config, model_config, structure

import dcharge.freeze
from dcharge import checkpoint
from dcharge.derivatives import density_derivatives
from dcharge.errors import InputError
from dcharge.freeze import freeze, load_frozen, save_frozen
from dcharge.models import make_model
from dcharge.structure import Structure
from dcharge.train import train

KEPT = Path(__file__).parent / "data/frozen"


def no_space(path, data):
    """Path.write_bytes on a disk that is soon full."""
    with open(path, "wb") as stream:
        stream.write(data[: len(data) // 2])
    raise OSError(28, "No space left on device")


def content(path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.fixture
def trained(here, cubes):
    """A run with averages and validation, in the current folder."""
    given = {"training": {"ema": 0.9, "validation_data": {"systems": [str(cubes[1])]}}}
    return train(input_config(cubes[:1], {"model": {"baseline": {"type": "none"}}}, given))


def test_file(trained):
    freeze("model.ckpt-20.pt", "frozen.pth")
    file = content("frozen.pth")
    assert file["format"] == "dcharge" and file["version"] == 1
    assert json.loads(file["config"]) == trained.config["model"]
    meta = json.loads(file["meta"])
    assert meta["step"] == 20 and meta["checkpoint"] == "model.ckpt-20.pt"
    assert meta["training"] == trained.config["training"] and meta["validation_nmae_percent"] == trained.best
    assert {"dcharge", "torch", "created", "loss"} <= meta.keys()
    tensors = {k for k, v in file.items() if isinstance(v, torch.Tensor)}
    assert file.keys() - tensors == {"format", "version", "config", "meta"}
    assert tensors == {f"state/{k}" for k in trained.model.state_dict()}


def test_averages_are_frozen(trained):
    freeze("model.ckpt-20.pt", "frozen.pth")
    model, _ = load_frozen("frozen.pth")
    for k, p in model.named_parameters():
        assert torch.equal(p, trained.average.values[k]) and not p.requires_grad
    assert not model.training


def test_a_folder_gives_its_best(trained, said):
    steps = {p.name: json.loads(content(p)["run"])["step"] for p in trained.folder.glob("model.ckpt*")}
    freeze(".", "frozen.pth")
    assert json.loads(content("frozen.pth")["meta"])["step"] == steps["model.ckpt.best.pt"]
    assert "model.ckpt.best.pt: best on the validation data" in said()
    (trained.folder / "model.ckpt.best.pt").unlink()
    freeze(".", "frozen.pth")
    assert json.loads(content("frozen.pth")["meta"])["step"] == 20


@pytest.mark.parametrize("version", [1])
def test_reads_every_version(version):
    """Files of earlier versions predict what they predicted then."""
    path = KEPT / f"version{version}.pth"
    assert path.stat().st_size < 60_000
    expected = json.loads(path.with_suffix(".json").read_text())
    structure = Structure(*(expected[k] for k in ("numbers", "positions", "cell", "pbc")))
    rho = dcharge.load(path).at(structure, expected["points"])[0]
    np.testing.assert_allclose(rho, expected["density"], rtol=0, atol=1e-5 * np.abs(expected["density"]).max())


def test_every_version_has_a_file():
    assert all((KEPT / f"version{v + 1}.pth").exists() for v in range(dcharge.freeze.VERSION))
    assert sorted(dcharge.freeze.MIGRATIONS) == list(range(1, dcharge.freeze.VERSION))


def test_migration(frozen, here, monkeypatch):
    """A file of an old version passes through every migration."""
    monkeypatch.setattr(dcharge.freeze, "VERSION", 3)
    steps = {1: lambda c: {**c, "version": 2, "meta": '{"two": 1}'}, 2: lambda c: {**c, "version": 3}}
    monkeypatch.setattr(dcharge.freeze, "MIGRATIONS", steps)
    assert load_frozen(frozen)[1] == {"two": 1}
    torch.save({**content(frozen), "version": 0}, "zero.pth")
    with pytest.raises(InputError, match=r"zero\.pth: frozen model of unknown version 0"):
        load_frozen("zero.pth")


@pytest.fixture
def files(here, frozen, trained):
    """Files that are no frozen model of ours."""
    good, whole = content(frozen), frozen.read_bytes()
    (here / "empty.pth").write_bytes(b"")
    (here / "text.pth").write_text("hello\n")
    (here / "cut.pth").write_bytes(whole[: len(whole) // 2])  # what a broken download leaves
    (here / "folder").mkdir()
    torch.save({"model": {"weight": torch.zeros(2)}}, "other.pth")
    torch.save(torch.zeros(2), "tensor.pth")
    torch.save(make_model(model_config()), "code.pth")
    torch.save({**good, "version": 2}, "newer.pth")
    torch.save({k: v for k, v in good.items() if k != "version"}, "no_version.pth")
    torch.save({k: v for k, v in good.items() if k != "config"}, "no_config.pth")
    torch.save({k: v for k, v in good.items() if k != "state/output.bias"}, "no_bias.pth")
    torch.save({**good, "state/output.bias": torch.zeros(7)}, "wrong_shape.pth")
    torch.save({**good, "config": good["config"].replace("deep_charge", "deep_charm")}, "family.pth")
    torch.save({**good, "config": good["config"][:-5]}, "bad_json.pth")
    return here


@pytest.mark.parametrize(
    "name, message",
    [
        ("missing.pth", r"no such file \(frozen model expected\)"),
        ("folder", r"no such file \(frozen model expected\)"),
        ("empty.pth", "not a dcharge frozen model"),
        ("text.pth", "not a dcharge frozen model"),
        ("cut.pth", "not a dcharge frozen model"),
        ("code.pth", "not a dcharge frozen model"),
        ("tensor.pth", "not a dcharge frozen model"),
        ("other.pth", r"not a dcharge frozen model \(a file of another program\)"),
        ("model.ckpt-20.pt", "a dcharge-checkpoint file, not a frozen model; run 'dcharge freeze' first"),
        ("newer.pth", "frozen model of version 2; this dcharge .* reads up to version 1: install a newer dcharge"),
        ("no_version.pth", "the frozen model has no version number"),
        ("no_config.pth", r"damaged frozen model \(no readable 'config'\)"),
        ("no_bias.pth", r"damaged \(.*output\.bias.*\)"),
        ("wrong_shape.pth", r"damaged \(.*output\.bias.*\)"),
        ("family.pth", "unknown family 'deep_charm'; did you mean 'deep_charge'"),
        ("bad_json.pth", "damaged frozen model"),
    ],
)
def test_bad_files(files, name, message):
    with pytest.raises(InputError, match=message) as error:
        load_frozen(name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_bad_checkpoints(files, frozen):
    for name, message in [
        (str(frozen), "a dcharge file, not a checkpoint; training needs a model.ckpt file"),
        ("cut.pth", "not a dcharge checkpoint"),
        ("folder", "no file 'checkpoint' in this folder; train first"),
        ("nothing.pt", "no such file"),
    ]:
        with pytest.raises(InputError, match=message):
            freeze(name, "out.pth")
    damaged = {k: v for k, v in content("model.ckpt-20.pt").items() if k != "state/output.bias" and k[:4] != "ema/"}
    torch.save(damaged, "damaged.pt")
    with pytest.raises(InputError, match=r"damaged\.pt: damaged \(.*output\.bias"):
        freeze("damaged.pt", "out.pth")
    assert not (files / "out.pth").exists()


def test_nothing_half_written(trained, monkeypatch):
    (trained.folder / "frozen.pth").write_bytes(b"old")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    before = sorted(p.name for p in trained.folder.iterdir())
    with pytest.raises(InputError, match=r"cannot write frozen\.pth: No space left on device"):
        freeze(".", "frozen.pth")
    assert sorted(p.name for p in trained.folder.iterdir()) == before
    assert (trained.folder / "frozen.pth").read_bytes() == b"old"


def test_device_full(trained):
    model = trained.model
    try:
        open("/dev/full", "wb").close()
    except OSError:
        pytest.skip("no /dev/full")
    with pytest.raises(InputError, match="cannot write /dev/full"):
        save_frozen(model, "/dev/full", {})


def test_checkpoint_on_a_full_disk(trained, monkeypatch):
    """The old checkpoint survives."""
    monkeypatch.setattr(Path, "write_bytes", no_space)
    old = (trained.folder / "model.ckpt-20.pt").read_bytes()
    with pytest.raises(InputError, match=r"cannot write model\.ckpt-20\.pt: No space left"):
        trained.save()
    assert (trained.folder / "model.ckpt-20.pt").read_bytes() == old
    assert checkpoint.resolve(".").name == "model.ckpt-20.pt"


def test_nan_in_the_weights(frozen, tmp_path):
    content = torch.load(frozen, weights_only=True)
    content["state/output.bias"][0] = float("nan")
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"bad\.pth: damaged \(output\.bias holds nan or inf\)"):
        load_frozen(tmp_path / "bad.pth")


def test_species_that_were_not_trained(here, cubes):
    """In the type_map, but in no training frame: an error of prediction, not a random density."""
    train(input_config(cubes, {"model": {"type_map": ["Si", "H", "O"], "baseline": {"type": "none"}}}))
    freeze("model.ckpt-20.pt", "frozen.pth")
    assert json.loads(content("frozen.pth")["meta"])["species"] == ["O", "Si"]
    model, s = dcharge.load("frozen.pth"), structure(3)
    assert np.isfinite(model.predict(s, shape=(4, 4, 4)).values).all()
    with pytest.raises(InputError, match="species H: in the model's type_map, but no training frame had it; only O"):
        model.predict(s.with_(numbers=[14, 8, 1, 8]), shape=(4, 4, 4))
    with pytest.raises(InputError, match="species H"):
        density_derivatives(model, s.with_(numbers=[14, 8, 1, 8]), [[0.0, 0, 0]])
