"""Error metrics against numpy by hand."""

import json

import numpy as np
import pytest

from dcharge.metrics import Errors, pool

RNG = np.random.default_rng(0)
REFERENCE, PREDICTED = RNG.uniform(-0.1, 1, 50), RNG.uniform(0, 1, 50)


def errors(p=PREDICTED, q=REFERENCE, weight=0.3, integrable=True) -> Errors:
    e = Errors()
    e.add(p, q, weight, integrable)
    return e


def expected(p, q, w):
    """The definitions of docs/conventions.md."""
    e, w = p - q, np.broadcast_to(w, q.shape)
    mean = (w * q).sum() / w.sum()
    return {
        "nmae_percent": 100 * (w * abs(e)).sum() / (w * abs(q)).sum(),
        "mae": (w * abs(e)).sum() / w.sum(),
        "rmse": np.sqrt((w * e**2).sum() / w.sum()),
        "r2": 1 - (w * e**2).sum() / (w * (q - mean) ** 2).sum(),
        "max_error": abs(e).max(),
        "electron_error_percent": 100 * (w * e).sum() / abs((w * q).sum()),
        "n_points": len(q),
    }


@pytest.mark.parametrize("weight", [0.3, RNG.uniform(0.1, 2, 50)], ids=["dv", "weights"])
def test_by_hand(weight):
    assert errors(weight=weight).result() == pytest.approx(expected(PREDICTED, REFERENCE, weight))


def test_piece_by_piece():
    whole, parts, summed = errors(), Errors(), Errors()
    for a in range(0, 50, 7):
        parts.add(PREDICTED[a : a + 7], REFERENCE[a : a + 7], 0.3)
        summed += errors(PREDICTED[a : a + 7], REFERENCE[a : a + 7])
    assert parts.result() == pytest.approx(whole.result()) == summed.result()


def test_sign_of_the_electron_error():
    assert errors(np.ones(3) * 0.9, np.ones(3)).result()["electron_error_percent"] == pytest.approx(-10)
    assert errors(np.ones(3) * -0.9, -np.ones(3)).result()["electron_error_percent"] == pytest.approx(10)


def test_float32_sums_in_float64():
    q = np.full(2_000_000, 0.1, dtype=np.float32)
    result = errors(q + np.float32(1e-4), q, 1.0).result()
    assert result["mae"] == pytest.approx(float(np.float32(0.1) + np.float32(1e-4)) - float(np.float32(0.1)), rel=1e-6)


def test_undefined_is_none():
    assert errors(integrable=False).result()["electron_error_percent"] is None
    zero = errors(np.ones(3), np.zeros(3)).result()
    assert zero["nmae_percent"] is None and zero["electron_error_percent"] is None and zero["r2"] is None
    assert zero["mae"] == pytest.approx(1.0)
    constant = errors(np.ones(3), np.full(3, 0.1)).result()
    assert constant["r2"] is None and constant["nmae_percent"] == pytest.approx(900)
    nothing = Errors().result()
    assert nothing.pop("n_points") == 0 and set(nothing.values()) == {None}
    json.dumps(zero, allow_nan=False)


def test_pool():
    """Sums over all points, not means of frames; the frames' mean NMAE beside it."""
    frames = [errors(), errors(PREDICTED[:10] * 3, REFERENCE[:10], 2.0)]
    w = np.concatenate([np.full(50, 0.3), np.full(10, 2.0)])
    p, q = np.concatenate([PREDICTED, PREDICTED[:10] * 3]), np.concatenate([REFERENCE, REFERENCE[:10]])
    pooled = pool(frames)
    mean = pooled.pop("nmae_percent_frame_mean")
    assert pooled == pytest.approx(expected(p, q, w))
    each = [f.result()["nmae_percent"] for f in frames]
    assert mean == pytest.approx(np.mean(each)) and abs(mean - pooled["nmae_percent"]) > 1


def test_pool_with_undefined_frames():
    pooled = pool([errors(), errors(np.zeros(2), np.zeros(2))])
    assert pooled["nmae_percent_frame_mean"] == pytest.approx(errors().result()["nmae_percent"])
    assert pool([errors(), errors(integrable=False)])["electron_error_percent"] is None
