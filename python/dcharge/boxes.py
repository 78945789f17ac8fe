"""Atoms of a large structure in boxes: which of them can lie near a set of points, without looking at all of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Boxes:
    """Atoms of one structure sorted into boxes of the cell, about `edge` Angstrom thick.

    atoms [n_atoms, 3] float64 Angstrom, cell [3, 3] rows (complete), pbc [3] bool; on the CPU.
    """

    def __init__(self, atoms: Tensor, cell: Tensor, pbc: Tensor, edge: float):
        self.inverse = torch.linalg.inv(cell)
        self.pbc = pbc.numpy()
        fractional = (atoms.detach() @ self.inverse).numpy()
        # non-periodic axes: the range of the atoms instead of the cell
        self.low = np.where(self.pbc, 0.0, fractional.min(0))
        self.span = np.where(self.pbc, 1.0, np.maximum(np.ptp(fractional, axis=0), 1e-9))
        self.per_length = np.linalg.norm(self.inverse.numpy(), axis=0) / self.span  # share of the span per Angstrom
        self.n = np.clip((1.0 / (self.per_length * edge)).astype(np.int64), 1, 64)
        place = np.floor((fractional - self.low) / self.span * self.n).astype(np.int64)
        place = np.where(self.pbc, place % self.n, np.clip(place, 0, self.n - 1))
        box = (place[:, 0] * self.n[1] + place[:, 1]) * self.n[2] + place[:, 2]
        self.member = np.argsort(box, kind="stable")
        self.first = np.concatenate([[0], np.cumsum(np.bincount(box, minlength=int(self.n.prod())))])

    def near(self, points: Tensor, reach: float) -> Tensor | None:
        """Indices, ascending, of all atoms with an image within `reach` of a point, and of some more around them.

        None where the points span so much of the cell that no choice is worth it (or are none, or not finite).
        """
        if not len(points):
            return None
        low, high = ((x.numpy() - self.low) / self.span for x in torch.aminmax(points.detach() @ self.inverse, dim=0))
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return None
        margin = reach * self.per_length * (1 + 1e-9) + 1e-9
        begin = np.floor((low - margin) * self.n)
        end = np.floor((high + margin) * self.n) + 1
        axes = []
        for a in range(3):
            n = int(self.n[a])
            if self.pbc[a] and end[a] - begin[a] < n:
                axes.append(np.sort(np.arange(int(begin[a]), int(end[a])) % n))
            elif self.pbc[a]:
                axes.append(np.arange(n))
            else:
                axes.append(np.arange(*np.clip([begin[a], end[a] - 1], 0, n - 1).astype(np.int64) + [0, 1]))
        if 2 * np.prod([len(x) for x in axes]) > self.n.prod():
            return None
        box = ((axes[0][:, None] * self.n[1] + axes[1])[..., None] * self.n[2] + axes[2]).reshape(-1)
        count = self.first[box + 1] - self.first[box]
        skip = np.cumsum(count) - count
        index = np.repeat(self.first[box] - skip, count) + np.arange(int(count.sum()))
        return torch.from_numpy(np.sort(self.member[index]))
