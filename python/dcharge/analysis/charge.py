"""Total charge: the integral of a density over its grid, in electrons. A response should have none."""

from __future__ import annotations

import numpy as np

from ..errors import log
from .observation import Observation

FLAG = None
OPTIONS = {}
KEEP_CHARGE = {
    "--keep-charge": {
        "action": "store_true",
        "help": "do not remove the response's total charge before the transferred charge and the potential",
    },
}
MUCH = 0.05  # of integral |dn|: a total charge above it is worth a warning


def total_charge(density) -> float:
    """Integral of the total density over the grid, e (electrons counted positive)."""
    return density.electrons()


def neutral_response(density, keep_charge: bool = False, what: str = "what follows") -> tuple[np.ndarray, float]:
    """(values [n1, n2, n3] of a response without its total charge N, N in e): dn - N |dn| / integral |dn|.

    A field moves electrons and makes none. With keep_charge: (the values as they are, 0).
    """
    values = density.total
    if keep_charge or not values.any():
        return values, 0.0
    absolute = np.abs(values, dtype=np.float64)
    removed = total_charge(density)
    share = removed / (absolute.sum() * density.grid.dv)
    if abs(share) > MUCH:
        log.warning(
            f"{density.name}: {removed:.3g} e are removed from the response, {100 * abs(share):.1f} % of its "
            f"integral |dn|; {what} depends on how (--keep-charge leaves them)"
        )
    return values - absolute * share, removed


def observe(density, options) -> Observation:
    """The total charge."""
    return Observation({"total charge": (total_charge(density), "e")})
