"""Symmetry: a crystal's irreducible grid points. `dcharge predict --symmetry`, sampler `inequivalent`; needs spglib.

An operation x -> W x + t (fractional, W integer) maps point i of a grid with n points and origin o to
i' = n (W (i/n + o) + t - o). It counts if that is a point of the grid for every i, if it maps every atom onto an atom
of its species within TOLERANCE, and if it leaves the electric field as it is. A point is evaluated once per orbit; the
model is invariant, so that the others follow. Memory: one integer per point beside the density.
"""

from __future__ import annotations

import warnings

import numpy as np

from .errors import InputError, log, say_once
from .grid import Grid
from .structure import Structure

TOLERANCE = 2e-6  # Angstrom: atoms further off would show in the fifth digit of the density
MOST_PAIRS = 10_000_000  # operations times atoms beyond which spglib's word is taken that atoms lie on atoms
LONG_SEARCH = 4000  # atoms; spglib took 0.2 s for 512 atoms without symmetry and 18 s for 4096
CHUNK = 1 << 20  # images of points treated at once


def operations(
    structure: Structure, grid: Grid, tolerance: float = TOLERANCE, asked: str = "--symmetry"
) -> tuple[np.ndarray, np.ndarray]:
    """Symmetry operations of the structure that map the grid onto itself, the identity among them.

    tolerance  Angstrom that an atom's image may lie off an atom, after the translation is fitted to the grid
    asked      what messages call the user's wish
    -> rotation [n_ops, 3, 3] int64 and shift [n_ops, 3] int64 in index space: i' = rotation i + shift with
    rotation_ab = n_a W_ab / n_b. Along periodic axes i' is taken modulo n; along others it may leave the grid.
    """
    w, t = candidates(structure, grid, tolerance, asked)
    n, pbc = np.array(grid.shape), structure.pbc
    inverse = np.linalg.inv(grid.cell)
    x, origin = (structure.positions - grid.origin) @ inverse, grid.origin @ inverse
    t = t + w @ origin - origin  # about the grid's origin
    if len(x) and not pbc.all():
        # spglib sees a crystal; where none is, no whole cell may be left out: the centre of the atoms stays
        t = np.where(pbc, t, t + np.rint(x.mean(0) - w @ x.mean(0) - t))
    shift = np.rint(n * t).astype(np.int64)  # the translation as the grid has it; whether the atoms bear that is tested
    off = np.maximum(0.01, tolerance * n * np.linalg.norm(inverse, axis=0))  # in steps of the grid
    fits = np.all((w * n[:, None]) % n == 0, axis=(1, 2)) & np.all(np.abs(n * t - shift) < off, axis=1)
    maps = _AtomMap(structure.numbers, x, grid.cell, pbc, tolerance)
    trusted = pbc.all() and len(w) * len(x) > MOST_PAIRS
    keep = [k for k in np.flatnonzero(fits) if trusted or maps(w[k], shift[k] / n)]
    field = structure.field
    if field is not None and np.any(field):
        turned = {k: field @ np.linalg.solve(grid.cell, w[k].T @ grid.cell) for k in keep}
        keep = [k for k in keep if np.allclose(turned[k], field, rtol=0, atol=1e-8 * np.abs(field).max())]
    shift = np.where(pbc, shift % n, shift)
    rows = np.concatenate([(w * n[:, None] // n)[keep].reshape(-1, 9), shift[keep]], axis=1)
    rows = np.unique(rows, axis=0)
    return rows[:, :9].reshape(-1, 3, 3), rows[:, 9:]


def candidates(structure: Structure, grid: Grid, tolerance: float, asked: str) -> tuple[np.ndarray, np.ndarray]:
    """What spglib finds in the grid's cell: W [n_ops, 3, 3] int64, t [n_ops, 3]; the identity in any case."""
    try:
        import spglib
    except ImportError as error:
        raise InputError(f"{asked} needs spglib: pip install spglib") from error
    w, t = np.eye(3, dtype=np.int64)[None], np.zeros((1, 3))
    rows = structure.pbc
    if not len(structure) or not np.allclose(grid.cell[rows], structure.cell[rows], rtol=0, atol=TOLERANCE):
        return w, t
    fractional = structure.positions @ np.linalg.inv(grid.cell)
    if len(structure) >= LONG_SEARCH:
        say_once(
            "symmetry-search",
            f"{asked}: spglib looks at {len(structure)} atoms; without symmetry its time grows with their square",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # spglib's, about how it tells of errors
            found = spglib.get_symmetry((grid.cell, fractional, structure.numbers), symprec=tolerance)
    except Exception:  # spglib's own errors, for example where atoms coincide; older ones return None
        found = None
    if found is None:
        log.warning(f"{asked}: spglib fails on this structure (do atoms coincide?); no symmetry is used")
        return w, t
    return np.concatenate([w, found["rotations"].astype(np.int64)]), np.concatenate([t, found["translations"]])


class _AtomMap:
    """Whether x -> W x + t maps the cell and the atoms (x [n, 3], fractional) onto themselves within a tolerance."""

    def __init__(self, numbers: np.ndarray, x: np.ndarray, cell: np.ndarray, pbc: np.ndarray, tolerance: float):
        from scipy.spatial import cKDTree

        self.cell, self.pbc, self.tolerance, self.species = cell, pbc, tolerance, []
        border = np.maximum(1e-3, 2 * tolerance * np.linalg.norm(np.linalg.inv(cell), axis=0))
        for number in np.unique(numbers):
            own = np.where(pbc, x - np.floor(x), x)[numbers == number]
            copies = own
            for axis in np.flatnonzero(pbc):  # what lies at a border is copied: wrapping must not separate neighbours
                step = np.eye(3)[axis]
                low, high = copies[copies[:, axis] < border[axis]], copies[copies[:, axis] > 1 - border[axis]]
                copies = np.concatenate([copies, low + step, high - step])
            self.species.append((own, cKDTree(copies @ cell)))

    def __call__(self, w: np.ndarray, t: np.ndarray) -> bool:
        """W [3, 3], t [3]."""
        turned = w.T @ self.cell  # rows: images of the cell vectors
        slack = self.tolerance * np.abs(self.cell).max()
        if not np.allclose(turned @ turned.T, self.cell @ self.cell.T, rtol=0, atol=slack):
            return False
        if np.any(w[np.ix_(~self.pbc, self.pbc)]):  # a periodic axis would turn into one that is not
            return False
        for own, tree in self.species:
            image = own @ w.T + t
            image = np.where(self.pbc, image - np.floor(image), image)
            if np.isinf(tree.query(image @ self.cell, distance_upper_bound=self.tolerance)[0]).any():
                return False
        return True


def orbits(structure: Structure, grid: Grid) -> tuple[np.ndarray, int]:
    """For every point the flat index of its representative [n_points] (int32 or int64), and the number of operations.

    Points are taken in order, and their images get the same representative: the time grows with the number of points,
    not with that times the number of operations. An image off the grid (non-periodic axes) is left out.
    """
    rotation, shift = operations(structure, grid)
    out = np.full(grid.n_points, -1, dtype=np.int32 if grid.n_points < 2**31 else np.int64)
    step = max(64, CHUNK // (16 * len(shift)))
    for start in range(0, grid.n_points, step):
        left = start + np.flatnonzero(out[start : start + step] < 0)
        if not len(left):
            continue
        flat = _images(left, rotation, shift, grid.shape, structure.pbc)
        out[flat] = np.broadcast_to(flat.min(axis=0), flat.shape)
    return out, len(shift)


def orbits_of(
    structure: Structure, grid: Grid, index: np.ndarray, tolerance: float, asked: str
) -> tuple[np.ndarray, int]:  # fmt: skip
    """As `orbits`, of the points `index` [n] alone: the smallest flat index of their images [n] int64; arguments as in
    `operations`. The time grows with the number of these points times that of the operations."""
    rotation, shift = operations(structure, grid, tolerance, asked)
    step = max(64, CHUNK // (16 * len(shift)))
    parts = (index[start : start + step] for start in range(0, len(index), step))
    found = [_images(part, rotation, shift, grid.shape, structure.pbc).min(axis=0) for part in parts]
    return np.concatenate(found), len(shift)


def _images(index, rotation, shift, shape, pbc) -> np.ndarray:
    """Flat indices [n_ops, n] of the images of points `index` [n]; of those off the grid, the point's own."""
    n = np.array(shape)
    ijk = np.stack(np.unravel_index(index, shape), -1)
    image = ijk @ rotation.transpose(0, 2, 1) + shift[:, None]  # [n_ops, n, 3]
    valid = np.all(pbc | ((image >= 0) & (image < n)), axis=-1)
    image %= n
    return np.where(valid, (image[..., 0] * n[1] + image[..., 1]) * n[2] + image[..., 2], index)


def unfold(structure: Structure, grid: Grid, tile: int, evaluate):
    """Evaluate one point per orbit and hand out the whole grid: yields (flat index [n], values [k, n]).

    evaluate  function of points [m, 3] (Angstrom) -> [k, m], called for about `tile` points at a time
    Says what is saved. InputError without spglib.
    """
    place, n_operations = orbits(structure, grid)
    wanted = np.zeros(grid.n_points, dtype=bool)
    for start in range(0, grid.n_points, CHUNK):
        wanted[place[start : start + CHUNK]] = True
    chosen = np.flatnonzero(wanted)
    say_once(
        f"symmetry-{grid.shape}-{n_operations}",
        f"--symmetry: {n_operations} operations fit the grid {'x'.join(map(str, grid.shape))}, {len(chosen)} of "
        f"{grid.n_points} points evaluated ({grid.n_points / len(chosen):.1f}x fewer)",
    )
    for start in range(0, grid.n_points, CHUNK):
        span = slice(start, start + CHUNK)
        place[span] = np.searchsorted(chosen, place[span])  # from here on: the how-manieth of the chosen
    n_chosen, values = len(chosen), None
    del chosen
    for index in selected(grid, tile, wanted.__getitem__):
        found = evaluate(grid.points(index))
        if values is None:
            values = np.empty((len(found), n_chosen), dtype=found.dtype)
        values[:, place[index]] = found
    del wanted
    for index in grid.tiles(tile):
        yield index, values[:, place[index]]


def selected(grid: Grid, n_max: int, wanted):
    """Tiles of the points with wanted(index [n]) -> bool [n] true: compact flat index arrays of about n_max points."""
    batch, count = [], 0
    for index in grid.tiles(n_max):
        index = index[wanted(index)]
        batch.append(index)
        count += len(index)
        if count >= n_max:
            yield np.concatenate(batch)
            batch, count = [], 0
    if count:
        yield np.concatenate(batch)
