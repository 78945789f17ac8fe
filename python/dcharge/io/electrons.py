"""Electron counts."""

from __future__ import annotations

from ..density import Density
from ..errors import log


def check_electrons(density: Density, expected: float | None, tolerance: float = 0.01) -> bool:
    """Warn where the integral of a density differs from a known electron count by more than `tolerance` (relative).

    Returns whether they agree; True where nothing is known.
    """
    if expected is None or density.kind != "density" or not isinstance(density, Density):
        return True
    found = density.electrons()
    if abs(found - expected) <= tolerance * abs(expected):
        return True
    log.warning(
        f"{density.name}: holds {found:.4f} electrons, {expected:g} expected "
        f"({100 * (found / expected - 1) if expected else float('inf'):+.2f} %)"
    )
    return False
