"""Change of the dipole moment of a molecule in an electric field."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .observation import Observation, need_field, need_response
from .slab import LEFT

DEBYE = 4.80320471  # Debye per e Angstrom

FLAG = "dipole"
OPTIONS = {
    "--dipole": {"action": "store_true", "help": "change of a molecule's dipole moment along the electric field"},
}


def dipole_change(density) -> np.ndarray:
    """mu = -e integral (r - r0) dn [3], e Angstrom, of the response of a molecule; r0 is the mean of the atoms.

    The nuclei stand still, so that electrons alone contribute. Without total charge the origin r0 does not matter.
    Raises InputError for periodic cells, where the integral depends on the choice of the cell, and where the response
    does not vanish at the faces of the grid.
    """
    need_response(density, "a change of the dipole moment")
    if density.structure.pbc.any():
        letters = " and ".join("abc"[i] for i in np.flatnonzero(density.structure.pbc))
        raise InputError(
            f"{density.name}: periodic along {letters}; the dipole moment is that of a molecule (--pbc F F F) - "
            "of a slab, --potential tells the dipole along its normal"
        )
    grid = density.grid
    origin = density.structure.positions.mean(axis=0) if len(density.structure) else np.zeros(3)
    largest = np.abs(density.total).max(initial=0.0)
    first = np.empty(3)
    for k in range(3):
        ends = np.abs(np.take(density.total, [0, -1], axis=k)).max()
        if ends > LEFT * largest:
            raise InputError(
                f"{density.name}: no vacuum along {'abc'[k]}: at the ends of the grid the response is "
                f"{100 * ends / largest:.1f} % of its largest value, at most {100 * LEFT:g} % expected"
            )
        planes = density.total.sum(axis=tuple(i for i in range(3) if i != k), dtype=np.float64)
        first[k] = planes @ np.arange(len(planes))  # sum over the grid of the index along k times dn
    return -grid.dv * (first @ grid.steps) - (grid.origin - origin) * density.electrons()


def observe(density, options) -> Observation:
    """The vector, and the component along the field."""
    field = need_field(density, "the change of the dipole moment")
    mu = dipole_change(density)
    along = float(mu @ field / np.linalg.norm(field))
    figures = {f"dipole change {a}": (float(m), "e*A") for a, m in zip("xyz", mu, strict=True)}
    figures |= {"dipole along field": (along, "e*A"), "dipole along field (Debye)": (along * DEBYE, "D")}
    return Observation(figures)
