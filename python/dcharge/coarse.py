"""The residual on a coarser grid: fewer evaluations of the network for the same density. `dcharge predict --coarse`.

rho = baseline + residual. The baseline holds the atoms' own densities and costs little, so it is evaluated on the fine
grid. The residual is smooth except near hard cores, and is taken apart there by a window U(r) (0 on a nucleus, 1 beyond
the radius of its species, two continuous derivatives):

    residual = F[U residual on the coarse grid] + (1 - U) residual on the fine grid near nuclei,

F the Fourier interpolation. Taking the core out before interpolating, instead of overwriting it afterwards, keeps its
ringing out of everything else: water, factor 2, radius 0.9 Angstrom: NMAE rises by 3 % instead of 15 %.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from .errors import InputError, say_once, warn_once
from .grid import Grid, smooth_size
from .structure import Structure
from .symmetry import selected, unfold

FACTORS = (1, 2, 3, 4)
RADIUS = 0.9  # Angstrom, of every species of a model without a verdict
PLATEAU = 0.2  # share of the radius within which U is zero
SLACK = 1.05  # a spacing larger by this much than the one tested counts as the same
VACUUM = 1e-3  # cells of the coarse grid below this share of the largest value are limited by their corners
BLOCK = 1 << 18  # pairs and points treated at once


# ----------------------------------------------------------------------------------------------------------- grids
def coarse_grid(structure: Structure, grid: Grid, factor: int) -> Grid:
    """The next 2-3-5-7-smooth grid with at least n/factor points along every periodic axis, n along the others."""
    rows = structure.pbc
    if factor > 1 and not np.allclose(grid.cell[rows], structure.cell[rows], rtol=0, atol=1e-3):
        say_once("coarse-cell", "--coarse: factor 1, the grid does not span the periodic cell")
        return grid
    if factor > 1 and not rows.all():
        axes = ", ".join("abc"[a] for a in np.flatnonzero(~rows))
        say_once("coarse-pbc", f"--coarse: factor 1 along {axes}, not periodic")
    shape = [min(n, smooth_size(-(-n // factor))) if p else n for n, p in zip(grid.shape, rows, strict=True)]
    return Grid(tuple(shape), grid.cell, grid.origin)


def spacing(coarse: Grid, grid: Grid) -> float:
    """Largest step of the coarse grid along the axes where it is coarser than the fine one, Angstrom; 0 without one."""
    steps = np.linalg.norm(coarse.steps, axis=1)
    return float(max((s for s, n, m in zip(steps, coarse.shape, grid.shape, strict=True) if n < m), default=0.0))


# --------------------------------------------------------------------------------------------------- interpolation
def interpolate(values, shape, out=None) -> np.ndarray:
    """Fourier interpolation of a periodic field, values [n1, n2, n3] -> [N1, N2, N3], N >= n along each axis.

    Exact for fields with frequencies below n/2. The term at n/2 of an even n is shared by +n/2 and -n/2 (Trefethen,
    Spectral Methods in MATLAB, ch. 3): the result is real, takes the old values at shared points and oscillates least.
    The mean is kept. Worked through in blocks of planes; peak memory: the result and 1/factor^2 of it.
    """
    values = np.asarray(values)
    out = np.empty(shape, dtype=values.dtype) if out is None else out
    if values.shape == tuple(shape):
        out[...] = values
        return out
    (n1, n2, n3), (m1, m2, m3) = values.shape, shape
    if m1 < n1 or m2 < n2 or m3 < n3:
        raise ValueError(f"interpolation from {values.shape} to the coarser {tuple(shape)}")
    waves = scipy.fft.rfft(values, axis=2, norm="forward")
    if n3 % 2 == 0 and m3 > n3:
        waves[:, :, -1] *= 0.5
    waves = scipy.fft.fft2(waves, axes=(0, 1), norm="forward", overwrite_x=True)
    waves = _refine(waves, 0, m1)
    step = max(1, BLOCK // (m2 * m3))
    for start in range(0, m1, step):
        block = _refine(waves[start : start + step], 1, m2)
        out[start : start + step] = scipy.fft.irfft(block, n=m3, axis=2, norm="forward", overwrite_x=True)
    return out


def _refine(waves: np.ndarray, axis: int, m: int) -> np.ndarray:
    """Back transform of n coefficients along an axis, on m >= n points."""
    n = waves.shape[axis]
    if m > n:
        padded = np.zeros((*waves.shape[:axis], m, *waves.shape[axis + 1 :]), dtype=waves.dtype)
        old, new = np.moveaxis(waves, axis, 0), np.moveaxis(padded, axis, 0)
        low = (n + 1) // 2  # frequencies 0 ... low - 1, then those below zero
        new[:low], new[m - (n - low) :] = old[:low], old[low:]
        if n % 2 == 0:
            new[low] = new[m - low] = 0.5 * old[low]
        waves = padded
    return scipy.fft.ifft(waves, axis=axis, norm="forward")


def limit(fine: np.ndarray, coarse: np.ndarray) -> None:
    """Keep the interpolant's ringing out of vacuum: fine [N1, N2, N3] is changed in place.

    In cells of the coarse grid whose corners are all below VACUUM of the largest value, the interpolant may leave
    the range of the corners by no more than its width. Where the network gives a constant (no neighbours), that is it.
    """
    low, high = coarse, coarse
    for axis in range(3):
        if fine.shape[axis] > coarse.shape[axis]:
            low = np.minimum(low, np.roll(low, -1, axis))
            high = np.maximum(high, np.roll(high, -1, axis))
    empty = np.maximum(-low, high) < VACUUM * max(np.abs(coarse).max(), 1e-30)
    if not empty.any():
        return
    width = high - low
    low, high = np.where(empty, low - width, -np.inf), np.where(empty, high + width, np.inf)
    cell = [np.arange(m) * n // m for n, m in zip(coarse.shape, fine.shape, strict=True)]
    for plane, i in zip(fine, cell[0], strict=True):
        if empty[i].any():
            where = np.ix_(cell[1], cell[2])
            np.clip(plane, low[i][where], high[i][where], out=plane)


def keep_sum(fine: np.ndarray, total: float) -> None:
    """Change fine in place so that it sums to `total` (float64); the difference is shared in proportion to |fine|.

    Empty space stays empty.
    """
    for _ in range(2):  # the second round mends what rounding to float32 left
        missing = total - float(fine.sum(dtype=np.float64))
        size = sum(float(np.abs(plane).sum(dtype=np.float64)) for plane in fine)
        if size == 0 or abs(missing) > 0.5 * size:
            return
        for plane in fine:
            plane += (missing / size) * np.abs(plane)


# --------------------------------------------------------------------------------------------------- near the nuclei
def window(structure: Structure, grid: Grid, radii: dict[str, float]) -> np.ndarray:
    """U [n_points] float32 in [0, 1]: product over the atoms of u^3 (10 - 15 u + 6 u^2).

    u grows with the distance, from 0 at PLATEAU times the radius to 1 at the radius (two continuous derivatives).

    radii: symbol -> Angstrom; species without one (or zero) do not count.
    """
    out = np.ones(grid.n_points, dtype=np.float32)
    shape, inverse = np.array(grid.shape), np.linalg.inv(grid.cell)
    symbols = np.array(structure.symbols)
    for symbol, radius in radii.items():
        positions = structure.positions[symbols == symbol]
        if radius <= 0 or not len(positions):
            continue
        place = (positions - grid.origin) @ inverse * shape  # in steps of the grid
        reach = np.ceil(radius * np.linalg.norm(inverse, axis=0) * shape).astype(int)
        offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 2) for r in reach], indexing="ij"), -1).reshape(-1, 3)
        step = max(1, BLOCK // len(offsets))
        for start in range(0, len(place), step):
            here = place[start : start + step, None]
            index = np.floor(here).astype(np.int64) + offsets
            u = np.linalg.norm((index - here) @ grid.steps, axis=-1) / radius
            inside = (u < 1) & np.all(structure.pbc | ((index >= 0) & (index < shape)), axis=-1)
            u = np.clip((u[inside] - PLATEAU) / (1 - PLATEAU), 0, 1)
            flat = np.ravel_multi_index((index[inside] % shape).T, grid.shape)
            np.multiply.at(out, flat, (u**3 * (10 - 15 * u + 6 * u**2)).astype(np.float32))
    return out


# -------------------------------------------------------------------------------------------------------- evaluation
def residual_on(predictor, encoded, structure: Structure, grid: Grid, symmetry: bool = False) -> np.ndarray:
    """The network's part [n_channels, n_points] on every point of a grid, e/Angstrom^3; encoded: `predictor.encode`."""
    if symmetry:
        tiles = unfold(structure, grid, predictor.tile, lambda points: predictor.residual(encoded, points))
    else:
        tiles = ((index, predictor.residual(encoded, grid.points(index))) for index in grid.tiles(predictor.tile))
    out = None
    for index, values in tiles:
        if out is None:
            out = np.empty((len(values), grid.n_points), dtype=values.dtype)
        out[:, index] = values
    return out


