"""Error metrics of a predicted density, accumulated in float64 over any number of points and frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Errors:
    """Running sums over points, each weighted by its voxel volume dv (Angstrom^3).

    NMAE = sum |error| dv / sum |reference| dv; R2 = 1 - SSE/SST. The electron error is that of the signed
    integral; it is undefined for point data, whose points fill no volume. The same sums serve other quantities, in
    their units.
    """

    n_points: int = 0
    volume: float = 0.0
    abs_error: float = 0.0
    abs_reference: float = 0.0
    sq_error: float = 0.0
    reference: float = 0.0
    sq_reference: float = 0.0
    sq_predicted: float = 0.0
    integral_error: float = 0.0
    max_error: float = 0.0
    integrable: bool = True

    def add(self, predicted, reference, weight=1.0, integrable: bool = True) -> None:
        """Add points: predicted [n], reference [n] in e/Angstrom^3, weight: dv or [n] importance weights."""
        p, q = np.asarray(predicted, dtype=np.float64).ravel(), np.asarray(reference, dtype=np.float64).ravel()
        w = np.broadcast_to(np.asarray(weight, dtype=np.float64), q.shape)
        e = p - q
        self.n_points += len(q)
        self.volume += float(w.sum())
        self.abs_error += float((w * np.abs(e)).sum())
        self.abs_reference += float((w * np.abs(q)).sum())
        self.sq_error += float((w * e * e).sum())
        self.reference += float((w * q).sum())
        self.sq_reference += float((w * q * q).sum())
        self.sq_predicted += float((w * p * p).sum())
        self.integral_error += float((w * e).sum())
        if len(e):
            self.max_error = max(self.max_error, float(np.abs(e).max()))
        self.integrable &= integrable

    def __iadd__(self, other: Errors) -> Errors:
        for name in self.__dataclass_fields__:
            if name == "max_error":
                self.max_error = max(self.max_error, other.max_error)
            elif name == "integrable":
                self.integrable &= other.integrable
            else:
                setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def pearson2(self) -> float | None:
        """Squared Pearson correlation, the other R2 of the literature: 1 for any straight line. None if undefined."""
        if not self.volume > 0:
            return None
        predicted = self.reference + self.integral_error
        spread = self.sq_predicted - predicted**2 / self.volume, self.sq_reference - self.reference**2 / self.volume
        if any(a <= 1e-14 * b for a, b in zip(spread, (self.sq_predicted, self.sq_reference), strict=True)):
            return None
        product = 0.5 * (self.sq_predicted + self.sq_reference - self.sq_error)
        return (product - predicted * self.reference / self.volume) ** 2 / (spread[0] * spread[1])

    def result(self) -> dict:
        """The metrics as `dcharge test --json` writes them; undefined values are None."""

        def ratio(a, b):
            return a / b if b > 0 else None

        total = self.sq_reference - self.reference**2 / self.volume if self.volume > 0 else 0.0
        r2 = 1.0 - self.sq_error / total if total > 1e-14 * max(self.sq_reference, 1e-300) else None
        nmae = ratio(self.abs_error, self.abs_reference)
        mse = ratio(self.sq_error, self.volume)
        electrons = None
        if self.integrable and abs(self.reference) > 0:
            electrons = 100.0 * self.integral_error / abs(self.reference)
        return {
            "nmae_percent": None if nmae is None else 100.0 * nmae,
            "mae": ratio(self.abs_error, self.volume),
            "rmse": None if mse is None else math.sqrt(mse),
            "r2": r2,
            "max_error": self.max_error if self.n_points else None,
            "electron_error_percent": electrons,
            "n_points": self.n_points,
        }


def pool(frames: list[Errors]) -> dict:
    """Pooled metrics of several frames (sums over all points), with the mean of the frames' NMAE."""
    total = Errors()
    for errors in frames:
        total += errors
    each = [e.result()["nmae_percent"] for e in frames]
    each = [x for x in each if x is not None]
    result = total.result()
    mean = float(np.mean(each)) if each else None
    return {"nmae_percent": result.pop("nmae_percent"), "nmae_percent_frame_mean": mean, **result}
