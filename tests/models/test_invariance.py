"""Rotations and reflections leave descriptor and density as they are, degree by degree, to the rounding of float64."""

import numpy as np
import pytest
import torch
from tiny import calibrated, model_config, structure

from dcharge.batch import Batch
from dcharge.ops import library, moments
from dcharge.structure import Structure

DEGREES = [(l_max, "per_l") for l_max in range(4)] + [(l_max, "joint") for l_max in (0, 1)]
LIMIT = 1e-12


def turns():
    """Random rotations, and each followed by an inversion, a mirror, or a rotation about an axis of the other kind."""
    rng = np.random.default_rng(11)
    for _ in range(3):
        q, r = np.linalg.qr(rng.standard_normal((3, 3)))
        q = q * np.sign(np.diag(r))
        yield q
        yield -q
    yield np.diag([1.0, 1.0, -1.0])
    yield np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])


def model_of(l_max, gram):
    return calibrated(model_config({"precision": "float64", "descriptor": {"l_max": l_max, "gram": gram}}))


def parts(model, s, points):
    """Blocks of the descriptor, one per degree (joint: one in all), and the density."""
    batch, points = Batch.collate([s], model.type_map), torch.tensor(points)
    frame = torch.zeros(len(points), dtype=torch.int64)
    with torch.no_grad():
        cache, p = model.encode(batch), model.geometry(batch, points, frame)
        d = model.descriptor(cache, points, frame, p)
        width = d.shape[1] // sum(model.axis)
        blocks = d.split([width * n for n in model.axis], dim=1)
        return [*blocks, model.decode(cache, points, frame, p)]


def deviation(model) -> float:
    """Largest change of a part under all turns, relative to that part's largest value."""
    s, worst = structure(1), 0.0
    points = np.random.default_rng(0).uniform(-2, 7, (60, 3))
    points[:2] = s.positions[:2] + [[0, 0, 0], [1e-3, 0, 0]]  # on a nucleus and beside one
    own = parts(model, s, points)
    assert all(float(x.abs().max()) > 1e-6 and float(x.std(0).max()) > 1e-9 for x in own)
    for q in turns():
        turned = Structure(s.numbers, s.positions @ q, s.cell @ q, s.pbc)
        for a, b in zip(parts(model, turned, points @ q), own, strict=True):
            worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    return worst


@pytest.mark.parametrize("kernels", ["reference", "compiled"])
@pytest.mark.parametrize("l_max, gram", DEGREES)
def test_turned_systems(l_max, gram, kernels, monkeypatch):
    if kernels == "reference":
        monkeypatch.setattr(library, "_library", None)
    elif not library.loaded():
        pytest.skip("kernels not built")
    assert deviation(model_of(l_max, gram)) < LIMIT


@pytest.mark.parametrize("component", range(1, 16))
def test_one_wrong_factor_is_seen(component, monkeypatch):
    """A solid harmonic that is too large by a thousandth."""
    right = moments.solid_harmonics

    def wrong(u, l_max):
        y = right(u, l_max).clone()
        y[..., component] *= 1.001
        return y

    monkeypatch.setattr(library, "_library", None)
    monkeypatch.setattr(moments, "solid_harmonics", wrong)
    assert deviation(model_of(3, "per_l")) > 1e3 * LIMIT


def test_handed_structures_differ():
    """The density is invariant because the model is, not because these structures look the same from all sides."""
    s = structure(1)
    model, points = model_of(2, "per_l"), np.random.default_rng(0).uniform(-2, 7, (60, 3))
    q = next(turns())
    turned = Structure(s.numbers, s.positions @ q, s.cell @ q, s.pbc)
    a, b = (parts(model, x, points)[-1] for x in (s, turned))
    assert float((a - b).abs().max()) > 0.01 * float(a.abs().max())
