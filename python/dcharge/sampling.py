"""Samplers choose the grid points a model is trained on: density -> (index, weight), mean weight 1 per frame.

With weight 1/(n pi), pi the inclusion probability, a weighted mean over the sample is an unbiased
estimate of the mean over the whole grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .errors import InputError
from .independent import Independent
from .inequivalent import Inequivalent
from .nuclei import Nuclei
from .structure import Structure

CHUNK = 65536
RESPONSE_QUANTILE = 0.7  # of |response|, where half of the largest probability lies by default
DENSITY_SIGMA = 30.0  # Angstrom^3/e, of Focassio et al. and of Feng et al. for molecules
HALF = np.sqrt(2.0 * np.log(2.0))  # 1.177: exp(-x^2/2) = 1/2


def nearest_nucleus(structure: Structure, points_of, n_points: int) -> np.ndarray:
    """Distance from every point to the nearest atom image -> [n_points] float32, Angstrom (inf without atoms).

    points_of(index) returns coordinates [n, 3] of flat indices.
    """
    out, nuclei = np.empty(n_points, dtype=np.float32), Nuclei(structure)
    for start in range(0, n_points, CHUNK):
        index = np.arange(start, min(start + CHUNK, n_points))
        out[index] = nuclei.nearest(points_of(index))[0]
    return out


def _normalised(weight: np.ndarray) -> np.ndarray:
    return weight / weight.mean() if len(weight) else weight


@dataclass(frozen=True)
class Random:
    """Uniform, without replacement; all points where fewer are there than asked for."""

    points_per_frame: int

    def __call__(self, density, rng):
        """Density or PointDensity, numpy Generator -> index [n] int64 (sorted), weight [n] float64."""
        n = min(self.points_per_frame, density.n_points)
        index = np.sort(rng.choice(density.n_points, n, replace=False))
        return index, np.ones(n)


@dataclass(frozen=True)
class Stratified:
    """A share of the points from shells around the nuclei, the rest elsewhere; weight N_shell / n_shell.

    shells         increasing radii in Angstrom: shell k lies between radius k-1 and radius k of the nearest nucleus
    near_fraction  share of the points that the shells get together, equally divided as far as they have them
    Near nuclei the density varies fastest and few grid points lie there; a model trained without them
    spikes (errors of many e/Angstrom^3 next to a nucleus).
    """

    points_per_frame: int
    shells: tuple[float, ...] = (0.25, 0.7)
    near_fraction: float = 0.25

    def __call__(self, density, rng):
        """Density or PointDensity, numpy Generator -> index [n] int64 (sorted), weight [n] float64."""
        distance = nearest_nucleus(density.structure, density.points, density.n_points)
        stratum = np.searchsorted(np.asarray(self.shells), distance, side="right")
        return self._draw(stratum, rng)

    def _draw(self, stratum, rng):
        n_total = min(self.points_per_frame, len(stratum))
        last = len(self.shells)
        members = [np.flatnonzero(stratum == k) for k in range(last + 1)]
        # equal shares from the innermost outwards; what a small shell cannot give, the next ones do
        near, taken = int(round(n_total * self.near_fraction)), []
        for k in range(last):
            taken.append(min(-(-(near - sum(taken)) // (last - k)), len(members[k])))
        taken.append(min(n_total - sum(taken), len(members[last])))
        # what the outer region cannot give (dense cells) goes back to the shells, outermost first
        for k in reversed(range(last)):
            taken[k] += min(n_total - sum(taken), len(members[k]) - taken[k])
        index = [rng.choice(m, n, replace=False) for m, n in zip(members, taken, strict=True)]
        weight = [np.full(n, len(m) / max(n, 1)) for m, n in zip(members, taken, strict=True)]
        index, weight = np.concatenate(index), np.concatenate(weight)
        order = np.argsort(index)
        return index[order], _normalised(weight[order])


@dataclass(frozen=True)
class Targeted:
    """Targeted sampling (TS): probability ~ exp(-1/(2 sigma^2 n^2)), without replacement, joined with a uniform share.

    sigma          Angstrom^3/e; half of the largest probability at |n| = 1/(1.177 sigma). None: 30 for a density, and
                   for a response the value that puts this half at `quantile` of the frame's |n|, zeros apart
    uniform_share  share of the points that is drawn uniformly from those the rule above has not taken: the two draws
                   are disjoint and together `points_per_frame`, and no region is left out
    max_weight     weights are clipped at this multiple of the mean; `clipped` counts how many
    quantile       between 0 and 1, see sigma; None: 0.7. Only for responses: a density is refused
    Only |n| counts: of a response the sign does not matter, and small negative values of a PAW density are as rare as
    their size. Where n = 0 the probability is zero: such points come with the uniform share alone, or where all others
    are taken.
    Feng, Zhang, Jiang (FIREANN density), Eq. 5; weighted sampling without replacement by exponential
    races in log space (Efraimidis and Spirakis 2006). The weight is 1/pi, pi the inclusion probability.
    """

    points_per_frame: int
    sigma: float | None = None
    uniform_share: float = 0.2
    max_weight: float = 50.0
    quantile: float | None = None
    # [points drawn, weights clipped] so far
    clipped: list = field(default_factory=lambda: [0, 0], init=False, repr=False, compare=False)

    def width(self, values: np.ndarray, kind: str) -> float:
        """sigma for a frame, Angstrom^3/e. values # [n] |n| in e/Angstrom^3; kind: "density" or "response"."""
        if self.sigma is not None:
            return self.sigma
        if kind == "density":
            if self.quantile is not None:
                raise InputError("sampler 'targeted': quantile is for responses; of a density give sigma")
            return DENSITY_SIGMA
        values = values[values > 0]
        quantile = RESPONSE_QUANTILE if self.quantile is None else self.quantile
        # a response without any value is drawn uniformly, whatever the width
        return 1.0 / (HALF * np.quantile(values, quantile)) if len(values) else DENSITY_SIGMA

    def __call__(self, density, rng):
        """Density or PointDensity, numpy Generator -> index [n] int64 (sorted), weight [n] float64."""
        values = np.abs(density.values_at(slice(None))[0].astype(np.float64))
        n_all, n_total = len(values), min(self.points_per_frame, len(values))
        sigma = self.width(values, density.kind)
        with np.errstate(divide="ignore", over="ignore"):
            logp = -1.0 / (2.0 * sigma**2 * values**2)  # -inf where the density vanishes
        n_uniform = int(round(self.uniform_share * n_total))
        n_target = min(n_total - n_uniform, int(np.count_nonzero(logp > -700)))
        n_uniform = n_total - n_target
        race = logp - np.log(rng.standard_exponential(n_all))
        picked = np.argpartition(-race, n_target - 1)[:n_target] if n_target else np.zeros(0, dtype=np.int64)
        pi = inclusion_probability(logp, n_target)
        rest = np.setdiff1d(np.arange(n_all), picked, assume_unique=True)
        index = np.concatenate([picked, rng.choice(rest, n_uniform, replace=False)])
        # in the sample if the race was won, or if lost and then drawn uniformly from the others
        pi = pi + (1.0 - pi) * n_uniform / max(n_all - n_target, 1)
        index = np.sort(index)
        weight = _normalised(1.0 / pi[index])
        high = weight > self.max_weight
        self.clipped[0] += len(weight)
        self.clipped[1] += int(np.count_nonzero(high))
        if high.any():
            weight = _normalised(np.minimum(weight, self.max_weight))
        return index, weight


