"""`dcharge analyze`: observables of densities, also beside a reference, as a table, CSV, JSON and a picture."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.units import Bohr

from ..density import KINDS, Density
from ..errors import InputError, log
from ..io import open_system
from ..io import write as write_density
from ..io.minus import Pairs, disagreement
from ..io.replacing import check_folder, replacing
from ..io.source import stem
from ..io.writers import with_word
from . import observables
from .differential import check_resolution
from .observation import Observation

PICTURES = ("png", "pdf", "svg")
WRITTEN = ("csv", "json", *PICTURES)
CUBE = (".cube", ".cub")  # fields
DIFFERENTIATED = ("gradient", "laplacian", "iri", "dori")  # options whose observables take derivatives; all are fields
FIELDS = tuple("--" + name for name in DIFFERENTIATED)


@dataclass
class Analysis:
    """What was found in one frame: its name, kind and field, and the same of the reference, if there is one."""

    name: str
    kind: str
    field: list[float] | None
    found: Observation
    reference_name: str | None = None
    reference: Observation | None = None

    def beside(self, name: str):
        """Reference value of a figure, or None."""
        return None if self.reference is None else self.reference.figures[name][0]


def chosen(options: dict) -> list:
    """The modules that the options ask for. InputError where none is, or an option of one that is not is given."""
    modules = observables()
    asked = [m for m in modules if m.FLAG is None or any(options.get(flag) for flag in flags_of(m))]
    if all(m.FLAG is None for m in asked):
        flags = ", ".join("--" + flag.replace("_", "-") for m in modules for flag in flags_of(m))
        raise InputError(f"analyze: nothing asked for; one or more of {flags} expected")
    heard = {flag for module in asked for flag in module.OPTIONS}
    for module in modules:
        for flag in module.OPTIONS:
            value = options.get(flag.removeprefix("--").replace("-", "_"))
            if value is not None and value is not False and flag not in heard:
                raise InputError(
                    f"{flag}: belongs to --{flags_of(module)[0].replace('_', '-')}, which is not asked for"
                )
    return asked


def flags_of(module) -> tuple[str, ...]:
    """Names of the options that ask for a module's observable."""
    return (module.FLAG,) if isinstance(module.FLAG, str) else module.FLAG or ()


def observe(density: Density, modules, options: dict) -> Observation:
    """All that the modules find in one density."""
    found = Observation()
    for module in modules:
        found += module.observe(density, options)
    return found


def _suffix(path) -> str:
    return Path(str(path)).suffix.lower().removeprefix(".")


def analyze(
    files, options: dict, *, minus=None, kind=None, reference=None, pbc=None, field=None, outputs=(), source=None,
    derivatives=None,
) -> list[Analysis]:  # fmt: skip
    """Analyze every frame of `files`, print a table, write `outputs`; returns one Analysis per frame.

    options    what to compute, by the names of `dcharge.analysis` (e.g. {"planar": "z", "potential": True})
    minus      path of densities without field: densities become responses (those that are responses stay)
    kind       "density" or "response": what the values are, in place of what the files say
    reference  path: every frame is put beside the frame there with its atoms, grid and field
    pbc, field override what all files say
    outputs    names ending in .csv, .json, .png, .pdf, .svg or, for fields, .cube: x.iri.cube of x.cube, numbered where
               there are several frames. A cube holds the field's own numbers
    source     where densities come from in place of files that hold them (`frames`, `prepare`, `derivatives`): those of
               a model, `dcharge.derivatives.PredictedDensities`
    derivatives  "fft" of the grid, or "autograd", those of the model; None: the model's where there is one
    """
    modules = chosen(options)
    if derivatives is not None and not any(options.get(name) for name in DIFFERENTIATED):
        raise InputError(f"--derivatives: belongs to {', '.join(FIELDS)}; none of them is asked for")
    if derivatives == "autograd" and source is None:
        raise InputError("--derivatives autograd: derivatives of a model; give it with -m")
    for path in outputs:
        if _suffix(path) not in WRITTEN and not is_cube(path):
            raise InputError(
                f"{path}: .csv, .json, .png, .pdf or .svg expected, or .cube for fields ({', '.join(FIELDS)})"
            )
        check_folder(path)
    if source is not None and not (minus is reference is kind is None):
        raise InputError("analyze: with -m densities are predicted; --minus, --reference and --kind belong to files")
    if minus is not None and kind is not None:
        raise InputError("analyze: with --minus the result is a response; --kind makes no sense")
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind '{kind}': one of {KINDS} expected")
    pairs = None if minus is None else Pairs(open_system(minus, pbc=pbc).frames)
    others = None if reference is None else open_system(reference, pbc=pbc, field=field).frames

    def read(frame) -> Density:
        density = frame.read(np.float64) if pairs is None or frame.kind == "response" else pairs.read(frame)
        if not isinstance(density, Density):
            raise InputError(f"{frame.name}: free points have no planes and no integral; a density on a grid expected")
        density.kind = kind or density.kind
        return density

    analyses, cubes = [], [path for path in outputs if is_cube(path)]
    outputs = [path for path in outputs if path not in cubes]
    own = source is not None and derivatives != "fft"
    check_resolution(options.get("resolution"), "autograd" if own else "fft")
    if own:
        if any(options.get(name) for name in DIFFERENTIATED):
            # a Laplacian has no bound in a cusp; IRI and DORI leave such places out
            source.prepare(smooth=bool(options.get("gradient") or options.get("laplacian")))
        options = options | {"derivatives": source.derivatives}
    of_path = (lambda path: open_system(path, pbc=pbc, field=field).frames) if source is None else source.frames
    frames = [frame for path in files for frame in of_path(path)]
    for number, frame in enumerate(frames):
        partner = None if others is None else partner_of(frame, others)
        density = read(frame)
        given = density.structure.field
        analysis = Analysis(
            frame.name,
            density.kind,
            None if given is None else given.tolist(),
            observe(density, modules, options),
        )
        write_fields(density, analysis.found, cubes, number if len(frames) > 1 else None)
        if partner is not None:
            density = read(partner)
            if density.kind != analysis.kind:
                raise InputError(
                    f"{frame.name} is a {analysis.kind}, its reference {partner.name} a {density.kind} "
                    "(--minus REF makes responses of densities)"
                )
            analysis.reference_name = partner.name
            analysis.reference = observe(density, modules, options)
            write_fields(density, analysis.reference, (), None)
        print_table(analysis)
        analyses.append(analysis)
    for path in outputs:
        write(analyses, path)
        log.info(f"{path}: written")
    return analyses


