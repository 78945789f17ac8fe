"""The nucleus nearest to a point, periodic images included."""

from __future__ import annotations

import numpy as np

from .structure import Structure, complete_cell


class Nuclei:
    """Finds the nearest atom image of any points of a structure.

    A periodic k-d tree over explicit images: works for any skew and for cells smaller than the search radius.
    """

    def __init__(self, structure: Structure):
        from scipy.spatial import cKDTree

        self.pbc = structure.pbc
        self.cell = complete_cell(structure.cell, structure.pbc)
        self.inverse = np.linalg.inv(self.cell)
        heights = 1.0 / np.linalg.norm(self.inverse, axis=0)
        # every point of a periodic cell lies within half the sum of the vectors' lengths of an image
        reach = 0.5 * np.linalg.norm(self.cell, axis=1)[self.pbc].sum()
        span = [np.arange(-n, n + 1) for n in np.where(self.pbc, np.ceil(reach / heights), 0).astype(int)]
        shifts = np.stack(np.meshgrid(*span, indexing="ij"), -1).reshape(-1, 3)
        images = (self._wrapped(structure.positions)[None] + shifts[:, None]).reshape(-1, 3)
        inside = np.all(~self.pbc | ((images > -reach / heights) & (images < 1 + reach / heights)), axis=1)
        self.tree = cKDTree(images[inside] @ self.cell) if len(structure) else None
        self.atom = np.tile(np.arange(len(structure)), len(shifts))[inside]

    def _wrapped(self, positions) -> np.ndarray:
        fractional = positions @ self.inverse
        return np.where(self.pbc, fractional - np.floor(fractional), fractional)

    def nearest(self, points) -> tuple[np.ndarray, np.ndarray]:
        """Distance [n] (Angstrom) from points [n, 3] to the nearest atom image, and the atom's number [n].

        Without atoms infinite, and -1.
        """
        if self.tree is None:
            return np.full(len(points), np.inf), np.full(len(points), -1)
        distance, image = self.tree.query(self._wrapped(points) @ self.cell)
        return distance, self.atom[image]