def assemble(coarse_values, u_coarse, coarse: Grid, grid: Grid, out=None) -> np.ndarray:
    """F[U residual]: coarse_values [n_coarse] times u_coarse (or None for 1) -> [n_points], its integral kept."""
    values = coarse_values if u_coarse is None else coarse_values * u_coarse
    values = values.reshape(coarse.shape)
    fine = interpolate(values, grid.shape, None if out is None else out.reshape(grid.shape))
    limit(fine, values)
    keep_sum(fine, float(values.sum(dtype=np.float64)) * grid.n_points / coarse.n_points)
    return fine.reshape(-1)


def tiles(
    predictor, structure: Structure, grid: Grid, factor, parts: bool = False, symmetry: bool = False, radii=None
):  # fmt: skip
    """As `Predictor.tiles`, the residual on a grid coarser by `factor` (2, 3, 4 or "auto").

    radii  symbol -> Angstrom, in place of those that the model holds
    Memory: the residual and, where nuclei need it, U on the fine grid, beside what the caller keeps.
    """
    factor = choose(predictor.meta, structure, grid, check(predictor.model, factor))
    coarse = coarse_grid(structure, grid, factor)
    if coarse.shape == grid.shape:
        yield from predictor.tiles(structure, grid, parts, symmetry=symmetry)
        return
    if radii is None:
        radii = radii_for(predictor.meta, structure, spacing(coarse, grid))
    before = predictor.evaluations
    encoded = predictor.encode(structure)
    near = any(radii.get(symbol, 0) > 0 for symbol in set(structure.symbols))
    values = residual_on(predictor, encoded, structure, coarse, symmetry)
    u = window(structure, coarse, radii) if near else None
    fine = np.empty((len(values), grid.n_points), dtype=values.dtype)
    for each, out in zip(values, fine, strict=True):
        assemble(each, u, coarse, grid, out)
    del values, u
    if near:
        u = window(structure, grid, radii)
        for index in selected(grid, predictor.tile, lambda index: u[index] < 1):
            fine[:, index] += (1 - u[index]) * predictor.residual(encoded, grid.points(index))
        del u
    done = predictor.evaluations - before
    say_once(
        f"coarse-{coarse.shape}-{grid.shape}",
        f"--coarse {factor}: residual on {'x'.join(map(str, coarse.shape))} ({spacing(coarse, grid):.3f} Angstrom)"
        + (" and near nuclei" if near else "")
        + f", the network evaluated {done} times for {grid.n_points} points ({grid.n_points / done:.1f}x fewer)",
    )
    for index in grid.tiles(predictor.tile):
        base = predictor.baseline(encoded, grid.points(index))
        yield index, fine[:, index] + base, base if parts else None


