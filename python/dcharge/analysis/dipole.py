"""Dipole moments: of a density with the charges of its ions, and the change of a molecule's in an electric field.

Electrons are points of charge -e n dV at the grid's points, ions points of their valence charge. Along an axis that is
periodic everything is taken into one cell of the grid, 0 <= x < 1 from the grid's origin, and what lies on a face of
that cell counts half on either face. Along other axes nothing is moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ..errors import InputError, log, nearest, say_once, warn_once
from .observation import Observation, need_field, need_response
from .slab import LEFT

DEBYE = 4.80320471  # Debye per e Angstrom
NEUTRAL = 1e-3  # e; with more, the moment depends on the origin in the third digit
BELIEVED = 0.02  # largest relative difference of the electrons from the usual valence charges
FACE = 1e-6  # of a cell vector: an atom that near to a face lies on it
ORIGINS = ("corner", "atoms")
# number of electrons in closed shells below the valence, by the first and last element they belong to; as in most
# pseudopotentials. Lanthanides and actinides have no usual one
CORES = ((1, 2, 0), (3, 10, 2), (11, 18, 10), (19, 30, 18), (31, 36, 28), (37, 48, 36), (49, 54, 46), (55, 56, 54),
         (72, 80, 68), (81, 86, 78), (87, 88, 86))  # fmt: skip

FLAG = "dipole"
OPTIONS = {
    "--dipole": {
        "action": "store_true",
        "help": "dipole moment of electrons and ions; of a response, the change of a molecule's along the field",
    },
    "--valence": {
        "metavar": "X=N,..",
        "help": "charges of the ions, e.g. O=6,H=1 (default: the usual valence electrons, where they fit the density)",
    },
    "--neutral": {
        "action": "store_true",
        "help": "scale the electrons so that they cancel the ions (of a density on every second grid point, e.g.)",
    },
    "--dipole-origin": {
        "choices": ORIGINS,
        "help": "where the dipole is measured from: corner of the grid, or mean of the atoms (default: corner; of a "
        "response: atoms). It matters to each part, and to the sum where there is a net charge",
    },
}


@dataclass(frozen=True)
class Dipole:
    """Dipole moments of one cell about `origin`, e Angstrom, from negative to positive charge.

    electrons, ions  [3]: -sum n (r - origin) dV and sum Z (R - origin); ions are zero for a response
    charge           of the cell, e: ions minus electrons
    origin           [3] Angstrom
    volume           of the grid's cell, Angstrom^3
    """

    electrons: np.ndarray
    ions: np.ndarray
    charge: float
    origin: np.ndarray
    volume: float

    @property
    def total(self) -> np.ndarray:
        """[3] e Angstrom."""
        return self.electrons + self.ions

    @property
    def per_volume(self) -> float:
        """|total|/volume in Debye/Angstrom^3: what Gong et al., PRB 100, 184103, Eq. 3 call mu."""
        return float(np.linalg.norm(self.total)) * DEBYE / self.volume


def usual_valence(number: int) -> int | None:
    """Electrons outside closed shells (full d and f shells are closed from group 13 and 4 on), or None."""
    return next((number - core for first, last, core in CORES if first <= number <= last), None)


def parse_valence(text: str | None) -> dict[int, float] | None:
    """{atomic number: charge} of "O=6,H=1"; InputError in one line."""
    if text is None:
        return None
    out = {}
    for word in text.split(","):
        symbol, _, value = word.partition("=")
        try:
            charge = float(value)
        except ValueError:
            charge = -1.0
        if not 0 <= charge < np.inf:
            raise InputError(f"--valence {text}: charges such as O=6,H=1 expected, not '{word}'")
        if symbol not in atomic_numbers:
            raise InputError(f"--valence: '{symbol}' is not a chemical symbol{nearest(symbol, chemical_symbols[1:])}")
        out[atomic_numbers[symbol]] = charge
    return out


def ion_charges(density, valence: dict[int, float] | None = None) -> np.ndarray:
    """Charges [n_atoms] of the ions, e: those of `valence`, else the usual ones if they fit the electrons (said).

    InputError for a species without charge, and where the usual charges do not fit.
    """
    numbers, name = density.structure.numbers, density.name
    species = sorted(set(numbers.tolist()))
    given = valence if valence is not None else {z: usual_valence(z) for z in species}
    missing = [chemical_symbols[z] for z in species if given.get(z) is None]
    if missing:
        raise InputError(
            f"{name}: the charge of the ion {missing[0]} is not known; give valence charges, --valence {missing[0]}=N"
        )
    words = ",".join(f"{chemical_symbols[z]}={given[z]:g}" for z in species)
    charges = np.array([given[z] for z in numbers.tolist()], dtype=np.float64)
    if valence is None:
        found, expected = density.electrons(), charges.sum()
        if abs(found - expected) > BELIEVED * max(expected, 1.0):
            raise InputError(
                f"{name}: holds {found:.3f} electrons, the usual valence charges {words} sum to {expected:g}; give "
                "those of the calculation with --valence"
            )
        say_once(f"valence-{words}", f"charges of the ions: the usual valence, {words} (--valence tells others)")
    return charges


def first_moment(density) -> np.ndarray:
    """sum over the grid of n (r - grid origin) dV [3], e Angstrom, one cell, the plane on a periodic face half on
    either face."""
    grid, first = density.grid, np.empty(3)
    for k in range(3):
        planes = density.total.sum(axis=tuple(i for i in range(3) if i != k), dtype=np.float64)
        place = np.arange(len(planes), dtype=np.float64)
        if density.structure.pbc[k]:
            place[0] = 0.5 * len(planes)
        first[k] = planes @ place
    return grid.dv * (first @ grid.steps)


def dipole_moment(density, valence=None, origin: str | None = None, neutral: bool = False) -> Dipole:
    """Dipole moments of a density and its ions (of a response: of the electrons alone) in the cell of the grid.

    valence  {atomic number: charge}, see `ion_charges`
    origin   "corner" of the grid, or "atoms": their mean. None: the corner, of a response the atoms
    neutral  scale the electrons so that there is no net charge
    Says what the number means where it is not that of a neutral molecule: warnings where there is a net charge, and
    where the cell is periodic.
    """
    structure, grid, name = density.structure, density.grid, density.name
    response = density.kind == "response"
    for option, given in (("--valence", valence is not None), ("--neutral", neutral)):
        if response and given:
            raise InputError(f"{option}: belongs to a density, {name} is a response: its ions stand still")
    electrons, moment = density.electrons(), first_moment(density)
    rows = structure.pbc
    if not np.allclose(grid.cell[rows], structure.cell[rows], rtol=0, atol=1e-3):
        raise InputError(f"{name}: the grid is not the periodic cell, its electrons are not those of the ions")
    charges = np.zeros(len(structure)) if response else ion_charges(density, valence)
    if neutral:
        if not electrons > 0:
            raise InputError(f"{name}: holds {electrons:g} electrons, which cannot be scaled to cancel the ions")
        factor = charges.sum() / electrons
        log.info(f"{name}: electrons scaled by {factor:.6f} to {charges.sum():g} (--neutral)")
        electrons, moment = electrons * factor, moment * factor
    fractional = (structure.positions - grid.origin) @ np.linalg.inv(grid.cell)
    wrapped = fractional - np.floor(fractional)
    wrapped = np.where(np.minimum(wrapped, 1 - wrapped) < FACE, 0.5, wrapped)
    positions = np.where(structure.pbc, wrapped, fractional) @ grid.cell  # from the grid's origin
    corner = (origin or ("atoms" if response else "corner")) == "corner" or not len(structure)
    start = np.zeros(3) if corner else positions.mean(axis=0)
    found = Dipole(
        -(moment - electrons * start),
        charges @ (positions - start),
        float(charges.sum() - electrons),
        grid.origin + start,
        grid.volume,
    )
    where = "the corner of the grid" if corner else "the mean of the atoms"
    if abs(found.charge) > NEUTRAL:
        log.warning(
            f"{name}: net charge {found.charge:+.4f} e: the dipole moment depends on its origin, here {where}, "
            f"({_words(found.origin)}) Angstrom ({abs(found.charge) * DEBYE:.3g} Debye for every Angstrom)"
        )
    if structure.pbc.any():
        letters = " and ".join("abc"[k] for k in np.flatnonzero(structure.pbc))
        warn_once(
            f"dipole-periodic-{letters}",
            f"{name}: periodic along {letters}: there the dipole moment is that of one choice of the cell, a number to "
            "compare two densities of the same atoms and cell by, not a property of the crystal (atoms and grid "
            "points at 0 <= x < 1 from the corner of the grid, those on a face half on either face; measured from "
            f"{where})",
        )
    return found


def _words(vector) -> str:
    return " ".join(f"{x:.4g}" for x in vector)


def dipole_change(density, origin: str | None = None) -> np.ndarray:
    """mu = -e integral (r - r0) dn [3], e Angstrom, of the response of a molecule; r0 is the mean of the atoms.

    origin  "corner": r0 is the corner of the grid
    The nuclei stand still, so that electrons alone contribute. Without total charge the origin r0 does not matter.
    Raises InputError for periodic cells, where the integral depends on the choice of the cell, and where the response
    does not vanish at the faces of the grid.
    """
    need_response(density, "a change of the dipole moment")
    check_molecule(density)
    return dipole_moment(density, origin=origin).electrons


def check_molecule(density) -> None:
    """InputError for a periodic cell, and where a response does not vanish at the ends of its grid."""
    if density.structure.pbc.any():
        letters = " and ".join("abc"[i] for i in np.flatnonzero(density.structure.pbc))
        raise InputError(
            f"{density.name}: periodic along {letters}; the dipole moment is that of a molecule (--pbc F F F) - "
            "of a slab, --potential tells the dipole along its normal"
        )
    check_vacuum(density)


def check_vacuum(density) -> None:
    """InputError where a density is not small at the ends of an axis that is not periodic: some of it is missing."""
    largest = np.abs(density.total).max(initial=0.0)
    for k in np.flatnonzero(~density.structure.pbc):
        ends = np.abs(np.take(density.total, [0, -1], axis=k)).max()
        if ends > LEFT * largest:
            raise InputError(
                f"{density.name}: no vacuum along {'abc'[k]}: at the ends of the grid the {density.kind} is "
                f"{100 * ends / largest:.1f} % of its largest value, at most {100 * LEFT:g} % expected"
            )


def observe(density, options) -> Observation:
    """Of a response the vector and its component along the field; of a density those of electrons, ions and both."""
    if density.kind == "response":
        for name in ("valence", "neutral"):
            if options.get(name):
                raise InputError(f"--{name}: belongs to a density, {density.name} is a response: its ions stand still")
        field = need_field(density, "the change of the dipole moment")
        mu = dipole_change(density, options.get("dipole_origin"))
        along = float(mu @ field / np.linalg.norm(field))
        figures = {f"dipole change {a}": (float(m), "e*A") for a, m in zip("xyz", mu, strict=True)}
        figures |= {"dipole along field": (along, "e*A"), "dipole along field (Debye)": (along * DEBYE, "D")}
        return Observation(figures)
    check_vacuum(density)
    found = dipole_moment(
        density, parse_valence(options.get("valence")), options.get("dipole_origin"), bool(options.get("neutral"))
    )
    figures = {}
    for what, vector in (("electronic dipole", found.electrons), ("ionic dipole", found.ions), ("dipole", found.total)):
        figures |= {f"{what} {a}": (float(m), "e*A") for a, m in zip("xyz", vector, strict=True)}
    size = float(np.linalg.norm(found.total))
    figures |= {
        "dipole": (size, "e*A"),
        "dipole (Debye)": (size * DEBYE, "D"),
        "dipole per volume": (found.per_volume, "D/A^3"),
        "net charge": (found.charge, "e"),
    }
    figures |= {f"origin of the dipole {a}": (float(x), "A") for a, x in zip("xyz", found.origin, strict=True)}
    return Observation(figures)
