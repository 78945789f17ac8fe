"""The additive baseline: recovers additive densities, sums over atoms, stays calm at the nuclei."""

import numpy as np
import pytest
import torch
from tiny import gaussians, structure

from dcharge.batch import Batch
from dcharge.models.baseline import AdditiveBaseline

MAP = ["Si", "O"]


def fitted(ridge=1e-6, n=2000, weight=None, target=None, n_radial=24, frames=(0, 1, 2)):
    """A baseline fitted to the analytic density (or `target(structure, points)`) of a few frames."""
    baseline = AdditiveBaseline(2, 5.0, 0.0, 0.5, n_radial, ridge, torch.float64)
    frames = [structure(i) for i in frames]
    rng = np.random.default_rng(0)
    points = [rng.uniform(0, 1, (n, 3)) @ s.cell for s in frames]
    values = np.concatenate([(target or gaussians)(s, p) for s, p in zip(frames, points, strict=True)])
    batch = Batch.collate(frames, MAP)
    frame = torch.repeat_interleave(torch.arange(len(frames)), n)
    moments = baseline.moments(batch, torch.tensor(np.concatenate(points)), frame, torch.float64)
    weight = torch.ones(len(values), dtype=torch.float64) if weight is None else weight
    baseline.fit(moments, torch.tensor(values)[:, None], weight)
    return baseline, moments, values


def at(baseline, s, points):
    batch = Batch.collate([s], MAP)
    frame = torch.zeros(len(points), dtype=torch.int64)
    return baseline(baseline.moments(batch, torch.tensor(points), frame, torch.float64)).numpy()[:, 0]


def test_recovers_a_sum_of_atoms():
    baseline, _, _ = fitted()
    s = structure(9)
    points = np.concatenate([np.random.default_rng(5).uniform(0, 1, (300, 3)) @ s.cell, s.positions])
    expected = gaussians(s, points)
    np.testing.assert_allclose(at(baseline, s, points), expected, rtol=0, atol=3e-3 * expected.max())


def test_is_the_normal_equations_solution():
    """Weighted ridge regression, the penalty growing with the order, against numpy's least squares."""
    weight = torch.tensor(np.random.default_rng(1).uniform(0.2, 2, 600))
    weight = weight / weight.mean()
    baseline, moments, values = fitted(ridge=1e-3, n=200, weight=weight, n_radial=6)
    x, root = moments.flatten(1).numpy(), np.sqrt(weight.numpy())[:, None]
    order = np.tile(np.arange(1, 7), 2)
    rows = np.concatenate([x * root, np.diag(1e-3 * order * np.sqrt(len(x)))])
    expected = np.linalg.lstsq(rows, np.concatenate([values * root[:, 0], np.zeros(12)]), rcond=None)[0]
    np.testing.assert_allclose(baseline.coefficients.flatten().numpy(), expected, rtol=1e-6)


def test_is_additive():
    baseline, _, _ = fitted()
    s = structure(3)
    points = np.random.default_rng(5).uniform(0, 5, (20, 3))
    parts = [s.with_(numbers=s.numbers[i : i + 1], positions=s.positions[i : i + 1]) for i in range(len(s))]
    np.testing.assert_allclose(sum(at(baseline, p, points) for p in parts), at(baseline, s, points), atol=1e-10)


def test_ridge_keeps_it_calm_at_nuclei():
    """Noise, no points near nuclei: the regularised fit has no spike there, the free one has."""

    def noisy(s, points):
        return gaussians(s, points) + 0.02 * np.random.default_rng(8).standard_normal(len(points))

    s = structure(0)
    calm, _, _ = fitted(ridge=1e-3, n=150, target=noisy)
    wild, _, _ = fitted(ridge=1e-12, n=150, target=noisy)
    highest = gaussians(s, s.positions).max()
    assert np.abs(at(calm, s, s.positions)).max() < 2 * highest
    assert np.abs(at(wild, s, s.positions)).max() > 4 * highest


@pytest.mark.parametrize("ridge", [1e-4, 0.0])
def test_absent_species_has_no_density(ridge):
    baseline = AdditiveBaseline(2, 5.0, 0.0, 0.5, 8, ridge, torch.float64)
    s = structure(0, numbers=(14, 14))
    points = torch.tensor(np.random.default_rng(0).uniform(0, 5, (100, 3)))
    zero, one = torch.zeros(100, dtype=torch.int64), torch.ones(100, dtype=torch.float64)
    moments = baseline.moments(Batch.collate([s], MAP), points, zero, torch.float64)
    baseline.fit(moments, torch.tensor(gaussians(s, points.numpy()))[:, None], one)
    assert not baseline.coefficients[1].any() and baseline.coefficients[0].any()
