"""The grid as pseudo-atoms (type X), as the Deep Charge paper describes it: for inspection and other programs."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from .errors import InputError
from .grid import Grid


def insert_grid(atoms: Atoms, *, shape=None, spacing=None, points=None) -> Atoms:
    """`atoms` with grid points appended as pseudo-atoms X (atomic number 0).

    One of: shape (n1, n2, n3); spacing in Angstrom; points [n, 3] in Angstrom. The real atoms come first.
    `Predictor.predict` of the result gives the density at the X atoms, equal to predicting at those points.
    """
    if points is None:
        from .request import choose_grid
        from .structure import Structure

        grid: Grid = choose_grid(Structure.from_ase(atoms), shape=shape, spacing=spacing)
        points = grid.points()
    elif not (shape is spacing is None):
        raise InputError("insert_grid: give one of shape, spacing, points")
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    out = atoms.copy()
    out.extend(Atoms(numbers=np.zeros(len(points), dtype=int), positions=points))
    return out
