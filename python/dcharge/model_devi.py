"""How much several models disagree along a trajectory, and which of its frames to calculate next.

`dcharge model-devi`, after DeePMD-kit's `dp model-devi`: one row per frame in model_devi.out.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from .ensemble import Ensemble, load_models
from .errors import InputError, counted, log, say_once
from .grid import Grid
from .io import read_structures
from .io.replacing import check_folder, replacing
from .predict import check_inside
from .progress import track
from .structure import Structure

POINTS = 5000
MARGIN = 3.0  # Angstrom around the atoms of a structure without a cell
COLUMNS = ("max_devi", "min_devi", "avg_devi", "rel_devi")


@dataclass
class Deviation:
    """Of one frame: largest, smallest and mean standard deviation of the density over its points, e/Angstrom^3, and
    the integral of the deviation in percent of that of |density|."""

    step: int
    name: str
    max_devi: float
    min_devi: float
    avg_devi: float
    rel_devi: float


def deviation_of(tiles, step: int = 0, name: str = "") -> Deviation:
    """Deviation of a frame from its tiles: mean and standard deviation [n_channels, n] of points of equal volume."""
    largest, smallest, total, size, n = 0.0, np.inf, 0.0, 0.0, 0
    for mean, deviation in tiles:
        deviation = deviation[0].astype(np.float64)
        largest, smallest = max(largest, float(deviation.max())), min(smallest, float(deviation.min()))
        total += float(deviation.sum())
        size += float(np.abs(mean[0]).sum(dtype=np.float64))
        n += len(deviation)
    # without any density there is nothing to deviate from: of a response without field all models say zero
    relative = 100 * total / size if size > 0 else 0.0
    return Deviation(step, name, largest, smallest, total / n, relative)


def box(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Cell [3, 3] and origin [3] (Angstrom) that the points of a structure span: its cell, or a box around the atoms of
    a molecule that has none."""
    if structure.volume > 1e-6:
        return structure.cell, np.zeros(3)
    if structure.pbc.any():
        raise InputError("the cell has no volume, and an axis is periodic: no space to put points in; give it a cell")
    say_once("box", f"a structure without a cell: points within {MARGIN:g} Angstrom of the box that holds its atoms")
    low, high = structure.positions.min(0) - MARGIN, structure.positions.max(0) + MARGIN
    return np.diag(high - low), low


def tiles_of(ensemble: Ensemble, structure: Structure, points: int | None, spacing: float | None, seed: int):
    """Mean and standard deviation, tile by tile: at random points (uniform in the cell) or on a grid."""
    cell, origin = box(structure)
    grid = Grid((1, 1, 1), cell, origin) if spacing is None else Grid.from_spacing(cell, spacing, origin)
    check_inside(ensemble.as_seen(structure), grid)
    if spacing is not None:
        for _, *tile in ensemble.outputs(structure, grid):
            yield tile
        return
    # the same fractional places in every frame, so that frames differ by their atoms and not by chance
    yield ensemble.at(structure, np.random.default_rng(seed).random((points, 3)) @ cell + origin)


def model_devi(
    models, systems, output="model_devi.out", *, points=None, spacing=None, seed: int = 1, every: int = 1,
    top: int = 10, by: str = "rel_devi", type_map=None, pbc=None, field=None, device="auto",
) -> list[Deviation]:  # fmt: skip
    """Write the deviation of every frame of `systems` to `output`; logs and returns the `top` frames, largest first.

    models   paths of two frozen models or more
    systems  paths of anything `io.read_structures` reads
    points   random points of a frame (default POINTS), or spacing: a whole grid, Angstrom
    by       max_devi, avg_devi or rel_devi: what frames are ranked by
    """
    if points is not None and spacing is not None:
        raise InputError("model-devi: either points or spacing expected")
    if by not in COLUMNS or by == "min_devi":
        raise InputError(f"by '{by}': max_devi, avg_devi or rel_devi expected")
    check_folder(output)
    ensemble = load_models(models, device)
    if not isinstance(ensemble, Ensemble):
        raise InputError(f"model-devi: two models or more expected, one given ({models[0]})")
    points = POINTS if points is None and spacing is None else points
    where = f"{points} random points (seed {seed})" if spacing is None else f"a grid of {spacing:g} Angstrom"
    log.info(f"deviation of {len(ensemble)} models at {where} of every frame")
    best, n = [], 0
    with replacing(output) as part, open(part, "w", encoding="utf-8") as stream:
        stream.write(
            f"# {len(ensemble)} models: {', '.join(ensemble.names)}\n# {where}; max, min, avg in e/Angstrom^3, "
        )
        stream.write("rel in % of the integral of |density|\n")
        stream.write(f"#{'step':>11s}" + "".join(f"{c:>19s}" for c in COLUMNS) + "\n")
        for system in systems:
            stream.write(f"# {system}\n")
            frames = read_structures(system, type_map=type_map, every=every, pbc=pbc, field=field)
            for number, (name, structure) in enumerate(track(frames, desc="model deviation", unit="frames")):
                try:
                    structure.types(ensemble.model.type_map)
                    found = deviation_of(tiles_of(ensemble, structure, points, spacing, seed), number * every, name)
                except InputError as error:
                    raise InputError(f"{name}: {error}") from error
                stream.write(f"{found.step:12d}" + "".join(f"{getattr(found, c):19.6e}" for c in COLUMNS) + "\n")
                heapq.heappush(best, (getattr(found, by), -n, found))  # of equal ones the earlier counts
                if len(best) > top:
                    heapq.heappop(best)
                n += 1
        if not n:
            raise InputError(f"{systems[0]}: no structure found")
    ranked = [found for *_, found in sorted(best, reverse=True)]
    log.info(f"written: {output} ({counted(n, 'frame')})")
    for row in table(ranked, by):
        log.info(row)
    return ranked


def table(ranked: list[Deviation], by: str) -> list[str]:
    """The frames for people."""
    if not ranked:
        return []
    out = [f"# largest {by} first: candidates for the next DFT calculation"]
    out.append(f"# {'rank':>4s} {'step':>10s} {'max_devi':>12s} {'avg_devi':>12s} {'rel_devi %':>12s}  frame")
    for rank, f in enumerate(ranked, 1):
        out.append(f"  {rank:4d} {f.step:10d} {f.max_devi:12.4e} {f.avg_devi:12.4e} {f.rel_devi:12.4f}  {f.name}")
    return out
