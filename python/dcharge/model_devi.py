"""How much several models disagree along a trajectory, and which of its frames to calculate next.

`dcharge model-devi`, after DeePMD-kit's `dp model-devi`: one row per frame in model_devi.out.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .ensemble import Ensemble, load_models
from .errors import InputError, counted, log, say_once
from .grid import Grid
from .io import read_structures
from .io.replacing import check_folder, continuing
from .progress import track
from .request import check_field, check_inside
from .structure import Structure

POINTS = 5000
MARGIN = 3.0  # Angstrom around the atoms of a structure without a cell
# of the ball around an atom: radius in Angstrom, random points in it
BALL, BALL_POINTS = 0.6, 64
ATOMS = 256  # whose balls are evaluated at once
COLUMNS = ("max_devi", "min_devi", "avg_devi", "rel_devi", "atom_devi")
RANKING = tuple(c for c in COLUMNS if c != "min_devi")


@dataclass
class Deviation:
    """Of one frame: largest, smallest and mean standard deviation of the density over its points, e/Angstrom^3; the
    integral of the deviation in percent of that of |density|; the same in the ball around the worst atom."""

    step: int
    name: str
    max_devi: float
    min_devi: float
    avg_devi: float
    rel_devi: float
    atom_devi: float

    def row(self) -> str:
        """The frame's row in the table."""
        return f"{self.step:12d}" + "".join(f"{getattr(self, c):19.6e}" for c in COLUMNS) + "\n"


def summed(tiles) -> dict[str, float]:
    """max_devi, min_devi, avg_devi and rel_devi of tiles: mean, deviation [n_channels, n] at points of equal volume."""
    largest, smallest, total, size, n = 0.0, np.inf, 0.0, 0.0, 0
    for mean, deviation in tiles:
        deviation = deviation[0].astype(np.float64)
        largest, smallest = max(largest, float(deviation.max())), min(smallest, float(deviation.min()))
        total += float(deviation.sum())
        size += float(np.abs(mean[0]).sum(dtype=np.float64))
        n += len(deviation)
    # without any density there is nothing to deviate from: of a response without field all models say zero
    relative = 100 * total / size if size > 0 else 0.0
    return {"max_devi": largest, "min_devi": smallest, "avg_devi": total / n, "rel_devi": relative}


