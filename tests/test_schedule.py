"""Learning rates."""

import math

import pytest
from tiny import INPUT, merged

from dcharge.config import normalize
from dcharge.schedule import Schedule


def schedule(steps=1000, **options) -> Schedule:
    """From the `learning_rate` section, as the input completes it."""
    data = {"numb_steps": steps, "training_data": {"systems": ["x"]}, "validation_data": {"fraction": 0.1}}
    config = normalize(merged({**INPUT, "learning_rate": options}, {"training": data}))
    return Schedule(config["learning_rate"], steps)


@pytest.mark.parametrize("steps,decay_steps", [(1000, 100), (1_000_000, 5000), (1000, 5000), (90, 5000), (5000, 5000)])
def test_exp_is_that_of_deepmd(steps, decay_steps):
    """DeePMD-kit's LearningRateExp, from its source."""
    start, stop = 1e-3, 1e-6
    if decay_steps >= steps:
        interval = 100 if steps // 10 > 100 else steps // 100 + 1
    else:
        interval = decay_steps
    rate = math.exp(math.log(stop / start) / (steps / interval))
    s = schedule(steps, type="exp", start_lr=start, stop_lr=stop, decay_steps=decay_steps)
    for step in (0, 1, interval - 1, interval, steps // 2, steps - 1):
        assert s.rate(step) == pytest.approx(max(start * rate ** (step // interval), stop), rel=1e-12)


def test_cosine():
    s = schedule(1000, type="cosine", start_lr=1e-2, stop_lr=1e-4)
    assert s.rate(0) == pytest.approx(1e-2) and s.rate(1000) == pytest.approx(1e-4)
    assert s.rate(500) == pytest.approx(0.5 * (1e-2 + 1e-4))
    assert all(s.rate(i) >= s.rate(i + 1) for i in range(1000))


def test_step():
    s = schedule(1000, type="step", start_lr=1e-2, step_size=300, gamma=0.5)
    assert [s.rate(i) for i in (0, 299, 300, 600, 999)] == pytest.approx([1e-2, 1e-2, 5e-3, 2.5e-3, 1.25e-3])


@pytest.mark.parametrize("kind", ["exp", "cosine", "step", "plateau"])
def test_warmup(kind):
    options = {"step_size": 300} if kind == "step" else {}
    s = schedule(1000, type=kind, start_lr=1e-2, warmup_steps=10, **options)
    assert [s.rate(i) for i in (0, 4, 9)] == pytest.approx([1e-3, 5e-3, 1e-2])
    assert s.rate(10) == pytest.approx(1e-2)


def test_plateau():
    s = schedule(1000, type="plateau", start_lr=1e-2, factor=0.1, patience=2, stop_lr=1e-3)
    rates = []
    for error in (5.0, 4.0, 4.0, 3.0, 3.5, 3.0, 2.0, 2.5, float("nan")):
        s.observe(error)
        rates.append(s.rate(100))
    assert rates == pytest.approx([1e-2] * 5 + [1e-3] * 3 + [1e-4])
    assert s.finished()
    s.state["drops"] = 1
    assert not s.finished()


def test_plateau_in_epochs():
    """The paper of FIREANN: half the rate after 50 epochs without gain."""
    s = schedule(1000, type="plateau", start_lr=1e-2, patience=50, patience_unit="epochs", stop_lr=6e-3)
    s.observe(5.0, 12.5)
    for _ in range(3):
        s.observe(5.0, 12.5)
        assert s.rate(100) == 1e-2
    s.observe(5.0, 12.5)
    assert s.rate(100) == 5e-3 and s.finished()


def test_only_plateau_listens():
    s = schedule(1000, type="cosine")
    before = s.rate(7)
    for _ in range(100):
        s.observe(1.0)
    assert s.rate(7) == before and not s.finished()


def test_small_rates_of_warmup_do_not_end_a_run():
    s = schedule(5000, type="plateau", start_lr=1e-3, stop_lr=1e-6, warmup_steps=2000)
    assert s.rate(0) < s.config["stop_lr"] and not s.finished()
