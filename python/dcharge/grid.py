"""Grid: a regular real-space grid in a (skewed) cell. Point (i, j, k) lies at origin + (i/n1, j/n2, k/n3).cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import InputError


def smooth_size(n: int) -> int:
    """Smallest integer >= n whose only prime factors are 2, 3, 5 and 7 (what FFTs like)."""
    n = max(1, int(n))
    while True:
        m = n
        for p in (2, 3, 5, 7):
            while m % p == 0:
                m //= p
        if m == 1:
            return n
        n += 1


@dataclass(frozen=True)
class Grid:
    """Regular grid; the end point of a cell vector is not repeated.

    shape  three positive integers
    cell   [3, 3] float64, rows, Angstrom: the vectors the whole grid spans
    origin [3] float64, Angstrom
    """

    shape: tuple[int, int, int]
    cell: np.ndarray
    origin: np.ndarray = (0.0, 0.0, 0.0)

    def __post_init__(self):
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"grid shape {self.shape}: three positive integers expected")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "cell", np.ascontiguousarray(self.cell, dtype=np.float64).reshape(3, 3))
        object.__setattr__(self, "origin", np.ascontiguousarray(self.origin, dtype=np.float64).reshape(3))
        if not (np.all(np.isfinite(self.cell)) and np.all(np.isfinite(self.origin))):
            raise InputError("grid: cell or origin is not finite")
        if abs(np.linalg.det(self.cell)) == 0:
            raise InputError("grid: the cell vectors have zero volume")

    @classmethod
    def from_spacing(cls, cell, spacing: float, origin=(0.0, 0.0, 0.0)) -> Grid:
        """Coarsest grid with 2-3-5-7-smooth shape whose spacing along every vector is <= `spacing` Angstrom."""
        if not spacing > 0:
            raise InputError(f"grid spacing {spacing}: a positive length in Angstrom expected")
        lengths = np.linalg.norm(np.asarray(cell, dtype=np.float64).reshape(3, 3), axis=1)
        return cls(tuple(smooth_size(int(np.ceil(x / spacing - 1e-9))) for x in lengths), cell, origin)

    @property
    def n_points(self) -> int:
        """Number of points."""
        return int(np.prod([int(n) for n in self.shape]))

    @property
    def volume(self) -> float:
        """Volume spanned, Angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def dv(self) -> float:
        """Voxel volume, Angstrom^3."""
        return self.volume / self.n_points

    @property
    def steps(self) -> np.ndarray:
        """Voxel vectors as rows [3, 3], Angstrom."""
        return self.cell / np.array(self.shape, dtype=np.float64)[:, None]

    def points(self, index=None) -> np.ndarray:
        """Cartesian coordinates of the points with flat (C-order) `index` (all if None) -> [n, 3] Angstrom."""
        if index is None:
            index = np.arange(self.n_points)
        ijk = np.stack(np.unravel_index(np.asarray(index, dtype=np.int64), self.shape), axis=-1)
        return ijk.astype(np.float64) @ self.steps + self.origin

    def tiles(self, n_max: int, edge: int = 8):
        """Cut the grid into compact batches: yields flat index arrays of at most max(n_max, edge^3) points.

        Blocks of edge^3 points follow each other, so that neighbours in a batch are neighbours in space.
        """
        n1, n2, n3 = self.shape
        batch, count = [], 0
        for a in range(0, n1, edge):
            for b in range(0, n2, edge):
                plane = (np.arange(a, min(a + edge, n1))[:, None] * n2 + np.arange(b, min(b + edge, n2))).reshape(-1)
                for c in range(0, n3, edge):
                    block = (plane[:, None] * n3 + np.arange(c, min(c + edge, n3))).reshape(-1)
                    if count and count + len(block) > n_max:
                        yield np.concatenate(batch)
                        batch, count = [], 0
                    batch.append(block)
                    count += len(block)
        if count:
            yield np.concatenate(batch)

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same shape and, within `tolerance` Angstrom, the same points."""
        return (
            self.shape == other.shape
            and np.allclose(self.cell, other.cell, rtol=0, atol=tolerance)
            and np.allclose(self.origin, other.origin, rtol=0, atol=tolerance)
        )
