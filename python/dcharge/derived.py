"""What follows from predicted densities, beside the same of the reference: `dcharge test --laplacian --dipole`.

Tables like I and II of Gong et al., PRB 100, 184103: errors of density, gradient and Laplacian of every frame, and its
dipole moments. Both definitions of R2 that the literature mixes stand beside each other: 1 - SSE/SST, and the squared
correlation (Pearson), which forgives every wrong factor and offset.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .analysis.differential import check_resolution, gradient_and_laplacian
from .analysis.dipole import Dipole, check_molecule, check_vacuum, dipole_moment, ion_charges
from .analysis.parity import parity_plots
from .analysis.spectral import check_continued
from .density import Density
from .derivatives import Derivatives
from .errors import InputError, log
from .metrics import Errors

# name in JSON -> (name in tables, unit)
FIELDS = {
    "density": ("rho", "e/Å³"),
    "gradient": ("gradient", "e/Å⁴"),
    "laplacian": ("Laplacian", "e/Å⁵"),
}
DRAWN = 4000  # points of a frame in a parity plot


@dataclass(frozen=True)
class Wanted:
    """What `dcharge test` is asked to derive.

    gradient, laplacian, dipole  whether
    derivatives  "fft" of the grid for both, or "autograd": the model's own beside the reference's fft
    resolution   Angstrom: derivatives of both without waves shorter than that (fft)
    valence, origin, neutral  as in `analysis.dipole.dipole_moment`
    plot         picture with parity plots of all that, and of the density; or None
    """

    gradient: bool = False
    laplacian: bool = False
    dipole: bool = False
    derivatives: str | None = None
    resolution: float | None = None
    valence: dict[int, float] | None = None
    origin: str | None = None
    neutral: bool = False
    plot: str | None = None

    def __post_init__(self):
        if self.derivatives is not None and not self.differentiated:
            raise InputError("--derivatives: belongs to --gradient and --laplacian; neither is asked for")
        if self.resolution is not None and not self.differentiated:
            raise InputError("--resolution: belongs to --gradient and --laplacian; neither is asked for")
        check_resolution(self.resolution, self.derivatives)
        for option, given in (
            ("valence", self.valence is not None), ("neutral", self.neutral), ("dipole-origin", self.origin is not None)
        ):  # fmt: skip
            if given and not self.dipole:
                raise InputError(f"--{option}: belongs to --dipole, which is not asked for")

    @property
    def differentiated(self) -> tuple[str, ...]:
        """What needs derivatives: "gradient", "laplacian"."""
        return tuple(name for name in ("gradient", "laplacian") if getattr(self, name))

    def __bool__(self) -> bool:
        return bool(self.differentiated or self.dipole or self.plot)


@dataclass
class _Frame:
    """One frame: errors by name of the model and of its baseline, dipoles of reference, model and baseline."""

    name: str
    formula: str
    errors: dict[str, Errors] = field(default_factory=dict)
    base_errors: dict[str, Errors] = field(default_factory=dict)
    dipoles: list[Dipole] = field(default_factory=list)
    drawn: dict[str, tuple] = field(default_factory=dict)


class Derived:
    """Collects frame after frame; `report` and `table` tell what was found."""

    def __init__(self, wanted: Wanted, predictor):
        self.wanted, self.predictor, self.frames = wanted, predictor, []
        # refused before the long work where the model has no derivatives
        self.exact = Derivatives(predictor) if wanted.derivatives == "autograd" else None

    def check(self, reference, name: str) -> None:
        """InputError, before anything is predicted: free points, a reference without such derivatives or dipole."""
        if not isinstance(reference, Density):
            raise InputError(f"{name}: free points have no Laplacian and no dipole moment; a grid expected")
        if self.wanted.differentiated:
            check_continued(reference)
        if self.wanted.dipole:
            self._ions(reference)

    def _ions(self, reference) -> dict[int, float] | None:
        """Charges of the ions for all dipoles of a frame; None of a response."""
        if reference.kind == "response":
            check_molecule(reference)
            return self.wanted.valence
        check_vacuum(reference)
        # whether the usual charges fit is asked of the reference: a poor prediction is no reason to doubt them
        charges = ion_charges(reference, self.wanted.valence)
        return dict(zip(reference.structure.numbers.tolist(), charges.tolist(), strict=True))

    def add(self, reference, name: str, values: np.ndarray, base: np.ndarray | None) -> dict:
        """One frame: reference Density, predicted and baseline's density [n] e/Angstrom^3 (no baseline: None).

        Returns what `dcharge test --json` writes of it: null for derivatives that a prediction does not have (no vacuum
        where the reference has it), which is told. InputError as `check`. Memory: some arrays of the grid.
        """
        self.check(reference, name)

        def on_grid(values, word):
            if values is None:
                return None
            source = reference.source | {"file": f"{name}, {word}"}
            return replace(reference, values=values.reshape(reference.grid.shape), source=source)

        predicted, baseline = on_grid(values, "predicted"), on_grid(base, "baseline")
        frame = _Frame(name, reference.structure.formula)
        rng = np.random.default_rng(len(self.frames))
        some = np.sort(rng.choice(reference.n_points, min(DRAWN, reference.n_points), replace=False))
        exact = {}
        if self.exact is not None:  # the model's derivatives are taken once for all
            exact = gradient_and_laplacian(predicted, self.wanted.differentiated, self._exact)
        for what in ("density", *self.wanted.differentiated):
            truth = self._of(what, reference)
            try:
                found = exact.pop(what) if what in exact else self._of(what, predicted)
            except InputError as error:
                log.warning(f"{error}; {FIELDS[what][0]} of this frame left out")
                continue
            self._compare(frame, "errors", what, found, truth, reference.grid.dv)
            if self.wanted.plot:
                frame.drawn[what] = tuple(x.reshape(-1, reference.n_points)[:, some].ravel() for x in (truth, found))
            if baseline is not None and (what == "density" or self.exact is None):
                try:
                    self._compare(frame, "base_errors", what, self._of(what, baseline), truth, reference.grid.dv)
                except InputError as error:
                    log.warning(f"{error}; {FIELDS[what][0]} of this frame left out")
        if self.wanted.dipole:
            valence = self._ions(reference)
            for density in (reference, predicted, baseline):
                if density is not None:
                    frame.dipoles.append(dipole_moment(density, valence, self.wanted.origin, self.wanted.neutral))
        self.frames.append(frame)
        return self._json(frame)

    def _of(self, what: str, density: Density) -> np.ndarray:
        """A quantity on the grid, [n1, n2, n3] or [3, n1, n2, n3], derivatives by Fourier transform."""
        if what == "density":
            return np.asarray(density.total, dtype=np.float64)
        return gradient_and_laplacian(density, (what,), resolution=self.wanted.resolution)[what]

    def _exact(self, density: Density):
        """The model's own derivatives, tile by tile."""
        structure = self.predictor.as_seen(density.structure)
        yield from self.exact.tiles(structure, density.grid, self.predictor.tile)

    @staticmethod
    def _compare(frame: _Frame, kind: str, what: str, found, truth, dv: float) -> None:
        errors = Errors()
        errors.add(found, truth, dv)
        getattr(frame, kind)[what] = errors

    # ------------------------------------------------------------------------------------------------------ reports
    def _json(self, frame: _Frame) -> dict:
        out = {what: _figures(frame.errors[what]) if what in frame.errors else None for what in self._names()}
        if frame.base_errors:
            out["baseline"] = {what: _figures(e) for what, e in frame.base_errors.items()}
        if frame.dipoles:
            reference, model, *rest = frame.dipoles
            out["dipole"] = {
                "origin_A": reference.origin.tolist(),
                "ions_eA": reference.ions.tolist(),
                "reference": _dipole(reference),
                "model": _dipole(model),
                "baseline": _dipole(rest[0]) if rest else None,
            }
        return out

    def _names(self) -> tuple[str, ...]:
        return ("density", *self.wanted.differentiated)

    def report(self) -> dict:
        """Pooled over frames: what `dcharge test --json` calls `derived`; null where no frame has it."""
        out = {"derivatives": (self.wanted.derivatives or "fft") if self.wanted.differentiated else None}
        out |= {"resolution_A": self.wanted.resolution} if self.wanted.resolution is not None else {}
        out |= dict.fromkeys(self._names()) | self._pooled("errors")
        base = self._pooled("base_errors")
        out["baseline"] = base or None
        if self.wanted.dipole:
            out["dipole"] = self._dipoles(1)
            if base:
                out["baseline"]["dipole"] = self._dipoles(2)
        return out

    def _pooled(self, kind: str) -> dict:
        out = {}
        for frame in self.frames:
            for what, errors in getattr(frame, kind).items():
                out.setdefault(what, Errors()).__iadd__(errors)
        return {what: _figures(errors) for what, errors in out.items()}

    def _dipoles(self, which: int) -> dict:
        """Errors over frames of the electrons' dipole (all components), the total one and |total|/volume."""
        pairs = [(f.dipoles[0], f.dipoles[which]) for f in self.frames]
        out = {}
        for key, of in (
            ("electrons_eA", lambda d: d.electrons),
            ("total_eA", lambda d: d.total),
            ("per_volume_D_per_A3", lambda d: d.per_volume),
        ):
            errors = Errors()
            errors.add(*(np.array([of(pair[k]) for pair in pairs]) for k in (1, 0)))
            out[key] = _figures(errors)
        return out

    def table(self) -> list[str]:
        """Both tables, one row per frame and the pooled figures below."""
        rows, width = [], max([5, *(len(f.name) for f in self.frames)])
        wide = max([7, *(len(f.formula) for f in self.frames)])
        if self.wanted.differentiated:
            names = self._names()
            way = self.wanted.derivatives or "fft"
            rows.append(f"# errors of derived fields, derivatives of the model by {way}, of the reference by fft")
            if self.wanted.resolution is not None:
                rows.append(f"# gradient and Laplacian of both without waves shorter than {self.wanted.resolution:g} A")
            fewer = sum(len(f.errors) < len(names) for f in self.frames)
            if fewer:
                rows.append(f"# {fewer} of {len(self.frames)} predictions have none: '-', and not in the last line")
            rows.append("# units e/A^3 (rho), e/A^4 (gradient), e/A^5 (Laplacian); R2 = 1 - SSE/SST, r2 = Pearson^2")
            head = "".join(f"{f'{k}({FIELDS[n][0]})':>16s}" for n in names for k in ("RMSE", "R2", "r2"))
            rows.append(f"  {'frame':{width}s} {'formula':{wide}s}{head}")
            report = self.report()
            each = [(f.name, f.formula, {n: _figures(e) for n, e in f.errors.items()}) for f in self.frames]
            each.append(("all", "", report))
            each += [("all", "base", report["baseline"])] if report["baseline"] else []
            for name, formula, found in each:
                cells = (found[n][k] if found.get(n) else None for n in names for k in ("rmse", "r2", "r2_pearson"))
                rows.append(f"  {name:{width}s} {formula:{wide}s}" + "".join(f"{_short(x):>16s}" for x in cells))
        if self.wanted.dipole:
            rows += self._dipole_table(width)
        return rows

    def _dipole_table(self, width: int) -> list[str]:
        rows = ["# dipole moments: of the electrons (e A), and total per volume |electrons + ions|/V (D/A^3)"]
        head = f"{'electrons, model':>33s}{'electrons, reference':>33s}{'total/V model':>16s}{'reference':>13s}"
        rows.append(f"  {'frame':{width}s}{head}")
        for frame in self.frames:
            reference, model, *_ = frame.dipoles
            vectors = (" ".join(f"{x:10.4f}" for x in d.electrons) for d in (model, reference))
            text = "".join(f"{v:>33s}" for v in vectors)
            rows.append(f"  {frame.name:{width}s}{text}{model.per_volume:16.6f}{reference.per_volume:13.6f}")
        for who, which in (("model", 1), ("baseline", 2)):
            if which >= len(self.frames[0].dipoles):
                continue
            found = self._dipoles(which)
            parts = (
                f"{name}: RMSE {_short(found[key]['rmse'])}, R2 {_short(found[key]['r2'])}, "
                f"r2 {_short(found[key]['r2_pearson'])}"
                for name, key in (("electrons", "electrons_eA"), ("total/V", "per_volume_D_per_A3"))
            )
            rows.append(f"  {who}, over frames: " + "; ".join(parts))
        return rows

    def draw(self) -> None:
        """The parity plots, one panel per quantity."""
        panels = []
        for what in self._names():
            drawn = [f.drawn[what] for f in self.frames if what in f.drawn]
            if not drawn:
                continue
            truth, found = (np.concatenate([pair[k] for pair in drawn]) for k in (0, 1))
            panels.append((*FIELDS[what], truth, found, False))
        if self.wanted.dipole:
            pairs = [f.dipoles[:2] for f in self.frames]
            for name, unit, of in (
                ("dipole of the electrons", "e Å", lambda d: d.electrons),
                ("dipole per volume", "D/Å³", lambda d: d.per_volume),
            ):
                panels.append((name, unit, *(np.ravel([of(p[k]) for p in pairs]) for k in (0, 1)), True))
        parity_plots(panels, self.wanted.plot, f"{len(self.frames)} test frames")
        log.info(f"{self.wanted.plot}: written")


def _figures(errors: Errors) -> dict:
    found = errors.result()
    return {"mae": found["mae"], "rmse": found["rmse"], "r2": found["r2"], "r2_pearson": errors.pearson2()}


def _dipole(dipole: Dipole) -> dict:
    return {
        "electrons_eA": dipole.electrons.tolist(),
        "total_eA": dipole.total.tolist(),
        "per_volume_D_per_A3": dipole.per_volume,
        "net_charge_e": dipole.charge,
    }


def _short(x) -> str:
    return "-" if x is None else f"{x:.6g}"
