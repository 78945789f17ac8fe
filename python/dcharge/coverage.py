"""Whether a test set looks like the training set: coordination environments of both. `dcharge coverage`.

The environment of an atom is the multiset of its neighbours' species within bonding distance, as in Gong et al., PRB
100, 184103, Fig. 3: C1H3 is a methyl group's carbon. What a model has not seen shows here before any error does. With a
model every grid point of the test set is given to its nearest atom, and the errors are summed per environment.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from .analysis.parity import PICTURES, pyplot, save
from .dataset import check_frame, system_frames
from .density import Density
from .errors import InputError, counted, log
from .io import read_structures
from .io.replacing import check_folder, replacing
from .nuclei import Nuclei
from .ops import neighbors
from .predict import load, track_points
from .progress import track
from .request import check_field
from .structure import Structure, complete_cell

# of the sum of the covalent radii (ASE: Cordero et al., Dalton Trans. 2008, 2832). With 1.2 F2 has no bond, nor have
# C-H pairs of rattled crystals; with 1.3 the Si-Si of rattled quartz are bonds
BONDED = 1.25
ALONE = "none"  # an atom without neighbours


def environments(structure: Structure, scale: float = BONDED) -> list[str]:
    """Environment of every atom: numbers of its bonded neighbours by species, in alphabetical order, e.g. "C2H2".

    scale  atoms are bonded within `scale` times the sum of their covalent radii; periodic images count
    """
    species, kind = np.unique(structure.numbers, return_inverse=True)
    radius = covalent_radii[structure.numbers]
    cell = complete_cell(structure.cell, structure.pbc)
    count = np.zeros((len(structure), len(species)), dtype=np.int64)
    if len(structure):
        given = (torch.tensor(x) for x in (structure.positions, cell, structure.pbc))
        index, shift = neighbors(*given, 2 * scale * float(radius.max()))
        (i, j), shift = index.numpy(), shift.numpy()
        distance = np.linalg.norm(structure.positions[j] + shift @ cell - structure.positions[i], axis=1)
        bonded = distance <= scale * (radius[i] + radius[j])
        np.add.at(count, (i[bonded], kind[j[bonded]]), 1)
    order = sorted(range(len(species)), key=lambda k: chemical_symbols[species[k]])
    return ["".join(f"{chemical_symbols[species[k]]}{n[k]}" for k in order if n[k]) or ALONE for n in count]


@dataclass
class Error:
    """Sums over the grid points nearest to atoms of one environment, e: of |error| and of |reference|."""

    error: float = 0.0
    reference: float = 0.0


@dataclass
class Seen:
    """Atoms of one set: how many frames, and atoms by (symbol, environment)."""

    frames: int = 0
    atoms: Counter = field(default_factory=Counter)

    def add(self, structure: Structure, found: list[str]) -> None:
        """Count one frame, whose atoms have environments `found`."""
        self.frames += 1
        self.atoms.update(zip(structure.symbols, found, strict=True))

    def species(self) -> dict[str, int]:
        """{symbol: number of atoms}."""
        out = Counter()
        for (symbol, _), n in self.atoms.items():
            out[symbol] += n
        return dict(out)


@dataclass
class Coverage:
    """What both sets hold; errors by (symbol, environment) of the test set, empty without a model."""

    train: Seen
    test: Seen
    scale: float
    errors: dict = field(default_factory=dict)

    def absent(self) -> set:
        """(symbol, environment) of the test set that training lacks."""
        return set(self.test.atoms) - set(self.train.atoms)

    def rows(self, symbol: str) -> list[dict]:
        """Environments of one species, the most frequent ones of the test set first: what `as_json` holds."""
        of = {e for s, e in (*self.train.atoms, *self.test.atoms) if s == symbol}
        totals = [seen.species().get(symbol, 0) for seen in (self.train, self.test)]
        whole = sum(e.reference for e in self.errors.values())
        out = []
        for name in of:
            counts = [seen.atoms[symbol, name] for seen in (self.train, self.test)]
            row = {"environment": name, "train": counts[0], "test": counts[1]}
            for key, n, total in zip(("train_percent", "test_percent"), counts, totals, strict=True):
                row[key] = 100 * n / total if total else None
            row["absent_from_training"] = not counts[0]
            if self.errors:
                e = self.errors.get((symbol, name))
                row["abs_error_e"] = e.error if e else None
                row["nmae_percent"] = 100 * e.error / e.reference if e and e.reference else None
                row["nmae_share_percent"] = 100 * e.error / whole if e and whole else None
            out.append(row)
        return sorted(out, key=lambda r: (-r["test"], -r["train"], r["environment"]))

    def symbols(self) -> list[str]:
        """Species of both sets, by atomic number."""
        return sorted({*self.train.species(), *self.test.species()}, key=atomic_numbers.__getitem__)

    def table(self) -> list[str]:
        """Rows for people."""
        out = [f"# neighbours within {self.scale:g} times the sum of covalent radii; atoms, and % of the species"]
        for word, seen in (("training", self.train), ("test", self.test)):
            out.append(f"# {word}: {counted(seen.frames, 'frame')}, {sum(seen.atoms.values())} atoms")
        more = f"{'NMAE %':>10s}{'share %':>10s}" if self.errors else ""
        if self.errors:
            out.append("# NMAE: of the points nearest to these atoms; share: their part of the NMAE of all points")
        out.append(f"{'':6s}{'environment':<16s}{'training':>10s}{'%':>8s}{'test':>10s}{'%':>8s}{more}")
        for symbol in self.symbols():
            for row in self.rows(symbol):
                text = f"{symbol:<6s}{row['environment']:<16s}"
                for key in ("train", "test"):
                    text += f"{row[key]:>10d}{_short(row[key + '_percent'], 1):>8s}"
                if self.errors:
                    text += f"{_short(row['nmae_percent'], 3):>10s}{_short(row['nmae_share_percent'], 3):>10s}"
                out.append(text + ("  absent from training" if row["absent_from_training"] else ""))
        atoms, absent = sum(self.test.atoms.values()), self.absent()
        n = sum(self.test.atoms[key] for key in absent)
        text = (
            f"# {n} of {atoms} test atoms ({100 * n / atoms:.1f} %) in {len(absent)} environments absent from training"
        )
        if self.errors:
            share = sum(self.errors[key].error for key in absent)
            whole = sum(e.error for e in self.errors.values())
            text += f", with {100 * share / whole if whole else 0:.1f} % of the error"
        return [*out, text]

    def as_json(self) -> dict:
        """{"format": "dcharge-coverage", "version": 1, ...}."""
        whole = [sum(getattr(e, k) for e in self.errors.values()) for k in ("error", "reference")]
        atoms = sum(self.test.atoms.values())
        return {
            "format": "dcharge-coverage",
            "version": 1,
            "scale": self.scale,
            "train": {"frames": self.train.frames, "atoms": self.train.species()},
            "test": {"frames": self.test.frames, "atoms": self.test.species()},
            "species": {symbol: self.rows(symbol) for symbol in self.symbols()},
            "absent_percent": 100 * sum(self.test.atoms[key] for key in self.absent()) / atoms,
            "nmae_percent": 100 * whole[0] / whole[1] if self.errors and whole[1] else None,
        }


def _short(x, digits: int) -> str:
    return "-" if x is None else f"{x:.{digits}f}"


def coverage(
    train, test, *, model=None, scale: float = BONDED, outputs=(), pbc=None, field=None, device="auto"
) -> Coverage:  # fmt: skip
    """Compare the environments in two lists of paths; print the table, write `outputs` (.json, .png, .pdf, .svg).

    train, test  anything `io.read_structures` reads; with a model, `test` holds densities on grids
    model        frozen model: errors of its density per environment of the test set
    pbc, field   override what all files say
    One frame, and of a prediction one tile, is in memory at a time. InputError where the sets share no species.
    """
    for path in outputs:
        if str(path).rsplit(".", 1)[-1].lower() not in ("json", *PICTURES):
            raise InputError(f"{path}: .json, .png, .pdf or .svg expected")
        check_folder(path)
    numbers = [path for path in outputs if _is_json(path)]
    pictures = [path for path in outputs if not _is_json(path)]
    if pictures:
        pyplot("coverage")  # before the long work: told where it is missing
    known = {os.path.realpath(p) for p in train}
    both = [p for p in test if os.path.realpath(p) in known]
    if both:
        log.warning(f"{both[0]} is in both sets: of course training covers it")
    predictor = None if model is None else load(model, device)
    if predictor is not None:
        check_field(predictor, field)
    found = Coverage(Seen(), Seen(), scale)
    sets = [("training", train, found.train)] + ([("test", test, found.test)] if predictor is None else [])
    for word, paths, seen in sets:
        for path in paths:
            for _, structure in track(read_structures(path, pbc=pbc, field=field), desc=word, unit="frames"):
                seen.add(structure, environments(structure, scale))
    frames = []
    if predictor is not None:
        frames = system_frames([{"path": p, "pbc": pbc, "field": field} for p in test])
        for frame in frames:
            if not len(frame.structure):
                raise InputError(f"{frame.name}: holds no atom, its points belong to no environment")
            found.test.add(frame.structure, environments(frame.structure, scale))
    _check(found)
    for frame in frames:
        density = frame.read()
        check_frame(density, predictor.model.config["target"], predictor.model.type_map)
        if not isinstance(density, Density):
            raise InputError(f"{frame.name}: free points fill no space; a density on a grid expected")
        tiles = track_points(predictor.tiles(density.structure, density.grid), density.grid.n_points)
        add_errors(found.errors, density, environments(density.structure, scale), tiles)
    for line in found.table():
        print(line)
    for path in (*numbers, *pictures):  # a picture that fails leaves the numbers
        write(found, path)
        log.info(f"{path}: written")
    return found


def _check(found: Coverage) -> None:
    """InputError where there is nothing to compare; a warning for species that training lacks."""
    train, test = found.train.species(), found.test.species()
    for word, species in (("training", train), ("test", test)):
        if not species:
            raise InputError(f"coverage: the {word} set holds no atom")
    if not set(train) & set(test):
        words = (", ".join(sorted(s)) for s in (train, test))
        raise InputError("coverage: the sets have no species in common: training holds {}, the test {}".format(*words))
    unknown = sorted(set(test) - set(train))
    if unknown:
        log.warning(f"training lacks {', '.join(unknown)} altogether: a model of it knows no such atom")


def add_errors(errors: dict, density: Density, found: list[str], tiles) -> None:
    """Add |error| and |reference| dV of one frame to the environment of the atom that each point is nearest to.

    errors   {(symbol, environment): Error}, changed; density: the reference; found: environment of every atom
    tiles    (index [n], rho [1, n] e/Angstrom^3, ...) of the prediction, together every grid point once, as
             `Predictor.tiles` yields them
    """
    keys = list(zip(density.structure.symbols, found, strict=True))
    names = sorted(set(keys))
    number = np.array([names.index(key) for key in keys])
    nuclei, grid = Nuclei(density.structure), density.grid
    sums = np.zeros((2, len(names)))
    for index, rho, *_ in tiles:
        truth = density.values_at(index)[0].astype(np.float64)
        of = number[nuclei.nearest(grid.points(index))[1]]
        for k, values in enumerate((np.abs(rho[0] - truth), np.abs(truth))):
            sums[k] += np.bincount(of, values, len(names)) * grid.dv
    for key, error, reference in zip(names, *sums, strict=True):
        entry = errors.setdefault(key, Error())
        entry.error += float(error)
        entry.reference += float(reference)


def _is_json(path) -> bool:
    return str(path).lower().endswith(".json")


def write(found: Coverage, path) -> None:
    """Write JSON or a picture, as the name says, under a temporary name, then rename."""
    if _is_json(path):
        with replacing(path) as part:
            Path(part).write_text(json.dumps(found.as_json(), indent=1) + "\n")
        return
    plt, symbols = pyplot("coverage"), found.symbols()
    rows = {symbol: found.rows(symbol) for symbol in symbols}
    widths = [len(rows[s]) + 1 for s in symbols]
    size = (max(5.0, 0.42 * sum(widths) + 1.5 * len(symbols)), 4.2)
    figure, axes = plt.subplots(1, len(symbols), figsize=size, width_ratios=widths, squeeze=False, layout="constrained")
    for ax, symbol in zip(axes[0], symbols, strict=True):
        _bars(ax, symbol, rows[symbol], bool(found.errors))
    axes[0, 0].legend(fontsize="small")
    if found.absent():
        figure.suptitle("red: absent from training", color="red", fontsize="small")
    save(plt, figure, path)


def _bars(ax, symbol: str, rows: list[dict], with_error: bool) -> None:
    """Frequencies of one species' environments; names of those that training lacks are red; NMAE as dots."""
    x = np.arange(len(rows))
    for shift, key, label in ((-0.2, "train_percent", "training"), (0.2, "test_percent", "test")):
        ax.bar(x + shift, [row[key] or 0.0 for row in rows], 0.4, label=label)
    ax.set_xticks(x, [row["environment"] for row in rows], rotation=90)
    for tick, row in zip(ax.get_xticklabels(), rows, strict=True):
        tick.set_color("red" if row["absent_from_training"] else "black")
    ax.set(title=symbol, ylabel="% of the atoms")
    some = [(k, row["nmae_percent"]) for k, row in enumerate(rows) if with_error and row["nmae_percent"] is not None]
    if some:
        right = ax.twinx()
        right.plot(*np.transpose(some), "k.")
        right.set_ylabel("NMAE, %")
        right.set_ylim(bottom=0)
