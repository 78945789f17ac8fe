"""How coarse a grid a model's residual bears, measured and kept in frozen.pth. `dcharge test --coarse --store`."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from . import coarse as coarse_residual
from .density import Density
from .errors import InputError, log
from .freeze import add_verdict
from .metrics import Errors

BEARABLE = 5.0  # percent of its value that NMAE may rise by for `--coarse auto`
AIM = 4.5  # the same for the choice of the radii, which sees few frames
RADII = (0.5, 0.7, 0.9, 1.1)  # Angstrom, tried
SHRINK = 0.1  # Angstrom, step of the last trimming
MOST = 0.5  # share of the fine grid's points that may be evaluated at most
FRAMES = 3  # the radii are chosen on at most so many


class Trial:
    """One frame, evaluated fully once: what any radii would have given follows without the network.

    Keeps three fine arrays: the residual, baseline minus reference, and one more at work.
    """

    def __init__(self, predictor, reference: Density):
        self.predictor, self.structure, self.grid = predictor, reference.structure, reference.grid
        self.encoded = predictor.encode(self.structure)
        self.residual = coarse_residual.residual_on(predictor, self.encoded, self.structure, self.grid)[0]
        self.rest = np.empty_like(self.residual)
        for index in self.grid.tiles(predictor.tile):
            base = predictor.baseline(self.encoded, self.grid.points(index))[0]
            self.rest[index] = base - reference.values_at(index)[0]
        self.size = float(np.abs(reference.values[0]).sum(dtype=np.float64)) * self.grid.dv
        self.symbols = set(self.structure.symbols)

    def begin(self, factor: int) -> float:
        """Evaluate the coarse grid of a factor; returns its spacing, Angstrom."""
        self.coarse = coarse_residual.coarse_grid(self.structure, self.grid, factor)
        self.values = coarse_residual.residual_on(self.predictor, self.encoded, self.structure, self.coarse)[0]
        return coarse_residual.spacing(self.coarse, self.grid)

    def error(self, residual) -> float:
        """Integral of |error|, e, with this residual [n_points]."""
        return float(np.abs(residual + self.rest).sum(dtype=np.float64)) * self.grid.dv

    def with_radii(self, radii: dict) -> tuple[float, int]:
        """Integral of |error| (e) and number of evaluations with these radii."""
        if not any(radii.get(s, 0) > 0 for s in self.symbols):
            fine = coarse_residual.assemble(self.values, None, self.coarse, self.grid)
            return self.error(fine), self.coarse.n_points
        u = coarse_residual.window(self.structure, self.coarse, radii)
        fine = coarse_residual.assemble(self.values, u, self.coarse, self.grid)
        u = coarse_residual.window(self.structure, self.grid, radii)
        fine += (1 - u) * self.residual
        return self.error(fine), self.coarse.n_points + int(np.count_nonzero(u < 1))


def fit_radii(trials: list[Trial], factor: int) -> tuple[dict[str, float], float]:
    """Radius per species with the fewest evaluations whose NMAE rises by less than AIM, and the coarse spacing.

    Greedy: the species and radius that lower the error most per evaluation, until the aim is reached or no step helps;
    then every radius is made as small as the aim allows.
    """
    step = min(t.begin(factor) for t in trials)
    radii = {symbol: 0.0 for symbol in sorted(set().union(*(t.symbols for t in trials)))}
    if step == 0:
        return radii, 0.0

    def score(radii):
        errors, counts = zip(*(t.with_radii(radii) for t in trials), strict=True)
        return sum(errors), sum(counts)

    aim = (1 + AIM / 100) * sum(t.error(t.residual) for t in trials)
    most = MOST * sum(t.grid.n_points for t in trials)
    error, count = score(radii)
    while error > aim:
        best = (0.0, None, error, count)
        for symbol in radii:
            for radius in (r for r in RADII if r > radii[symbol]):
                tried = radii | {symbol: radius}
                e, n = score(tried)
                if n > most:
                    break
                gain = (error - max(e, aim)) / max(n - count, 1)  # more than the aim asks for is worth nothing
                if gain > best[0]:
                    best = (gain, tried, e, n)
        if best[1] is None:
            break
        _, radii, error, count = best
    for symbol in radii if error <= aim else ():
        while radii[symbol] > SHRINK:
            tried = radii | {symbol: round(radii[symbol] - SHRINK, 3)}
            if score(tried)[0] > aim:
                break
            radii = tried
    return radii, step


def study(predictor, frames, factors, compare, report: dict) -> dict:
    """What each factor costs and saves, beside factor 1, and what `--coarse auto` takes.

    frames   (system, frame) pairs, frames with `read`
    compare  function (predictor, reference, tiles=) -> (Errors, ...), as `evaluate.compare`
    report   of `dcharge test` on the same frames: the row of factor 1
    -> {"auto", "spacing", "rows": see `row`}. auto: the coarsest factor whose NMAE rises by less than BEARABLE (and
    which spares evaluations); spacing: the smallest of its coarse grids, Angstrom, 0 for factor 1.
    """
    nmae = report["pooled"]["nmae_percent"]
    n_points, seconds = report["pooled"]["n_points"], sum(f["seconds"] for f in report["frames"])
    rows = [row(1, nmae, nmae, seconds, n_points, n_points, 0.0, {})]
    factors = sorted(set(factors) - {1})
    chosen = {system: frame for system, frame in reversed(frames)}  # the first frame of each system
    trials = [Trial(predictor, frame.read()) for frame in list(chosen.values())[:FRAMES]] if factors else []
    settings = {factor: fit_radii(trials, factor) for factor in factors}
    del trials
    sums = {factor: [Errors(), 0.0, 0] for factor in factors}
    for _, frame in frames:
        reference = frame.read()
        for factor in factors:
            radii, _ = settings[factor]
            tiles = partial(coarse_residual.tiles, predictor, factor=factor, radii=radii)
            before, started = predictor.evaluations, time.perf_counter()
            sums[factor][0] += compare(predictor, reference, tiles=tiles)[0]
            sums[factor][1] += time.perf_counter() - started
            sums[factor][2] += predictor.evaluations - before
    for factor, (errors, seconds, evaluations) in sums.items():
        radii, step = settings[factor]
        own = errors.result()["nmae_percent"]
        rows.append(row(factor, own, nmae, seconds, evaluations, n_points, step, radii))
    best = rows[0]
    for each in rows[1:]:
        if each["spacing"] > 0 and each["rise_percent"] < BEARABLE and each["evaluations"] < best["evaluations"]:
            best = each
    return {"auto": best["factor"], "spacing": best["spacing"], "rows": rows}


def row(factor, nmae, full, seconds, evaluations, n_points, step, radii) -> dict:
    """One factor's figures; NMAE in percent, `full` that of factor 1."""
    return {
        "factor": factor,
        "nmae_percent": nmae,
        "rise_percent": 100 * (nmae / full - 1) if full else 0.0,
        "seconds": seconds,
        "evaluations": evaluations,
        "n_points": n_points,
        "spacing": step,
        "radii": radii,
    }


