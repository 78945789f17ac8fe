"""Samplers: shares, weights, seeds, and the distance to the nearest nucleus."""

import math

import numpy as np
import pytest
from tiny import SKEWED, density, distances, structure

from dcharge.dataset import tell_sample
from dcharge.density import Density, PointDensity
from dcharge.errors import InputError
from dcharge.grid import Grid
from dcharge.sampling import Random, Stratified, Targeted, draw, inclusion_probability, make_sampler, nearest_nucleus
from dcharge.structure import Structure

ALL = {
    "random": Random(200),
    "stratified": Stratified(200),
    "shells": Stratified(200, shells=(0.6, 1.0, 1.4), near_fraction=0.5),
    "targeted": Targeted(200, sigma=30.0),
    "targeted_sharp": Targeted(200, sigma=3.0, uniform_share=0.5),
}
each = pytest.mark.parametrize("sampler", ALL.values(), ids=ALL)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def rho():
    """Analytic density with a wide range of values: 1440 points."""
    return density(0)


def with_values(values) -> Density:
    """Any values on a grid of a cell with one atom."""
    s = Structure([14], np.zeros((1, 3)), np.eye(3) * 5, True)
    return Density(s, Grid((len(values), 1, 1), s.cell), np.asarray(values, dtype=float).reshape(-1, 1, 1))


@each
def test_without_replacement_sorted_normalised(sampler, rho):
    index, weight = sampler(rho, rng())
    assert len(index) == len(weight) == 200 and index.dtype == np.int64
    assert np.all(np.diff(index) > 0) and index[0] >= 0 and index[-1] < rho.n_points
    assert weight.mean() == pytest.approx(1.0) and (weight > 0).all()


@each
def test_seed(sampler, rho):
    a, b, c = sampler(rho, rng(1)), sampler(rho, rng(1)), sampler(rho, rng(2))
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
    assert not np.array_equal(a[0], c[0])


def test_a_frames_sample_is_its_own(rho):
    """It depends on seed and number of the frame, not on other frames."""
    sampler = Random(50)
    a = draw(sampler, rho, 7, 1)[0]
    assert np.array_equal(a, draw(sampler, rho, 7, 1)[0])
    assert not np.array_equal(a, draw(sampler, rho, 7, 2)[0]) and not np.array_equal(a, draw(sampler, rho, 8, 1)[0])


@each
def test_weights_undo_the_preference(sampler, rho):
    """The weighted mean over many samples is the mean of the grid, for two functions of the point."""
    values = np.stack([rho.total.ravel(), rho.points()[:, 0] ** 2 * (rho.total.ravel() < 0.05)])
    means = []
    for seed in range(150):
        index, weight = sampler(rho, rng(seed))
        means.append((values[:, index] * weight).mean(1))
    means = np.array(means)
    error = 4 * means.std(0) / math.sqrt(len(means)) + 0.004 * values.mean(1)  # ratio estimators are biased by 1/n
    assert (np.abs(means.mean(0) - values.mean(1)) < error).all()


def test_unweighted_mean_is_biased(rho):
    """The test above would notice wrong weights."""
    mean = np.mean([rho.total.ravel()[Stratified(200, near_fraction=0.5)(rho, rng(s))[0]].mean() for s in range(20)])
    assert mean > 1.2 * rho.total.mean()


