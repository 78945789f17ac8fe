"""Sampling of symmetry-inequivalent points on a sub-grid: one point of every orbit. Needs spglib.

Gong et al., PRB 100, 184103, train on such points. Their script walks through a sub-lattice of about 0.5 Angstrom, z as
the slow direction, keeps a point that no symmetry operation (spglib, symprec 0.1) maps onto one before it, and stops
after 1000 points or after 200 equivalent ones in a row. Where it stops, the upper part of the cell was never looked at:
the sample prefers small z. It also forgets how many points each one stands for. Here every orbit is found, one point of
each is drawn at random, and its weight is the size of the orbit: the weighted mean over the sample is that over the
sub-grid, exactly where the symmetry is exact, on average (over seeds) where it holds within `symprec` only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import InputError, say_once
from .grid import Grid
from .symmetry import orbits_of

ASKED = "sampler 'inequivalent'"
NEAR = np.sqrt(2.0)  # a divisor of the grid's number of points is taken within this factor of the spacing


def sub_grid(grid: Grid, spacing: float) -> list[np.ndarray]:
    """Indices of the sub-grid along each axis, from 0, at distances of about `spacing` Angstrom.

    Where the number of grid points has a divisor that comes near, every k-th point, so that the symmetry of the grid
    is that of the sub-grid; else the grid points nearest to an even division. InputError where the grid is coarser.
    """
    lengths = np.linalg.norm(grid.cell, axis=1)
    out = []
    for letter, n, length in zip("abc", grid.shape, lengths, strict=True):
        if spacing < (1 - 1e-6) * length / n:
            raise InputError(
                f"{ASKED}: spacing {spacing:g} is smaller than the grid's {length / n:.4g} Angstrom along {letter}; "
                "at least that expected"
            )
        wanted = max(1.0, length / spacing)
        divisors = np.array([m for m in range(1, n + 1) if n % m == 0])
        off = np.abs(np.log(divisors / wanted))
        m = int(divisors[off.argmin()]) if off.min() <= np.log(NEAR) else min(n, round(wanted))
        out.append(np.arange(m) * n // m)
    return out


@dataclass(frozen=True)
class Inequivalent:
    """One point of every orbit of a sub-grid; the weight is the size of the orbit.

    points_per_frame  most points; with more orbits, as many of them at random, each as likely as another
    spacing           of the sub-grid, Angstrom
    symprec           how far atoms may be off their symmetric places, Angstrom
    A structure without symmetry gives the whole sub-grid, which is said. Of the structure's operations those count that
    map the grid and an electric field onto themselves.
    """

    points_per_frame: int = 1000
    spacing: float = 0.5
    symprec: float = 0.01

    def __call__(self, density, rng):
        """Density, numpy Generator -> index [n] int64 (sorted), weight [n] float64. InputError for free points."""
        grid = getattr(density, "grid", None)
        if grid is None:
            raise InputError(f"{density.name}: {ASKED} needs a grid, these are free points")
        try:
            axes = sub_grid(grid, self.spacing)
        except InputError as error:
            raise InputError(f"{density.name}: {error}") from None
        index = np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), grid.shape).reshape(-1)
        label, n_operations = orbits_of(density.structure, grid, index, self.symprec, ASKED)
        order = rng.permutation(len(index))  # so that the first of an orbit is any of it
        _, first, size = np.unique(label[order], return_index=True, return_counts=True)
        self._say("x".join(str(len(a)) for a in axes), n_operations, len(size), len(index), self.points_per_frame)
        chosen = np.arange(len(size))
        if len(size) > self.points_per_frame:
            chosen = rng.choice(len(size), self.points_per_frame, replace=False)
        index, weight = index[order[first[chosen]]], size[chosen].astype(np.float64)
        order = np.argsort(index)
        return index[order], weight[order] / weight.mean()

    @staticmethod
    def _say(shape: str, n_operations: int, n_orbits: int, n_points: int, most: int) -> None:
        if n_operations > 1:
            text = f"{n_operations} operations fit the grid, {n_orbits} of {n_points} points are inequivalent"
        else:
            text = f"no symmetry, all {n_points} points count"
        if n_orbits > most:
            text += f"; {most} of them drawn at random"
        say_once(f"inequivalent-{shape}-{n_operations}-{n_orbits}-{most}", f"{ASKED}: sub-grid {shape}, {text}")
