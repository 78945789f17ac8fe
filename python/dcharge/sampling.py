"""Samplers choose the grid points a model is trained on: density -> (index, weight), mean weight 1 per frame.

With weight 1/(n pi), pi the inclusion probability, a weighted mean over the sample is an unbiased
estimate of the mean over the whole grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import InputError, log
from .structure import Structure, complete_cell

CHUNK = 65536


def nearest_nucleus(structure: Structure, points_of, n_points: int) -> np.ndarray:
    """Distance from every point to the nearest atom image -> [n_points] float32, Angstrom (inf without atoms).

    points_of(index) returns coordinates [n, 3] of flat indices. A periodic k-d tree over explicit images:
    works for any skew and for cells smaller than the search radius.
    """
    from scipy.spatial import cKDTree

    out = np.full(n_points, np.inf, dtype=np.float32)
    if not len(structure):
        return out
    cell = complete_cell(structure.cell, structure.pbc)
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    # every point of a periodic cell lies within half the sum of the vectors' lengths of an image
    reach = 0.5 * np.linalg.norm(cell, axis=1)[structure.pbc].sum()
    span = [np.arange(-n, n + 1) for n in np.where(structure.pbc, np.ceil(reach / heights), 0).astype(int)]
    shifts = np.stack(np.meshgrid(*span, indexing="ij"), -1).reshape(-1, 3)
    fractional = structure.positions @ inverse
    fractional = np.where(structure.pbc, fractional - np.floor(fractional), fractional)
    images = (fractional[None] + shifts[:, None]).reshape(-1, 3)
    inside = np.all(~structure.pbc | ((images > -reach / heights) & (images < 1 + reach / heights)), axis=1)
    tree = cKDTree(images[inside] @ cell)
    for start in range(0, n_points, CHUNK):
        index = np.arange(start, min(start + CHUNK, n_points))
        f = points_of(index) @ inverse
        f = np.where(structure.pbc, f - np.floor(f), f)
        out[index] = tree.query(f @ cell)[0]
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
    """Targeted sampling (TS): probability ~ exp(-1/(2 sigma^2 n^2)), without replacement, mixed with a uniform share.

    sigma          Angstrom^3/e; half of the largest probability at n = 1/(1.177 sigma)
    uniform_ratio  share of the points drawn uniformly, so that no region is left out
    max_weight     weights are clipped at this multiple of the mean; the clipped share is logged
    Feng, Zhang, Jiang (FIREANN density), Eq. 5; weighted sampling without replacement by exponential
    races in log space (Efraimidis and Spirakis 2006). The weight is 1/pi, pi the inclusion probability.
    """

    points_per_frame: int
    sigma: float = 30.0
    uniform_ratio: float = 0.2
    max_weight: float = 50.0

    def __call__(self, density, rng):
        """Density or PointDensity, numpy Generator -> index [n] int64 (sorted), weight [n] float64."""
        values = np.abs(density.values_at(slice(None))[0].astype(np.float64))
        n_all, n_total = len(values), min(self.points_per_frame, len(values))
        with np.errstate(divide="ignore", over="ignore"):
            logp = -1.0 / (2.0 * self.sigma**2 * values**2)  # -inf where the density vanishes
        n_uniform = int(round(self.uniform_ratio * n_total))
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
        clipped = weight > self.max_weight
        if clipped.any():
            log.info(f"targeted sampler: {100 * clipped.mean():.2f} % of the weights clipped at {self.max_weight:g}")
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

    def probability(log_t):
        return -np.expm1(-np.exp(np.minimum(rate + log_t, 700.0)))

    # at t = n/sum(rates) the sum is at most n, at t = 40/smallest rate it is the number of items
    low, high = np.log(n) - np.logaddexp.reduce(rate), np.log(40.0) - rate.min()
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if probability(middle).sum() < n else (low, middle)
    out = np.zeros(len(logp))
    out[positive] = probability(high)
    return out


SAMPLERS = {"random": Random, "stratified": Stratified, "targeted": Targeted}


def make_sampler(config: dict):
    """Sampler from the `training/sampler` section of the input."""
    options = {k: v for k, v in config.items() if k != "type"}
    if "shells" in options:
        options["shells"] = tuple(options["shells"])
    return SAMPLERS[config["type"]](**options)


def frame_rng(seed: int, frame: int) -> np.random.Generator:
    """Generator of one frame: the sample of a frame does not depend on how many frames there are."""
    return np.random.default_rng([seed, frame])


def draw(sampler, density, seed: int, frame: int):
    """Sample one frame -> index [n] int64, weight [n] float64; a point set's own weights are inherited.

    Raises InputError where the frame has no points.
    """
    if density.n_points == 0:
        raise InputError(f"{density.name}: no grid points")
    index, weight = sampler(density, frame_rng(seed, frame))
    own = getattr(density, "weight", None)
    if own is not None:
        weight = _normalised(weight * own[index])
    return index, weight
