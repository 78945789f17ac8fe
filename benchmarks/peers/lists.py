"""Neighbours of points among the periodic images of atoms, by a k-d tree; for the peers whose own lists are slow."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def images(positions, cell, points, cutoff: float):
    """Images of atoms [n, 3] in a rectangular cell within `cutoff` of the points' box.

    -> (position [m, 3], atom [m], shift in cells [m, 3])
    """
    edges = np.diag(cell)
    low, high = points.min(0) - cutoff, points.max(0) + cutoff
    first = np.floor((low - positions.max(0)) / edges).astype(int)
    last = np.ceil((high - positions.min(0)) / edges).astype(int)
    span = [np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]
    shift = np.stack(np.meshgrid(*span, indexing="ij"), -1).reshape(-1, 3)
    where = positions[None] + (shift * edges)[:, None]
    inside = ((where > low) & (where < high)).all(-1)
    cells, atom = np.nonzero(inside)
    return where[inside], atom, shift[cells]


def nearest(positions, cell, points, cutoff: float, most: int):
    """At most `most` neighbours of every point: images as above and indices into them [n_points, most], -1 for none."""
    where, atom, _ = images(positions, cell, points, cutoff)
    distance, index = cKDTree(where).query(points, k=most, distance_upper_bound=cutoff)
    return where, atom, np.where(np.isfinite(distance), index, -1)


def pairs(positions, cell, points, cutoff: float):
    """All neighbours: (atom, point) [e, 2] and shifts in cells [e, 3]; a point on an atom has it as a neighbour."""
    where, atom, shift = images(positions, cell, points, cutoff)
    found = cKDTree(where).query_ball_point(points, cutoff)
    point = np.repeat(np.arange(len(points)), [len(x) for x in found])
    image = np.fromiter((i for x in found for i in x), dtype=np.int64, count=len(point))
    return np.stack([atom[image], point], -1), shift[image]