@each
def test_more_points_than_there_are(sampler, rho):
    from dataclasses import replace

    index, weight = replace(sampler, points_per_frame=10_000)(rho, rng())
    assert np.array_equal(index, np.arange(rho.n_points))
    np.testing.assert_allclose(weight, 1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@each
def test_few_points(sampler, rho, n):
    from dataclasses import replace

    index, weight = replace(sampler, points_per_frame=n)(rho, rng())
    assert len(index) == n and weight.mean() == pytest.approx(1.0)


def test_many_shells_share_few_points(rho):
    index, _ = Stratified(3, shells=(0.3, 0.6, 0.9, 1.2), near_fraction=0.9)(rho, rng())
    assert len(index) == 3


def test_stratified_shares(rho):
    shells = (0.6, 1.0, 1.4)
    index, weight = Stratified(200, shells, near_fraction=0.45)(rho, rng())
    nearest = distances(rho.structure, rho.points()).min(1)
    stratum = np.searchsorted(shells, nearest, side="right")
    n_all, n = np.bincount(stratum, minlength=4), np.bincount(stratum[index], minlength=4)
    assert n.tolist() == [30, 30, 30, 110] and (n_all > n).all()
    expected = (n_all / n)[stratum[index]]
    np.testing.assert_allclose(weight, expected / expected.mean())


def test_stratified_fills_up_from_where_points_are(rho):
    """Fewer points near nuclei than wanted: the rest comes from outside, and the other way round."""
    nearest = distances(rho.structure, rho.points()).min(1)
    index, _ = Stratified(1000, (0.5,), 0.9)(rho, rng())
    assert len(index) == 1000 and np.count_nonzero(nearest[index] < 0.5) == np.count_nonzero(nearest < 0.5)
    far = np.count_nonzero(nearest >= 2.0)
    index, _ = Stratified(1000, (2.0,), 0.1)(rho, rng())
    assert len(index) == 1000 and np.count_nonzero(nearest[index] >= 2.0) == far < 900


def test_targeted_never_aims_at_zero_density():
    values = np.concatenate([np.zeros(500), np.full(500, 0.2)])
    index, weight = Targeted(300, uniform_share=0.0)(with_values(values), rng())
    assert len(index) == 300 and (index >= 500).all()
    np.testing.assert_allclose(weight, 1.0)
    index, _ = Targeted(700, uniform_share=0.0)(with_values(values), rng())  # more than there are: topped up uniformly
    assert len(index) == 700 and np.count_nonzero(index >= 500) == 500


def test_targeted_all_zero():
    index, weight = Targeted(20)(with_values(np.zeros(50)), rng())
    assert len(index) == 20 and (weight == 1).all()


def test_targeted_in_log_space():
    """Densities whose probability underflows still have an order, and nothing overflows."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        values = np.array([1e-160, 1e-30, 1e-3, 0.9e-3, 0.8e-3, 0.7e-3, 0.0])
        index, weight = Targeted(2, sigma=30.0, uniform_share=0.0)(with_values(values), rng())
    assert set(index) <= {2, 3, 4, 5} and np.isfinite(weight).all()
    # between n and n/2 the logarithm of the probability falls by 3/(2 sigma^2 n^2) = 1667
    index, _ = Targeted(1, sigma=30.0, uniform_share=0.0)(with_values(np.array([0.5e-3, 1e-3])), rng())
    assert index.tolist() == [1]


def test_targeted_is_even_in_the_density():
    values = np.random.default_rng(0).uniform(0.001, 0.1, 100) * np.where(np.arange(100) % 2, 1, -1)
    a, b = (Targeted(30)(with_values(v), rng())[0] for v in (values, -values))
    assert np.array_equal(a, b)


def test_targeted_draws_as_often_as_the_formula_says():
    """A million draws without replacement: the histogram over density classes is that of the inclusion probability,
    which is proportional to P where few points are drawn."""
    classes = np.geomspace(0.008, 0.5, 40)
    values = np.tile(classes, 2500)  # 1e5 points
    p = np.exp(-1 / (2 * 30.0**2 * classes**2))
    pi = inclusion_probability(-1 / (2 * 30.0**2 * values**2), 10_000)[:40]
    rho, sampler = with_values(values), Targeted(10_000, sigma=30.0, uniform_share=0.0)
    histogram = np.zeros(40)
    for seed in range(100):
        histogram += np.bincount(sampler(rho, rng(seed))[0] % 40, minlength=40)
    expected = 100 * 2500 * pi
    assert histogram.sum() == 1e6 and expected.sum() == pytest.approx(1e6)
    chi2 = ((histogram - expected) ** 2 / (expected * (1 - pi))).sum()
    assert 10 < chi2 < 90  # 39 degrees of freedom
    share = histogram / histogram.sum()
    # P itself, but for what is not put back
    np.testing.assert_allclose(share[p > 0.1], (p / p.sum())[p > 0.1], rtol=pi.max())
    few = inclusion_probability(-1 / (2 * 30.0**2 * values**2), 100)[:40]
    np.testing.assert_allclose(few / p, 100 / (2500 * p.sum()), rtol=2e-3)


def test_width_of_a_response():
    """Half of the largest probability at a quantile of |response|: a hundred times weaker, the same sample."""
    values = np.random.default_rng(0).normal(0, 1e-3, 2000)
    values[:200] = 0
    weak, strong = with_values(values), with_values(100 * values)
    weak.kind = strong.kind = "response"
    a, b = Targeted(300)(weak, rng()), Targeted(300)(strong, rng())
    assert np.array_equal(a[0], b[0])
    np.testing.assert_allclose(a[1], b[1], rtol=1e-9)
    size = np.abs(values)
    sigma = Targeted(300).width(size, "response")
    q = 1 / (1.17741 * sigma)
    assert np.mean(size[200:] < q) == pytest.approx(0.7, abs=1e-3)
    assert np.exp(-1 / (2 * sigma**2 * q**2)) == pytest.approx(0.5, rel=1e-4)
    assert Targeted(300).width(size, "density") == 30 and Targeted(300, sigma=5.0).width(size, "response") == 5
    assert Targeted(300, quantile=0.2).width(size, "response") > 2 * sigma
    with pytest.raises(InputError, match="quantile is for responses"):
        Targeted(300, quantile=0.7).width(size, "density")
    # the width for densities would take the largest peaks alone
    flat, peaked = (size[s(weak, rng())[0]] for s in (Targeted(300, uniform_share=0), Targeted(300, 30.0, 0)))
    assert np.median(peaked) > 1.3 * np.median(flat)
    weak.values[:] = 0
    index, weight = Targeted(300)(weak, rng())
    assert len(index) == 300
    np.testing.assert_allclose(weight, 1)


def test_inclusion_probability_is_the_frequency():
    """Monte Carlo of the sampler: how often every point is drawn, and its weight."""
    values = np.random.default_rng(0).uniform(0.003, 0.05, 60)
    rho, sampler, trials = with_values(values), Targeted(20, sigma=30.0, uniform_share=0.3), 4000
    count, weight = np.zeros(60), np.full(60, np.nan)
    for seed in range(trials):
        index, w = sampler(rho, rng(seed))
        count[index] += 1
        weight[index] = w / w[0] if 0 in index[:1] else weight[index]
    logp = -1 / (2 * 30.0**2 * values**2)
    pi = inclusion_probability(logp, 14)
    assert pi.sum() == pytest.approx(14)
    pi = pi + (1 - pi) * 6 / (60 - 14)
    frequency = count / trials
    assert np.abs(frequency - pi).max() < 0.03  # the approximation for 60 points, and four deviations
    assert frequency.max() > 2 * frequency.min()
    # not the probability of a single draw
    p = np.exp(logp) / np.exp(logp).sum()
    assert np.abs(frequency - 20 * p).max() > 0.1
    known = ~np.isnan(weight)
    np.testing.assert_allclose(weight[known], pi[0] / pi[known], rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 5, 9, 10, 12])
def test_inclusion_probability_limits(n):
    logp = np.log(np.arange(10, dtype=float) + 1e-300)
    logp[0] = -np.inf
    pi = inclusion_probability(logp, n)
    assert pi.sum() == pytest.approx(min(n, 9)) and pi[0] == 0 and (np.diff(pi) >= 0).all()
    if n == 1:
        np.testing.assert_allclose(inclusion_probability(np.zeros(10_000), 1), 1e-4)


def test_inclusion_probability_of_extreme_rates():
    logp = np.array([0.0, -1.0, -300.0, -690.0, -5000.0, -np.inf])
    for n in (1, 2, 3, 4):
        pi = inclusion_probability(logp, n)
        assert np.isfinite(pi).all() and pi.sum() == pytest.approx(n) and pi[4] == pi[5] == 0


def test_clipping_is_told(said):
    values = np.concatenate([np.full(995, 0.3), np.full(5, 1e-3)])
    sampler = Targeted(300, sigma=30.0, uniform_share=0.02, max_weight=3.0)
    found = [sampler(with_values(values), rng(s)) for s in range(30)]
    rare = [w for i, w in found if (i >= 995).any()]
    assert rare and all(w.max() <= 3.0 * 1.2 and w.mean() == pytest.approx(1.0) for w in rare)
    drawn, clipped = sampler.clipped
    assert drawn == 9000 and clipped == sum(np.count_nonzero(i >= 995) for i, _ in found)
    tell_sample("targeted", sampler, np.repeat(np.arange(30), 300), np.concatenate([w for _, w in found]), 300)
    assert f"; {clipped / 90:.2g} % of the weights clipped at 3 times the mean" in said()


def test_effective_sample_size_is_told(said):
    """Kish's: (sum w)^2 / sum w^2, a mean over frames."""
    tell_sample("random", Random(10), np.repeat([0, 1], [10, 4]), np.repeat([1.0, 1.8, 0.2], [10, 2, 2]), 10)
    expected = (10 + 16 / (2 * 1.8**2 + 2 * 0.2**2)) / 2
    assert said() == (
        f"random sampler: effective sample size {expected:.0f} of 7 points of a frame; "
        "1 frame of 2 with fewer than asked for"
    )


def test_point_data_keep_their_weights(rho):
    own = np.random.default_rng(0).uniform(0.5, 2.0, rho.n_points)
    points = PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1), own / own.mean())
    index, weight = draw(Random(100), points, 0, 0)
    np.testing.assert_allclose(weight, own[index] / own[index].mean())
    index, weight = draw(Stratified(100), points, 0, 0)
    plain = Stratified(100)(rho, np.random.default_rng([0, 0]))
    assert np.array_equal(index, plain[0])
    np.testing.assert_allclose(weight, plain[1] * own[index] / (plain[1] * own[index]).mean())


