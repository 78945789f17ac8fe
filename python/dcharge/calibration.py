"""Whether an ensemble knows where it is wrong: error against standard deviation. `dcharge test -m a.pth b.pth c.pth`.

Points are counted in cells of a table, |error| against deviation, both on a logarithmic scale, so that memory does not
grow with their number. Spearman's correlation is that of the table's ranks (points of one cell of 3.7 % width share
theirs); all else is summed exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .errors import InputError
from .metrics import Errors
from .predict import track_points

CELLS = 1024
LOW, HIGH = -12.0, 4.0  # log10 of e/Angstrom^3: the scale of both axes; smaller and larger values share the end cells
BINS = 10  # rows of the reliability table


def cell(values) -> np.ndarray:
    """Cells [n] of values [n] >= 0, e/Angstrom^3."""
    with np.errstate(divide="ignore"):
        place = (np.log10(values) - LOW) * (CELLS / (HIGH - LOW))
    return np.clip(place, 0, CELLS - 1).astype(np.int64)


def edge(n: int) -> float:
    """Lower end of cell n, e/Angstrom^3; 0 for the first."""
    return 0.0 if n == 0 else 10.0 ** (LOW + n * (HIGH - LOW) / CELLS)


def _table():
    return np.zeros((CELLS, CELLS))


def _column():
    return np.zeros(CELLS)


@dataclass
class Calibration:
    """Sums over points, each weighted by its voxel volume (grids) or its weight (point data), as in `Errors`.

    table # [deviation, |error|] weight per cell; sq_error, sq_deviation, count # per cell of the deviation
    """

    table: np.ndarray = field(default_factory=_table)
    sq_error: np.ndarray = field(default_factory=_column)
    sq_deviation: np.ndarray = field(default_factory=_column)
    count: np.ndarray = field(default_factory=_column)
    deviation: float = 0.0
    density: float = 0.0
    largest: float = 0.0

    def add(self, mean, deviation, reference, weight=1.0) -> None:
        """Add points: mean, standard deviation and reference [n], e/Angstrom^3; weight: dv or [n]."""
        mean, s, q = (np.asarray(x, dtype=np.float64).ravel() for x in (mean, deviation, reference))
        w = np.broadcast_to(np.asarray(weight, dtype=np.float64), q.shape)
        e = np.abs(mean - q)
        row = cell(s)
        # in place: a table of 8 MB for every tile would cost more than the sums of its points
        np.add.at(self.table.reshape(-1), row * CELLS + cell(e), w)
        self.sq_error += np.bincount(row, w * e * e, CELLS)
        self.sq_deviation += np.bincount(row, w * s * s, CELLS)
        self.count += np.bincount(row, minlength=CELLS)
        self.deviation += float((w * s).sum())
        self.density += float((w * np.abs(mean)).sum())
        self.largest = max(self.largest, float(s.max(initial=0.0)))

    def __iadd__(self, other: Calibration) -> Calibration:
        for name in self.__dataclass_fields__:
            a, b = getattr(self, name), getattr(other, name)
            setattr(self, name, max(a, b) if name == "largest" else a + b)
        return self

    def spearman(self) -> float | None:
        """Rank correlation of |error| and deviation; None where one of them does not vary."""
        rows, columns = self.table.sum(1), self.table.sum(0)
        a, b = (np.cumsum(x) - 0.5 * x for x in (rows, columns))  # ranks; those of one cell share the middle
        total = rows.sum()
        if total == 0:
            return None
        a, b = a - rows @ a / total, b - columns @ b / total
        size = np.sqrt((rows @ a**2) * (columns @ b**2))
        return float(a @ self.table @ b / size) if size > 1e-12 * total**3 else None

    def result(self) -> dict:
        """Figures of the points added: what `dcharge test --json` calls `deviation`."""
        weight = float(self.table.sum())
        rms_error, rms_deviation = (np.sqrt(x.sum() / weight) if weight else None for x in self._squares)
        return {
            "max_devi": self.largest,
            "avg_devi": self.deviation / weight if weight else None,
            "rel_devi_percent": 100 * self.deviation / self.density if self.density > 0 else None,
            "rms_deviation": _number(rms_deviation),
            "rms_error": _number(rms_error),
            "error_over_deviation": _number(rms_error / rms_deviation) if rms_deviation else None,
            "spearman": self.spearman(),
        }

    @property
    def _squares(self):
        return self.sq_error, self.sq_deviation

    def bins(self) -> list[dict]:
        """The reliability table: points in order of their deviation, BINS parts of about equal weight (or fewer)."""
        weight = self.table.sum(1)
        share = np.cumsum(weight) / max(weight.sum(), 1e-300)
        part = np.minimum((BINS * (share - 1e-9)).astype(int), BINS - 1)
        out = []
        for number in range(BINS):
            cells = np.flatnonzero((part == number) & (weight > 0))
            if not len(cells):
                continue
            total = weight[cells].sum()
            error, deviation = (float(np.sqrt(x[cells].sum() / total)) for x in self._squares)
            out.append(
                {
                    "from": edge(int(cells[0])),
                    "to": min(edge(int(cells[-1]) + 1), self.largest),
                    "n_points": int(self.count[cells].sum()),
                    "rms_deviation": deviation,
                    "rms_error": error,
                    "error_over_deviation": error / deviation if deviation > 0 else None,
                }
            )
        return out


def _number(x) -> float | None:
    return None if x is None else float(x)


def compare_ensemble(ensemble, reference, keep: bool = False, progress: bool = False):
    """Errors of the mean density, of the mean baseline (None without one) and of every model, the calibration, and the
    values if `keep`: [2, n_points], mean and standard deviation.

    reference: Density or PointDensity; every point counts with its voxel volume or its weight
    """
    from .ensemble import mean_and_deviation

    errors, base_errors, calibration = Errors(), Errors(), Calibration()
    each = [Errors() for _ in ensemble.predictors]
    has_base = any(p.model.baseline is not None for p in ensemble.predictors)
    grid = getattr(reference, "grid", None)
    values = np.empty((2, reference.n_points), dtype=np.float32) if keep else None
    if grid is None:
        weight = 1.0 if reference.weight is None else reference.weight
        tiles, integrable = [(slice(None), *ensemble.members_at(reference.structure, reference.positions))], False
    else:
        weight, integrable = grid.dv, reference.kind == "density"
        tiles = ensemble.members(reference.structure, grid)
        tiles = track_points(tiles, grid.n_points) if progress else tiles
    for index, rho, base in tiles:
        truth = reference.values_at(index)[0]
        mean, deviation = (x[0] for x in mean_and_deviation(rho))
        errors.add(mean, truth, weight, integrable)
        base_errors.add(base.mean(axis=0)[0], truth, weight, integrable)
        for own, of in zip(each, rho, strict=True):
            own.add(of[0], truth, weight, integrable)
        calibration.add(mean, deviation, truth, weight)
        if keep:
            values[:, index] = mean, deviation
    return errors, base_errors if has_base else None, each, calibration, values


def refuse(coarse, precision, store: bool) -> None:
    """InputError for what `dcharge test` measures of one model alone."""
    for flag, given in (("--coarse", coarse), ("--precision", precision), ("--store", store)):
        if given:
            raise InputError(f"test: {flag} is measured for one model at a time, several are given with -m")


def frames_table(frames: list[dict]) -> list[str]:
    """Rows for people: a frame's errors beside its deviation, the largest relative deviation first."""
    head = ("NMAE %", "rel_devi %", "max_devi", "avg_devi", "error/devi", "Spearman")
    out = [
        "# frames by relative deviation (deviations in e/A^3)",
        "# " + "".join(f"{h:>12s}" for h in head) + "  frame",
    ]
    for frame in sorted(frames, key=lambda f: -(f["deviation"]["rel_devi_percent"] or 0.0)):
        d = frame["deviation"]
        numbers = [frame["metrics"]["nmae_percent"], d["rel_devi_percent"], d["max_devi"], d["avg_devi"]]
        numbers += [d["error_over_deviation"], d["spearman"]]
        out.append("  " + "".join(f"{_short(x):>12s}" for x in numbers) + f"  {frame['name']}")
    return out


def table(found: dict) -> list[str]:
    """Rows for people of report["ensemble"]: every model, calibration, reliability."""
    out = ["# each model alone: NMAE " + ", ".join(f"{_short(x)} %" for x in found["nmae_percent"])]
    pooled = found["deviation"]
    out.append(f"# Spearman correlation of |error| and deviation : {_short(pooled['spearman'])}")
    out.append(f"# rms error / rms deviation                     : {_short(pooled['error_over_deviation'])}")
    head = ("devi from", "to", "points", "rms devi", "rms error", "error/devi")
    out += ["# reliability (e/A^3)", "# " + "".join(f"{h:>12s}" for h in head)]
    for row in found["bins"]:
        numbers = (row["from"], row["to"], row["n_points"], row["rms_deviation"], row["rms_error"])
        out.append("  " + "".join(f"{_short(x):>12s}" for x in (*numbers, row["error_over_deviation"])))
    return out


def _short(x) -> str:
    return "-" if x is None else str(x) if isinstance(x, int) else f"{x:.4g}"
