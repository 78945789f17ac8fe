"""Density: a structure with its electron density, on a regular grid or at free points. e/Angstrom^3."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .errors import InputError
from .grid import Grid
from .structure import Structure

KINDS = ("density", "response")
CHANNELS = ("total", "spin")


def _values(values, n_points, what):
    values = np.ascontiguousarray(values)  # `values_at` must not copy the grid
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    if values.ndim < 2 or int(np.prod(values.shape[1:])) != n_points:
        raise InputError(f"{what}: values of shape {values.shape} for {n_points} points")
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InputError(f"{what}: {bad} density values are not finite numbers (nan or inf)")
    return values


@dataclass
class Density:
    """Density on a regular grid.

    structure  Structure
    grid       Grid
    values     [n_channels, n1, n2, n3] float32 or float64, e/Angstrom^3; channel 0 total, channel 1 spin (up - down)
    kind       "density" or "response" (rho(field) - rho(0))
    source     provenance: {"file": ..., "code": ..., ...}, free text values
    extra      what a format carries beyond this and gets back when written, by format name
               (e.g. extra["vasp"]: augmentation occupancies, verbatim)
    """

    structure: Structure
    grid: Grid
    values: np.ndarray
    kind: str = "density"
    source: dict = field(default_factory=dict)
    extra: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError(f"density kind '{self.kind}': one of {KINDS} expected")
        values = np.asarray(self.values)
        if values.shape == self.grid.shape:
            values = values[None]
        self.values = _values(values, self.grid.n_points, self.name).reshape(-1, *self.grid.shape)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.grid.shape))
        return f"Density({self.name}: {self.structure}, {self.kind}, {'+'.join(self.channels)} on {shape} points)"

    @property
    def name(self) -> str:
        """The file it came from, for messages."""
        return str(self.source.get("file", "density"))

    @property
    def n_points(self) -> int:
        """Number of grid points."""
        return self.grid.n_points

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels held."""
        return CHANNELS[: len(self.values)]

    @property
    def total(self) -> np.ndarray:
        """Channel 0 [n1, n2, n3], e/Angstrom^3."""
        return self.values[0]

    def electrons(self) -> float:
        """Integral of the total density over the grid (float64), e."""
        return float(self.total.sum(dtype=np.float64) * self.grid.dv)

    def points(self, index=None) -> np.ndarray:
        """Coordinates [n, 3] Angstrom of flat indices (all if None)."""
        return self.grid.points(index)

    def values_at(self, index) -> np.ndarray:
        """Values [n_channels, n] at flat indices."""
        return self.values.reshape(len(self.values), -1)[:, index]


@dataclass
class PointDensity:
    """Density at free points (DeePMD-kit style data, sampled sets).

    structure  Structure
    positions  [n_points, 3] Angstrom
    values     [n_channels, n_points] e/Angstrom^3
    weight     [n_points], mean 1, or None: importance weights of the points
    kind, source  as in Density
    """

    structure: Structure
    positions: np.ndarray
    values: np.ndarray
    weight: np.ndarray | None = None
    kind: str = "density"
    source: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError(f"density kind '{self.kind}': one of {KINDS} expected")
        self.positions = np.ascontiguousarray(self.positions, dtype=np.float64).reshape(-1, 3)
        if not np.all(np.isfinite(self.positions)):
            raise InputError(f"{self.name}: a grid point's coordinate is not a finite number")
        values = np.asarray(self.values)
        if values.ndim == 1:
            values = values[None]
        self.values = _values(values, len(self.positions), self.name)
        if self.weight is not None:
            self.weight = np.ascontiguousarray(self.weight, dtype=np.float64).reshape(-1)
            if len(self.weight) != len(self.positions):
                raise InputError(f"{self.name}: {len(self.weight)} weights for {len(self.positions)} points")
            if not (np.isfinite(self.weight).all() and (self.weight >= 0).all() and (self.weight > 0).any()):
                raise InputError(f"{self.name}: weights must be finite, not negative and not all zero")

    def __repr__(self) -> str:
        channels = "+".join(self.channels)
        return f"PointDensity({self.name}: {self.structure}, {self.kind}, {channels} at {self.n_points} points)"

    @property
    def name(self) -> str:
        """The file it came from, for messages."""
        return str(self.source.get("file", "points"))

    @property
    def n_points(self) -> int:
        """Number of points."""
        return len(self.positions)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels held."""
        return CHANNELS[: len(self.values)]

    def points(self, index=None) -> np.ndarray:
        """Coordinates [n, 3] Angstrom (all if index is None)."""
        return self.positions if index is None else self.positions[index]

    def values_at(self, index) -> np.ndarray:
        """Values [n_channels, n] at indices."""
        return self.values[:, index]