def inclusion_probability(logp: np.ndarray, n: int) -> np.ndarray:
    """Probability of each item to be among the n winners of exponential races with rates exp(logp).

    pi = 1 - exp(-rate * t) with t such that sum(pi) = n: exact in the limit of many items (Rosen 1972). -> [n_items]
    """
    if n <= 0:
        return np.zeros(len(logp))
    positive = logp > logp.max() - 700.0  # what is rarer than 1e-304 of the most frequent never wins
    if n >= np.count_nonzero(positive):
        return positive.astype(np.float64)
    rate = logp[positive]
    # at t = n/sum(rates) the sum is at most n, at t = 40/smallest rate it is the number of items
    low, high = np.log(n) - np.logaddexp.reduce(rate), np.log(40.0) - rate.min()
    log_t = low
    for _ in range(200):  # Newton for log(sum) against log(t), halving where it leaves the bracket
        x = np.exp(np.minimum(rate + log_t, 700.0))
        pi = -np.expm1(-x)
        total = pi.sum()
        low, high = (log_t, high) if total < n else (low, log_t)
        if abs(total - n) <= 1e-10 * n or high - low < 1e-12:
            break
        slope = (x * np.exp(-x)).sum() / total
        step = np.log(n / total) / slope if slope > 0 else np.inf
        log_t = log_t + step if low < log_t + step < high else 0.5 * (low + high)
    out = np.zeros(len(logp))
    out[positive] = pi
    return out


def effective_size(weight: np.ndarray) -> float:
    """Number of equally weighted points that would tell as much: (sum w)^2 / sum w^2 (Kish)."""
    return float(weight.sum() ** 2 / np.square(weight).sum()) if len(weight) else 0.0


SAMPLERS = {
    "random": Random,
    "stratified": Stratified,
    "targeted": Targeted,
    "inequivalent": Inequivalent,
    "independent": Independent,
}


def make_sampler(config: dict, features=None):
    """Sampler from the `training/sampler` section of the input.

    features: function (structure, points [n, 3]) -> [n, d], for the sampler `independent`
    InputError for `fresh`, which draws within the steps of a training (`pool.py`).
    """
    if config["type"] == "fresh":
        raise InputError("sampler 'fresh': draws points at every step of a training, and keeps none")
    options = {k: v for k, v in config.items() if k != "type"}
    if "shells" in options:
        options["shells"] = tuple(options["shells"])
    if "candidates" in options:
        options |= {"candidates": make_sampler(options["candidates"]), "features": features}
    return SAMPLERS[config["type"]](**options)


def frame_rng(seed: int, frame: int, cycle: int = 0) -> np.random.Generator:
    """Generator of one frame: the sample of a frame does not depend on how many frames there are."""
    return np.random.default_rng([seed, frame, cycle] if cycle else [seed, frame])


def draw(sampler, density, seed: int, frame: int):
    """Sample one frame -> index [n] int64, weight [n] float64; a point set's own weights are inherited.

    Raises InputError where the frame has no points.
    """
    if density.n_points == 0:
        raise InputError(f"{density.name}: no grid points")
    return with_own_weights(density, *sampler(density, frame_rng(seed, frame)))


def with_own_weights(density, index, weight):
    """A sample of `density`, its weights multiplied by those that a point set brings along."""
    own = getattr(density, "weight", None)
    if own is not None:
        weight = _normalised(weight * own[index])
    return index, weight