def test_no_points():
    empty = PointDensity(structure(0), np.zeros((0, 3)), np.zeros((1, 0)))
    with pytest.raises(InputError, match="no grid points"):
        draw(Random(10), empty, 0, 0)


def test_from_the_input():
    config = {"type": "stratified", "points_per_frame": 10, "shells": [0.5, 1.0], "near_fraction": 0.3}
    assert make_sampler(config) == Stratified(10, (0.5, 1.0), 0.3)
    assert make_sampler({"type": "random", "points_per_frame": 4}) == Random(4)
    config = {"type": "targeted", "points_per_frame": 9, "sigma": 2.0, "uniform_share": 0.1, "max_weight": 7.0}
    assert make_sampler(config) == Targeted(9, 2.0, 0.1, 7.0)


CELLS = {
    "skewed": (SKEWED, True),
    "very_skewed": (np.array([[3.0, 0, 0], [7.4, 2.5, 0], [-5.2, 3.1, 3.5]]), True),
    "small": (np.diag([1.1, 0.9, 1.3]), True),
    "left_handed": (SKEWED[[1, 0, 2]], True),
    "slab": (SKEWED, (True, True, False)),
    "wire": (SKEWED, (False, True, False)),
    "molecule": (np.zeros((3, 3)), False),
    "slab_without_height": (np.array([[3.0, 0, 0], [1.4, 2.5, 0], [0, 0, 0]]), (True, True, False)),
}


@pytest.mark.parametrize("cell,pbc", CELLS.values(), ids=CELLS)
def test_nearest_nucleus(cell, pbc):
    generator = np.random.default_rng(0)
    whole = np.where(np.asarray(cell).any(1)[:, None], cell, np.eye(3) * 4)
    s = Structure([14, 8], generator.uniform(-1, 1, (2, 3)) @ whole, cell, pbc)
    points = generator.uniform(-1, 1, (50, 3)) @ whole
    images = distances(s, points, n=9).min(1)
    found = nearest_nucleus(s, lambda index: points[index], len(points))
    np.testing.assert_allclose(found, images, rtol=1e-6)


def test_nearest_nucleus_without_atoms():
    s = Structure([], np.zeros((0, 3)), np.eye(3), True)
    assert np.isinf(nearest_nucleus(s, lambda i: np.zeros((len(i), 3)), 4)).all()
