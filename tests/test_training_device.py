"""Training as a GPU needs it: steps that wait for nothing, batches that are the same everywhere, torch.compile."""

import numpy as np
import pytest
import torch
from tiny import input_config
from torch.utils._python_dispatch import TorchDispatchMode

from dcharge.errors import InputError
from dcharge.train import LOSSES, Trainer

# operations whose result the host reads: on a GPU it waits for them
WAITING = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique_dim", "_unique2", "masked_select"}
READS = ("cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__", "__array__")


class Waits(TorchDispatchMode):
    """Collects what would wait for a GPU inside the `with` block; dcharge's own ops do, because they check indices."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.found = set()
        for name in READS:
            monkeypatch.setattr(torch.Tensor, name, self._noted(name, getattr(torch.Tensor, name)))

    def _noted(self, name, method):
        def read(tensor, *args, **options):
            self.found.add(name)
            return method(tensor, *args, **options)

        return read

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        space, name = function.name().split("::")
        if name.split(".")[0] in WAITING or (space == "dcharge" and not name.startswith("gram")):
            self.found.add(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes", [{}, {"ema": 0.9}, {"training_data": {"frames_per_batch": 1}}], ids=["plain", "ema", "frames"]
)
def test_a_step_waits_for_nothing(here, cubes, monkeypatch, changes):
    trainer = Trainer(input_config(cubes, {"training": changes}, {"loss": {"type": "huber", "weights": "importance"}}))
    if "training_data" in changes:  # drawn on the host: counts and frames are there, one copy to the device
        trainer.batches = [trainer.batches(i) for i in range(4)].__getitem__
    trainer.train_step()
    waits = Waits(monkeypatch)
    with waits:
        for _ in range(3):
            trainer.train_step()
    assert not waits.found
    with waits:
        trainer.check()
    assert waits.found  # what the test looks for is there to be seen


def test_uncached_moments_are_computed_at_every_step(here, cubes, monkeypatch):
    trainer = Trainer(input_config(cubes, {"training": {"cache_gb": 0}}))
    with Waits(monkeypatch) as waits:
        trainer.train_step()
    assert "dcharge::radial_moments" in waits.found or "nonzero" in str(waits.found)


def test_divergence_is_told_with_its_step(here, cubes):
    """Losses are looked at now and then: the message names the step, and no checkpoint is written after it."""
    trainer = Trainer(input_config(cubes, {"training": {"numb_steps": 1000, "disp_freq": 1000, "save_freq": 50}}))
    once = trainer.train_step

    def train_step():
        if trainer.step == 60:
            with torch.no_grad():
                trainer.model.output.weight.fill_(float("nan"))
        once()

    trainer.train_step = train_step
    with pytest.raises(InputError, match="the loss is nan at step 60; lower learning_rate/start_lr"):
        trainer.run()
    assert trainer.step == LOSSES and [p.name for p in here.glob("model.ckpt-*")] == ["model.ckpt-50.pt"]


def test_an_interrupt_saves_no_diverged_weights(here, cubes):
    trainer = Trainer(input_config(cubes))
    trainer.train_step()
    trainer.losses.append(torch.tensor(float("inf")))
    trainer.step += 1
    with pytest.raises(InputError, match="the loss is inf at step 1"):
        trainer.save()
    assert not list(here.glob("model.ckpt*"))


def test_batches_lie_on_the_device(here, cubes):
    """Index, samples, moments: where the model is."""
    for changes in ({}, {"training_data": {"frames_per_batch": 1}}):
        trainer = Trainer(input_config(cubes, {"training": changes}))
        trainer.batches.device = torch.device("meta")
        assert trainer.batches(0).device.type == "meta"
        tensors = (trainer.samples.points, trainer.samples.target, trainer.geometry.stored, trainer.batch.atoms)
        assert {t.device for t in tensors} == {trainer.device}


def test_errors_of_the_last_batch(here, cubes):
    """What the curve tells of the training batch: before the step, weighted."""
    trainer = Trainer(input_config(cubes))
    for _ in range(3):
        before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        trainer.train_step()
    told = trainer.trained().result()
    trainer.model.load_state_dict(before)
    with torch.no_grad():
        _, predicted, target, weight = trainer.batch_loss(trainer.batches(2))
    e, w = (predicted - target).numpy().astype(float)[:, 0], weight.numpy()
    assert told["n_points"] == 64 and told["rmse"] == pytest.approx(np.sqrt((w * e**2).sum() / w.sum()), rel=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("cache_gb", [2.0, 0.0], ids=["cached", "computed"])
def test_compiled_loss(here, cubes, cache_gb):
    """torch.compile takes the loss of a step, moments cached or not: the same value and gradients."""
    trainer = Trainer(input_config(cubes, {"training": {"cache_gb": cache_gb}}))
    index, parameters = trainer.batches(0), list(trainer.model.parameters())
    loss = torch.compile(lambda index: trainer.batch_loss(index)[0], backend="aot_eager")
    ours, plain = loss(index), trainer.batch_loss(index)[0]
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=0)
    for a, b in zip(*(torch.autograd.grad(x, parameters) for x in (ours, plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))