def on_grid(density) -> None:
    """InputError for a density at free points."""
    if not isinstance(density, Density):
        raise InputError(f"{density.name}: --coarse needs a density on a grid, these are free points")


def table(found: dict) -> list[str]:
    """The rows for people."""
    head = f"# {'coarse':>6s} {'NMAE %':>9s} {'rise %':>8s} {'seconds':>9s} {'evaluations':>12s} {'fewer':>8s}"
    out = [head + "  near nuclei"]
    for each in found["rows"]:
        near = ", ".join(f"{s} {r:g} A" for s, r in each["radii"].items() if r > 0) or "-"
        out.append(
            f"  {each['factor']:6d} {each['nmae_percent']:9.4f} {each['rise_percent']:8.2f} {each['seconds']:9.2f} "
            f"{each['evaluations']:12d} {each['n_points'] / each['evaluations']:7.1f}x  {near}"
            + ("  <- auto" if each["factor"] == found["auto"] else "")
        )
    return out


def store(path, found: dict, systems) -> None:
    """Put the verdict into a frozen model (meta/coarse); the file is replaced as a whole."""
    add_verdict(path, "coarse", found, systems)
    log.info(f"{path}: stored: --coarse auto takes factor {found['auto']} (spacing {found['spacing']:.3f} Angstrom)")