# ------------------------------------------------------------------------------------------- what the model holds on it
def check(model, factor):
    """The factor, if it is one and the model has a baseline to take the residual from."""
    if factor != "auto" and factor not in FACTORS:
        raise InputError(f"--coarse {factor}: {', '.join(map(str, FACTORS))} or auto expected")
    if model.baseline is None:
        raise InputError(f"--coarse {factor}: the model has no baseline, its density has no smooth part to interpolate")
    return factor


def choose(meta: dict, structure: Structure, grid: Grid, factor) -> int:
    """The factor asked for; for "auto" the largest one whose coarse grid is as fine as the one found good enough."""
    if factor != "auto":
        return factor
    verdict = meta.get("coarse")
    if not verdict:
        raise InputError(
            "--coarse auto: not tested for this model; run: dcharge test -m MODEL -s SYSTEM --coarse 1,2,3 --store"
        )
    for factor in sorted(FACTORS[1:], reverse=True):
        step = spacing(coarse_grid(structure, grid, factor), grid)
        if 0 < step <= SLACK * verdict["spacing"]:
            return factor
    say_once("coarse-auto", f"--coarse auto: factor 1 (up to {verdict['spacing']:.3f} Angstrom is good)")
    return 1


def radii_for(meta: dict, structure: Structure, step: float) -> dict[str, float]:
    """Radius of every species of the structure at a coarse spacing (Angstrom): of the next coarser grid tested."""
    rows = sorted((r for r in meta.get("coarse", {}).get("rows", []) if r["spacing"] > 0), key=lambda r: r["spacing"])
    held = next((r["radii"] for r in rows if step <= SLACK * r["spacing"]), None)
    if rows and held is None:
        held = rows[-1]["radii"]
        warn_once(
            "coarse-untested",
            f"--coarse: a spacing of {step:.2f} Angstrom is coarser than all tested (up to {rows[-1]['spacing']:.2f})",
        )
    elif not rows:
        say_once(
            "coarse-radii",
            f"--coarse: fine grid within {RADIUS} Angstrom of all nuclei (dcharge test --coarse 1,2,3 --store finds "
            "what this model needs)",
        )
    return {symbol: (held or {}).get(symbol, RADIUS) for symbol in set(structure.symbols)}
