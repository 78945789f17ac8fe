"""Planar average of a density along a direction, and its macroscopic average."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .axis import AXES, Axis, axis_of
from .observation import Curve, Observation

FLAG = "planar"
OPTIONS = {
    "--planar": {
        "choices": AXES,
        "metavar": "AXIS",
        "help": "planar average along x, y, z or across the planes of cell vector 1, 2, 3; also the direction of "
        "--potential and --transferred-charge (else: that of the electric field)",
    },
    "--macroscopic": {
        "type": float,
        "metavar": "LENGTH",
        "help": "also the planar average's mean over LENGTH Angstrom, as a rule the distance of atomic planes",
    },
}


@dataclass(frozen=True)
class Profile:
    """A density averaged over planes.

    height  [n] Angstrom, ascending and evenly spaced: r . normal
    values  [n] e/Angstrom^3
    step    distance of neighbouring planes, Angstrom
    area    of one plane, Angstrom^2: area * step * sum(values) = the integral over the grid
    axis    Axis
    period  Angstrom, or None where the direction is not periodic
    """

    height: np.ndarray
    values: np.ndarray
    step: float
    area: float
    axis: Axis
    period: float | None = None


def planar_average(density, axis: str | Axis | None, values=None) -> Profile:
    """Mean over the planes spanned by the other two cell vectors, against the height along their normal.

    n(h) = 1/A integral_A rho dA. Right for any skew of the cell: grid planes are planes of equal height.
    values  [n1, n2, n3] in place of the total density
    """
    axis = axis_of(density, axis)
    grid, k = density.grid, axis.index
    mean = (density.total if values is None else values).mean(axis=axis.others, dtype=np.float64)
    height = (grid.origin + np.arange(grid.shape[k])[:, None] * grid.steps[k]) @ axis.normal
    if not axis.upward:
        mean, height = mean[::-1], height[::-1]
    extent = float(abs(grid.cell[k] @ axis.normal))
    period = extent if density.structure.pbc[k] else None
    return Profile(height, mean, extent / grid.shape[k], grid.volume / extent, axis, period)


def macroscopic_average(profile: Profile, length: float) -> Profile:
    """Mean of a profile over a window of `length` Angstrom around every height (Baldereschi, Baroni, Resta 1988).

    The values are taken as constant within each step, so the integral is kept. Beyond the ends of a profile that is
    not periodic there is nothing.
    """
    if not 0 < length < np.inf:
        raise InputError(f"--macroscopic {length}: a positive length in Angstrom expected")
    n, step = len(profile.height), profile.step
    edges = profile.height[0] + (np.arange(n + 1) - 0.5) * step
    integral = np.concatenate([[0.0], np.cumsum(profile.values) * step])

    def upto(height):
        turns = 0.0
        if profile.period is not None:
            turns = np.floor((height - edges[0]) / profile.period)
            height = height - turns * profile.period
        return np.interp(height, edges, integral) + turns * integral[-1]

    mean = (upto(profile.height + length / 2) - upto(profile.height - length / 2)) / length
    return replace(profile, values=mean)


def observe(density, options) -> Observation:
    """The planar average, and the macroscopic one where a length is given."""
    profile = planar_average(density, options["planar"])
    found = Observation(
        {"largest planar average": (float(np.abs(profile.values).max()), "e/A^3")},
        {"planar average": Curve(profile.height, profile.values, "e/A^3")},
    )
    if options.get("macroscopic") is not None:
        mean = macroscopic_average(profile, options["macroscopic"])
        found.curves["macroscopic average"] = Curve(mean.height, mean.values, "e/A^3")
    return found
