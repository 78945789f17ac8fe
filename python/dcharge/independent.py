"""Sampling by linearly independent features (LIFS): of candidate points, those that the others do not represent.

Feng, Zhang, Jiang (FIREANN density), Sec. 2.2: candidate k is accepted if
eps_k = min_gamma |x_k - sum_i gamma_i x_i| / |x_k| > threshold, i running over the points accepted before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .errors import InputError

BLOCK = 64  # candidates projected by one matrix product
TINY = 1e-12  # of the largest norm: a row without features


def independent_rows(features, threshold: float, *, limit: int | None = None, rounds: int = 1, pivoted=False):
    """Indices [m] int64 of rows with linearly independent features, in the order of acceptance.

    features   [n, d] float64; rows are candidates in the order they are tried
    threshold  0 < threshold < 1; below about 1e-13 rounding decides
    limit      most rows that are accepted
    rounds     rows that were rejected are tried again, against an empty basis; each round accepts at most d rows
    pivoted    not in the order of the rows: next is always the one with the largest eps
    Of rows whose norm is zero, or 1e-12 of the largest, the first is accepted and no other. Basis and residuals are
    float64; a row is orthogonalised twice. Raises ValueError where features are not finite.
    """
    x = np.array(features, dtype=np.float64, ndmin=2)
    if not np.isfinite(x).all():
        raise ValueError("features are not finite numbers")
    largest = np.abs(x).max(initial=0.0)
    x /= largest or 1.0  # squares neither overflow nor vanish
    norm = np.linalg.norm(x, axis=1)
    empty = norm <= TINY * norm.max(initial=0.0)
    left = np.flatnonzero(~empty)
    limit = len(x) if limit is None else limit
    chosen = np.flatnonzero(empty)[: min(1, limit)]
    x[left] /= norm[left, None]
    one = _one_pivoted_round if pivoted else _one_round
    for _ in range(rounds):
        if len(chosen) >= limit or not len(left):
            break
        accepted = one(x[left], threshold, limit - len(chosen))
        chosen = np.concatenate([chosen, left[accepted]])
        left = np.delete(left, accepted)
    return chosen


def _one_round(x: np.ndarray, threshold: float, limit: int) -> np.ndarray:
    """Positions of the accepted rows of x [n, d] (norm 1), tried in order: the definition, in blocks.

    A block is projected on what was accepted before it by two matrix products; only rows accepted inside the block
    act one by one on those behind them.
    """
    n, d = x.shape
    most = min(n, d, limit)  # d vectors span everything
    basis, accepted = np.empty((most, d)), []
    for start in range(0, n, BLOCK):
        rest, q = x[start : start + BLOCK].copy(), basis[: len(accepted)]
        for _ in range(2 if len(q) else 0):  # twice is enough
            rest -= (rest @ q.T) @ q
        eps, i = np.linalg.norm(rest, axis=1), 0
        while (later := np.flatnonzero(eps[i:] > threshold)).size:
            i += later[0]
            v, q = rest[i] / eps[i], basis[: len(accepted)]
            v = v - (q @ v) @ q
            v /= np.linalg.norm(v)
            basis[len(accepted)] = v
            accepted.append(start + i)
            if len(accepted) == most:
                return np.array(accepted, dtype=np.int64)
            i += 1
            behind = rest[i:]
            behind -= np.outer(behind @ v, v)
            eps[i:] = np.linalg.norm(behind, axis=1)
    return np.array(accepted, dtype=np.int64)


def _one_pivoted_round(x: np.ndarray, threshold: float, limit: int) -> np.ndarray:
    """As `_one_round`, the row with the largest eps first: QR with column pivoting of x^T."""
    from scipy.linalg import qr

    r, order = qr(x.T, mode="r", pivoting=True, check_finite=False)
    eps = np.abs(np.diagonal(r))  # does not increase
    return order[: min(limit, int(np.count_nonzero(eps > threshold)))].astype(np.int64)


@dataclass(frozen=True)
class Independent:
    """Linearly independent feature sampling: candidates of another sampler, screened by a model's features.

    candidates        the sampler that draws them
    points_per_frame  most points that are kept; fewer where features are dependent
    threshold, order, rounds   as for `independent_rows`; order: "random" or "pivoted"
    cycles, accumulate         how training repeats it (`resampling.py`)
    features          function (structure, points [n, 3]) -> [n, d]
    The weight of a point is that of its sampler.
    """

    candidates: object
    points_per_frame: int = 100
    threshold: float = 1e-2
    order: str = "random"
    rounds: int = 1
    cycles: int = 1
    accumulate: bool = True
    features: Callable | None = field(default=None, compare=False, repr=False)

    def __call__(self, density, rng):
        """Density or PointDensity, numpy Generator -> index [n] int64 (sorted), weight [n] float64."""
        return self.choose(density, rng, self.points_per_frame, np.zeros(0, dtype=np.int64))

    def choose(self, density, rng, n: int, taken):
        """As a call, but at most n points, none of them among the indices `taken` [m]."""
        index, weight = self.candidates(density, rng)
        order = rng.permutation(len(index))
        order = order[~np.isin(index[order], taken)]
        if n <= 0 or not len(order):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        x = self.features(density.structure, density.points(index[order]))
        try:
            kept = independent_rows(
                x, self.threshold, limit=n, rounds=self.rounds, pivoted=self.order == "pivoted"
            )  # fmt: skip
        except ValueError as error:
            raise InputError(f"{density.name}: sampler 'independent': the model's {error}") from None
        chosen = np.sort(order[kept])
        return index[chosen], weight[chosen] / weight[chosen].mean()