def ball(seed: int) -> np.ndarray:
    """Random points [BALL_POINTS, 3] (Angstrom), uniform in the ball around an atom at the origin."""
    rng = np.random.default_rng([seed, BALL_POINTS])
    direction = rng.normal(size=(BALL_POINTS, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return BALL * np.cbrt(rng.random((BALL_POINTS, 1))) * direction


def by_atom(ensemble: Ensemble, encoded, positions: np.ndarray, seed: int) -> np.ndarray:
    """Integral of the deviation over that of |density|, percent, in the balls around atoms [n_atoms, 3]: [n_atoms]."""
    out, points = [], ball(seed)
    for start in range(0, len(positions), ATOMS):
        centers = positions[start : start + ATOMS]
        both = ensemble.decode(encoded, (centers[:, None] + points).reshape(-1, 3))
        size, deviation = (np.abs(x[0]).reshape(len(centers), -1).sum(1) for x in both)
        out.append(100 * np.divide(deviation, size, out=np.zeros_like(size), where=size > 0))
    return np.concatenate(out) if out else np.zeros(0)


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


def deviation_of(
    ensemble: Ensemble, structure: Structure, points: int | None, spacing: float | None, seed: int, step=0, name=""
) -> Deviation:
    """Deviation of one frame, at random points (uniform in the cell) or on a grid, and around its atoms."""
    cell, origin = box(structure)
    grid = Grid((1, 1, 1), cell, origin) if spacing is None else Grid.from_spacing(cell, spacing, origin)
    check_inside(ensemble.as_seen(structure), grid)
    encoded = ensemble.encode(structure)
    if spacing is None:
        # the same fractional places in every frame, so that frames differ by their atoms and not by chance
        places = np.random.default_rng(seed).random((points, 3)) @ cell + origin
        tiles = [ensemble.decode(encoded, places)]
    else:
        tiles = (tile for _, *tile in ensemble.outputs(structure, grid))
    whole = summed(tiles)
    return Deviation(
        step, name, **whole, atom_devi=float(by_atom(ensemble, encoded, structure.positions, seed).max(initial=0.0))
    )


class Table:
    """The file of rows, written as they come, and those that an interrupted run left there.

    part  its path; head: the lines above the rows; restart: take over the rows that are there
    """

    def __init__(self, part: Path, head: str, restart: bool):
        self.part, self.n = part, 0
        self.kept: deque[tuple[str, list[str]]] = deque()  # (system, words of a row)
        self.systems = 0  # headings taken over
        if part.is_file():
            if restart:
                self._take_over(head)
            else:
                os.replace(part, f"{part}.old")
                log.warning(f"{part}: rows of an interrupted run (--restart continues it), kept as {part}.old")
        elif restart:
            log.warning(f"{part}: there is no such file, nothing to continue")
        new = not self.systems
        self.stream = open(part, "w" if new else "a", encoding="utf-8")
        if new:
            self._write(head)

    def _take_over(self, head: str) -> None:
        text = self.part.read_text(encoding="utf-8")
        if not text.startswith(head):
            raise InputError(f"{self.part}: of another command (models, points or options differ), not continued")
        text = text[: text.rindex("\n") + 1]  # the last line may have been cut
        os.truncate(self.part, len(text.encode()))
        system = ""
        for line in text[len(head) :].splitlines():
            if line.startswith("# "):
                system, self.systems = line[2:], self.systems + 1
            elif len(words := line.split()) == 1 + len(COLUMNS):
                self.kept.append((system, words))
            else:
                raise InputError(f"{self.part}: a row '{line[:60]}' that is none of model-devi, not continued")
        log.info(f"{self.part}: {counted(len(self.kept), 'frame')} taken over")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def begin(self, system: str) -> None:
        """The heading of a system."""
        if self.systems:
            self.systems -= 1
        else:
            self._write(f"# {system}\n")

    def held(self, system: str, step: int, name: str) -> Deviation | None:
        """The next frame's row where it was taken over; InputError where another one stands there."""
        if not self.kept:
            return None
        of, words = self.kept.popleft()
        if (of, words[0]) != (system, str(step)):
            raise InputError(f"{self.part}: holds step {words[0]} of {of} where {name} comes; not of these systems")
        self.n += 1
        return Deviation(step, name, *map(float, words[1:]))

    def add(self, found: Deviation) -> None:
        """A new row."""
        self._write(found.row())
        self.n += 1

    def check_used(self) -> None:
        """InputError where rows were taken over that no system asked for."""
        if self.kept or self.systems:
            of = self.kept[0][0] if self.kept else "a further system"
            raise InputError(f"{self.part}: holds rows of {of}, which this command does not name; not finished")

    def close(self, whole: bool) -> None:
        """End of the rows; of a part without any nothing is left."""
        self.stream.close()
        if not whole and not self.n and not self.kept and self.part.is_file():
            self.part.unlink()

    def rest(self) -> str:
        """What an interrupted run leaves, for people; '' where that is nothing."""
        if not self.n or not self.part.is_file():
            return ""
        return f"rows of {counted(self.n, 'frame')} are in {self.part}; the same command with --restart continues"


def model_devi(
    models, systems, output="model_devi.out", *, points=None, spacing=None, seed: int = 1, every: int = 1,
    top: int = 10, by: str = "atom_devi", restart: bool = False, type_map=None, pbc=None, field=None, device="auto",
) -> list[Deviation]:  # fmt: skip
    """Write the deviation of every frame of `systems` to `output`; logs and returns the `top` frames, largest first.

    models   paths of two frozen models or more
    systems  paths of anything `io.read_structures` reads
    points   random points of a frame (default POINTS), or spacing: a whole grid, Angstrom
    by       max_devi, avg_devi, rel_devi or atom_devi: what frames are ranked by
    restart  take over the rows of an interrupted run from `output`.part
    A frame that cannot be read or evaluated is an InputError that names it; the rows before it stay in `output`.part.
    """
    if points is not None and spacing is not None:
        raise InputError("model-devi: either points or spacing expected")
    if by not in RANKING:
        raise InputError(f"by '{by}': {', '.join(RANKING[:-1])} or {RANKING[-1]} expected")
    check_folder(output)
    ensemble = load_models(models, device)
    if not isinstance(ensemble, Ensemble):
        raise InputError(f"model-devi: two models or more expected, one given ({models[0]})")
    check_field(ensemble, field)
    points = POINTS if points is None and spacing is None else points
    where = f"{points} random points (seed {seed})" if spacing is None else f"a grid of {spacing:g} Angstrom"
    log.info(f"deviation of {len(ensemble)} models at {where} of every frame, and around its atoms")
    given = {"every": every if every > 1 else None, "type map": type_map, "pbc": pbc, "field": field}
    options = "".join(f"; {k} {v}" for k, v in given.items() if v is not None)
    head = (
        f"# {len(ensemble)} models: {', '.join(ensemble.names)}\n# {where}{options}; max, min, avg in e/Angstrom^3, "
        f"rel and atom in % of the integral of |density|\n#{'step':>11s}" + "".join(f"{c:>19s}" for c in COLUMNS) + "\n"
    )
    best: list = []
    with continuing(output) as part:
        rows, whole = Table(part, head, restart), False
        try:
            for system in systems:
                rows.begin(str(system))
                frames = read_structures(system, type_map=type_map, every=every, pbc=pbc, field=field)
                for number, (name, structure) in enumerate(track(frames, desc="model deviation", unit="frames")):
                    found = rows.held(str(system), number * every, name)
                    if found is None:
                        found = _evaluated(ensemble, structure, points, spacing, seed, number * every, name)
                        rows.add(found)
                    heapq.heappush(best, (getattr(found, by), -rows.n, found))  # of equal ones the earlier counts
                    if len(best) > top:
                        heapq.heappop(best)
            if not rows.n:
                raise InputError(f"{systems[0]}: no structure found")
            rows.check_used()
            whole = True
        except InputError as error:
            raise InputError("; ".join(filter(None, [str(error), rows.rest()]))) from error
        except (KeyboardInterrupt, SystemExit):
            if rows.rest():
                log.warning(f"interrupted: {rows.rest()}")
            raise
        finally:
            rows.close(whole)
    ranked = [found for *_, found in sorted(best, reverse=True)]
    log.info(f"written: {output} ({counted(rows.n, 'frame')})")
    for row in table(ranked, by):
        log.info(row)
    return ranked


def _evaluated(ensemble, structure, points, spacing, seed, step: int, name: str) -> Deviation:
    try:
        structure.types(ensemble.model.type_map)
        return deviation_of(ensemble, structure, points, spacing, seed, step, name)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def table(ranked: list[Deviation], by: str) -> list[str]:
    """The frames for people."""
    if not ranked:
        return []
    heads = ("rank", "step", "max_devi", "avg_devi", "rel_devi %", "atom_devi %")
    out = [f"# largest {by} first: candidates for the next DFT calculation"]
    out.append("# " + "{:>4s} {:>10s} {:>12s} {:>12s} {:>12s} {:>12s}".format(*heads) + "  frame")
    for rank, f in enumerate(ranked, 1):
        numbers = f"{f.max_devi:12.4e} {f.avg_devi:12.4e} {f.rel_devi:12.4f} {f.atom_devi:12.4f}"
        out.append(f"  {rank:4d} {f.step:10d} {numbers}  {f.name}")
    return out
