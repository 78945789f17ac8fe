"""LIFS: the blocked algorithm is the definition, one candidate after the other; ranks, vacuum, rounds, weights."""

import numpy as np
import pytest
from tiny import density, model_config, stirred

from dcharge.config import normalize
from dcharge.errors import InputError
from dcharge.independent import Independent, independent_rows
from dcharge.models import make_model
from dcharge.resampling import feature_function
from dcharge.sampling import Random, Targeted, draw, make_sampler


def by_least_squares(x, threshold, limit=None, rounds=1):
    """The definition, with lstsq: no basis, no blocks. Rows of x are tried in order."""
    x = x / np.abs(x).max()
    norm = np.linalg.norm(x, axis=1)
    zero = np.flatnonzero(norm <= 1e-12 * norm.max())
    chosen, left = list(zero[:1]), [k for k in range(len(x)) if k not in set(zero)]
    limit = len(x) if limit is None else limit
    for _ in range(rounds):
        accepted = []
        for k in left:
            if len(chosen) + len(accepted) >= limit:
                break
            gamma = np.linalg.lstsq(x[accepted].T, x[k], rcond=None)[0]
            # after as many rows as there are columns nothing is independent
            if len(accepted) < x.shape[1] and np.linalg.norm(x[k] - gamma @ x[accepted]) > threshold * norm[k]:
                accepted.append(k)
        chosen += accepted
        left = [k for k in left if k not in set(accepted)]
    return chosen


