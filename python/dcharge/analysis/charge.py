"""Total charge: the integral of a density over its grid, in electrons. A response should have none."""

from __future__ import annotations

from .observation import Observation

FLAG = None
OPTIONS = {}


def total_charge(density) -> float:
    """Integral of the total density over the grid, e (electrons counted positive)."""
    return density.electrons()


def observe(density, options) -> Observation:
    """The total charge."""
    return Observation({"total charge": (total_charge(density), "e")})
