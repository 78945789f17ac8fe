"""Electrostatic potential of a slab's response between open boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError, counted
from .axis import axis_of
from .charge import KEEP_CHARGE, neutral_response
from .observation import Curve, Observation, need_response
from .slab import slab_of

E_OVER_EPSILON0 = 180.951282  # V Angstrom, CODATA 2018: 1.602176634e-19 / 8.8541878128e-12 V m
MARGIN = 1.0  # Angstrom

FLAG = "potential"
OPTIONS = {
    "--potential": {
        "action": "store_true",
        "help": "electrostatic potential of a slab's response, open boundaries, and its slope inside the slab",
    },
    "--margin": {
        "type": float,
        "metavar": "LENGTH",
        "help": f"the slope is fitted this far inside the outermost atomic planes, Angstrom (default: {MARGIN:g})",
    },
    **KEEP_CHARGE,
}


@dataclass(frozen=True)
class Potential:
    """The planar-averaged potential of a response.

    height, values  [n] Angstrom, [n] V; zero at the lowest height, in the vacuum
    slope     V/Angstrom, of the straight line fitted to the heights `inside`
    inside    (lowest, highest) Angstrom: between the outermost atoms, less the margin
    n_planes  planes of grid points in the fit
    step      V, upper minus lower vacuum
    dipole    e Angstrom per cell, along the normal: -e A integral h n dh
    removed   e, total charge that was removed from the response first
    """

    height: np.ndarray
    values: np.ndarray
    slope: float
    inside: tuple[float, float]
    n_planes: int
    step: float
    dipole: float
    removed: float


def response_potential(
    density, axis: str | None = None, *, margin: float = MARGIN, keep_charge: bool = False
) -> Potential:
    """Solve phi'' = +(e/epsilon0) n(h) for the planar average n of a response (electrons positive: charge -e n).

    phi' = 0 in both vacua: no periodic images, so the dipole of the slab makes the step it has. That holds for a total
    charge of zero; the charge found is removed first, in proportion to |dn| at every point. With `keep_charge` the
    field is that of the charged sheet, half of it on either side. axis as in `axis_of`; margin in Angstrom.

    A perfect metal has slope = field . normal: the response cancels the applied potential -field . r.
    Raises InputError where the response is not that of a slab between vacua.
    """
    need_response(density, "the potential")
    if not 0 <= margin < np.inf:
        raise InputError(f"--margin {margin}: a length in Angstrom, zero or above, expected")
    axis = axis_of(density, axis)
    if not density.structure.pbc[list(axis.others)].all():
        raise InputError(
            f"{density.name}: the potential is that of a slab, periodic along "
            f"{' and '.join('abc'[i] for i in axis.others)} (--pbc says so); for a molecule ask for --dipole"
        )
    values, removed = neutral_response(density, keep_charge, "the potential")
    slab = slab_of(density, axis, values)
    height, area = slab.profile.height, slab.profile.area
    charge = slab.integral()
    field_free = charge.antiderivative()(height) - 0.5 * charge(height[-1]) * (height - height[0])
    phi = E_OVER_EPSILON0 * field_free
    low, high = slab.atoms.min() + margin, slab.atoms.max() - margin
    inside = (height >= low - 1e-6) & (height <= high + 1e-6)  # a plane on the border is in, whatever rounding says
    if inside.sum() < 3:
        planes = counted(int(inside.sum()), "plane")
        raise InputError(
            f"{density.name}: {planes} of grid points between the outermost atoms less {margin:g} Angstrom; "
            "three or more expected for a slope (--margin)"
        )
    slope = float(np.polyfit(height[inside] - height[inside].mean(), phi[inside], 1)[0])
    step = float(phi[-1] - phi[0])
    dipole = step * area / E_OVER_EPSILON0
    return Potential(height, phi, slope, (float(low), float(high)), int(inside.sum()), step, dipole, removed)


def observe(density, options) -> Observation:
    """The potential, its slope and step."""
    margin = MARGIN if options.get("margin") is None else options["margin"]
    found = response_potential(
        density, options.get("planar"), margin=margin, keep_charge=bool(options.get("keep_charge"))
    )
    return Observation(
        {
            "slope inside": (found.slope, "V/A"),
            "slope fitted from": (found.inside[0], "A"),
            "slope fitted to": (found.inside[1], "A"),
            "potential step": (found.step, "V"),
            "slab dipole": (found.dipole, "e*A"),
            "charge removed": (found.removed, "e"),
        },
        {"potential": Curve(found.height, found.values, "V")},
    )