def features(n, d, rank, decay=1.0, seed=0):
    """Rows of quickly falling singular values and different lengths."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, rank)) * np.geomspace(1, decay, rank) @ rng.normal(size=(rank, d))
    return x * rng.lognormal(0, 3, (n, 1))


CASES = {
    "decaying": (features(300, 20, 20, 1e-6), 1e-3),
    "fine": (features(300, 20, 20, 1e-6), 1e-5),
    "low_rank": (features(200, 30, 7), 1e-8),
    "full": (features(200, 12, 12), 1e-2),
    "more_columns_than_rows": (features(40, 90, 60, 1e-2), 1e-3),
    "one_block_edge": (features(65, 64, 64, 1e-3), 1e-2),
    "coarse": (features(300, 20, 20), 0.6),
    "tiny_numbers": (1e-200 * features(100, 8, 8, 1e-3), 1e-2),
    "one_column": (features(20, 1, 1), 0.5),
}


@pytest.mark.parametrize("x,threshold", CASES.values(), ids=CASES)
def test_blocks_are_the_definition(x, threshold, monkeypatch):
    expected = by_least_squares(x, threshold)
    assert independent_rows(x, threshold).tolist() == expected
    for block in (1, 7, 1000):
        monkeypatch.setattr("dcharge.independent.BLOCK", block)
        assert independent_rows(x, threshold).tolist() == expected
    assert 1 <= len(expected) <= min(x.shape)


def test_cases_accept_some_and_reject_some():
    counts = [len(by_least_squares(x, t)) / len(x) for x, t in CASES.values()]
    assert min(counts) < 0.1 and sum(0 < c < 0.9 for c in counts) >= 7


def test_rounds_peel():
    """Every round is the definition on what the rounds before rejected, and takes at most as many as there are
    features."""
    x = features(120, 6, 6, 1e-2)
    found = [independent_rows(x, 1e-3, rounds=r) for r in (1, 2, 5, 100)]
    assert [len(f) for f in found[:3]] == [6, 12, 30]
    assert found[2].tolist() == by_least_squares(x, 1e-3, rounds=5)
    assert found[1][:6].tolist() == found[0].tolist() and found[1][6] == np.setdiff1d(range(120), found[0])[0]
    assert sorted(found[3]) == list(range(120))
    assert independent_rows(x, 1e-3, rounds=5, limit=8).tolist() == found[1][:8].tolist()


def test_never_more_than_the_rank():
    x = features(500, 40, 9)
    for pivoted in (False, True):
        assert len(independent_rows(x, 1e-9, pivoted=pivoted)) == 9
        assert len(independent_rows(x, 1e-9, pivoted=pivoted, rounds=3)) == 27


def test_pivoted_takes_the_farthest_next():
    x = features(150, 15, 15, 1e-3)
    chosen, unit = independent_rows(x, 1e-2, pivoted=True), x / np.linalg.norm(x, axis=1)[:, None]
    for i in range(1, len(chosen)):
        q = np.linalg.qr(unit[chosen[:i]].T)[0]
        eps = np.linalg.norm(unit - unit @ q @ q.T, axis=1)
        assert eps[chosen[i]] == pytest.approx(eps.max(), rel=1e-8) and eps.max() > 1e-2
    q = np.linalg.qr(unit[chosen].T)[0]
    assert np.linalg.norm(unit - unit @ q @ q.T, axis=1).max() <= 1e-2
    assert len(chosen) <= len(independent_rows(x, 1e-2))


@pytest.mark.parametrize("pivoted", [False, True])
def test_one_vacuum_point(pivoted):
    x = features(50, 10, 10)
    x[[3, 20, 21]] = 0
    x[40] = 1e-14 * np.abs(x).max()
    for rounds in (1, 4):
        chosen = independent_rows(x, 1e-6, rounds=rounds, pivoted=pivoted)
        assert {3, 20, 21, 40} & set(chosen.tolist()) == {3} and len(chosen) == 1 + 10 * rounds
    assert independent_rows(np.zeros((5, 3)), 0.1, pivoted=pivoted).tolist() == [0]
    assert independent_rows(np.zeros((0, 3)), 0.1, pivoted=pivoted).tolist() == []


def test_scale_of_rows_does_not_matter():
    x = features(100, 10, 10, 1e-4)
    scaled = x * np.random.default_rng(1).uniform(0.1, 10, (100, 1))
    assert np.array_equal(independent_rows(x, 1e-2), independent_rows(scaled, 1e-2))


def test_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        independent_rows(np.array([[1.0, np.nan]]), 0.1)


FAMILIES = ("deep_charge", "fireann", "painn", "schnet", "cgcnn")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    """A model of each family."""
    return stirred(make_model(model_config({"type": request.param}), 1))


def test_sampler_of_a_model(model):
    rho = density(0)
    sampler = Independent(Targeted(400), 15, 1e-2, features=feature_function(model))
    index, weight = draw(sampler, rho, 3, 5)
    again = draw(sampler, rho, 3, 5)
    assert np.array_equal(index, again[0]) and np.array_equal(weight, again[1])
    assert 2 < len(index) <= 15 and (np.diff(index) > 0).all() and weight.mean() == pytest.approx(1)
    candidates, own = draw(Targeted(400), rho, 3, 5)
    assert np.isin(index, candidates).all()
    np.testing.assert_allclose(weight / weight[0], (own / own[candidates == index[0]])[np.isin(candidates, index)])
    x = feature_function(model)(rho.structure, rho.points(index))
    assert x.shape[0] == len(index) and x.dtype == np.float64
    assert np.linalg.matrix_rank(x / np.linalg.norm(x, axis=1)[:, None], tol=1e-6) == len(index)


def test_taken_points_are_not_chosen_again(model):
    rho, sampler = density(0), Independent(Random(60), 20, 1e-4, rounds=5, features=feature_function(model))
    rng = np.random.default_rng
    first = sampler.choose(rho, rng(0), 20, np.zeros(0, dtype=np.int64))[0]
    second = sampler.choose(rho, rng(0), 100, first)[0]
    assert len(first) == 20 and len(second) and not np.isin(second, first).any()
    candidates = Random(60)(rho, rng(0))[0]
    assert np.isin(first, candidates).all() and np.isin(second, candidates).all()
    assert len(sampler.choose(rho, rng(0), 5, candidates)[0]) == len(sampler.choose(rho, rng(0), 0, first)[0]) == 0


def test_bad_features_are_told():
    sampler = Independent(Random(30), 10, features=lambda structure, points: np.full((len(points), 2), np.inf))
    with pytest.raises(InputError, match=r"density: sampler 'independent': the model's features are not finite"):
        draw(sampler, density(0), 0, 0)


def test_from_the_input():
    given = {"type": "independent", "candidates": {"type": "random", "points_per_frame": 500}, "cycles": 3}
    data = {"systems": ["x"]}
    model = {"type": "deep_charge", "type_map": ["Si"]}
    config = normalize({"model": model, "training": {"numb_steps": 9, "sampler": given, "training_data": data}})
    sampler = make_sampler(config["training"]["sampler"])
    assert sampler == Independent(Random(500), 100, 1e-2, cycles=3)
    for changes, message in (
        (
            {"points_per_frame": 501},
            r"points_per_frame: at most candidates/points_per_frame \(500\) expected, 501 given",
        ),
        ({"threshold": 0}, "threshold: a number from 1e-10 to below 1 expected, 0 given"),
        ({"threshold": 1.5}, "threshold: a number from 1e-10 to below 1 expected, 1.5 given"),
        ({"cycles": 10}, "cycles: at most training/numb_steps expected, 10 given"),
        ({"cycles": 4, "points_per_frame": 3}, r"cycles: at most points_per_frame \(3\) expected, 4 given"),
        (
            {"candidates": {"type": "independent"}},
            "candidates/type: one of stratified, random, targeted, inequivalent expected",
        ),
        ({"candidates": {"type": "targeted", "sigma": -1}}, "candidates/sigma: a positive number expected, -1 given"),
        ({"order": "sorted"}, "order: one of random, pivoted expected"),
    ):
        bad = {"numb_steps": 9, "sampler": {**given, **changes}, "training_data": data}
        with pytest.raises(InputError, match=f"input.json: training/sampler/{message}"):
            normalize({"model": model, "training": bad})
