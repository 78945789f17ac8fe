"""A grid plane in its own Cartesian frame, for pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Plane:
    """Plane number `position` across cell vector `axis`; x, y [n + 1, m + 1] Angstrom: corners of its points' patches,
    x along the first of the two cell vectors that span it."""

    axis: int
    position: int
    x: np.ndarray
    y: np.ndarray

    def of(self, values: np.ndarray) -> np.ndarray:
        """Its values [n, m] of values [n1, n2, n3], the lower axis first."""
        return np.take(values, self.position, axis=self.axis)


def densest_plane(values: np.ndarray, axis: int) -> int:
    """Index of the plane with the largest mean absolute value: one that shows atoms or bonds."""
    others = tuple(i for i in range(3) if i != axis)
    return int(np.abs(values).mean(axis=others).argmax())


def plane_of(density, axis: int = 2) -> Plane:
    """The densest plane of a density across cell vector `axis`."""
    grid = density.grid
    i, j = (k for k in range(3) if k != axis)
    a, b = grid.cell[i], grid.cell[j]
    ex = a / np.linalg.norm(a)
    ey = b - (b @ ex) * ex
    ey /= np.linalg.norm(ey)
    u, v = np.meshgrid(np.arange(grid.shape[i] + 1), np.arange(grid.shape[j] + 1), indexing="ij")
    # a value belongs to the middle of its patch
    corner = (u - 0.5)[..., None] * grid.steps[i] + (v - 0.5)[..., None] * grid.steps[j]
    return Plane(axis, densest_plane(density.total, axis), corner @ ex, corner @ ey)