def is_cube(path) -> bool:
    """Whether a name is that of a cube file, compressed or not."""
    return stem(path).lower().endswith(CUBE)


def write_fields(density: Density, found: Observation, paths, number: int | None) -> None:
    """Write every field to x.NAME.cube for each path x.cube (x.000001.NAME.cube with a number), and let go of it.

    InputError where there is none. Writers turn e/Angstrom^3 into e/bohr^3, which a field is not: its own numbers stand
    in the file.
    """
    if paths and not found.fields:
        raise InputError(f"{paths[0]}: what was asked for has no field; one of {', '.join(FIELDS)} expected")
    for name, field in found.fields.items():
        for path in paths:
            target = with_word(path, name if number is None else f"{number:06d}.{name}")
            values = (field.values / Bohr**3)[None]
            write_density(
                Density(density.structure, density.grid, values), target, comment=f"{field.words}, of {density.name}"
            )
            log.info(f"{target}: written")
        field.values = None


def partner_of(frame, references):
    """The one reference frame with the same atoms, grid and field; InputError where there is none, or more."""

    def reason(other) -> str | None:
        a, b = frame.structure.field, other.structure.field
        if a is not None and b is not None and not np.allclose(a, b, rtol=0, atol=1e-6):
            return "another electric field"
        return disagreement(frame, other)

    reasons = [reason(other) for other in references]
    found = [other for other, why in zip(references, reasons, strict=True) if why is None]
    if len(found) > 1:
        raise InputError(f"{frame.name}: both {found[0].name} and {found[1].name} have its atoms, grid and field")
    if not found:
        many = "" if len(references) == 1 else f"none of {len(references)} references has its atoms, grid and field; "
        raise InputError(f"{frame.name} and reference {references[0].name} cannot be compared: {many}{reasons[0]}")
    return found[0]


def print_table(analysis: Analysis) -> None:
    """The figures of one frame on standard output, the reference and the difference beside them."""
    field = "" if analysis.field is None else ", field " + " ".join(f"{x:g}" for x in analysis.field) + " V/A"
    print(f"{analysis.name} ({analysis.kind}{field})")
    if analysis.reference is not None:
        print(f"  beside {analysis.reference_name}")
        print(f"  {'':<28}{'value':>13}{'reference':>13}{'difference':>13}")
    for name, (value, unit) in analysis.found.figures.items():
        other = analysis.beside(name)
        row = "" if other is None else f"{_short(other):>13}{_short(value - other):>13}"
        print(f"  {name:<28}{_short(value):>13}{row}  {unit}")


def _short(value: float) -> str:
    return f"{value:.2e}" if value and abs(value) < 1e-4 else f"{value:.5f}"


def write(analyses: list[Analysis], path) -> None:
    """Write what was found; the suffix of `path` chooses CSV, JSON or a picture. It appears whole or not at all."""
    suffix = _suffix(path)
    if suffix in PICTURES:
        from .picture import picture

        picture(analyses, path)
        return
    with replacing(path) as part:
        if suffix == "json":
            part.write_text(json.dumps(as_json(analyses), indent=1) + "\n")
        else:
            with open(part, "w", newline="") as stream:
                csv.writer(stream).writerows(rows(analyses))


def rows(analyses: list[Analysis]):
    """One header and one row per figure (no height) and per point of a curve: a tidy table."""
    yield "frame", "quantity", "unit", "height_A", "value", "reference"
    for a in analyses:
        for name, (value, unit) in a.found.figures.items():
            yield a.name, name, unit, "", repr(value), "" if a.reference is None else repr(a.beside(name))
        for name, curve in a.found.curves.items():
            other = [""] * len(curve.values) if a.reference is None else a.reference.curves[name].values.tolist()
            for h, v, r in zip(curve.height.tolist(), curve.values.tolist(), other, strict=True):
                yield a.name, name, curve.unit, repr(h), repr(v), r


def as_json(analyses: list[Analysis]) -> dict:
    """The same as nested mappings: {"format": "dcharge-analysis", "version": 1, "frames": [...]}."""

    def one(found: Observation) -> dict:
        return {
            "figures": {name: {"value": value, "unit": unit} for name, (value, unit) in found.figures.items()},
            "curves": {
                name: {"unit": c.unit, "height_A": c.height.tolist(), "values": c.values.tolist()}
                for name, c in found.curves.items()
            },
        }

    frames = []
    for a in analyses:
        entry = {"name": a.name, "kind": a.kind, "field_V_per_A": a.field, **one(a.found), "reference": None}
        if a.reference is not None:
            entry["reference"] = {"name": a.reference_name, **one(a.reference)}
            entry["difference"] = {name: value - a.beside(name) for name, (value, _) in a.found.figures.items()}
        frames.append(entry)
    return {"format": "dcharge-analysis", "version": 1, "frames": frames}
