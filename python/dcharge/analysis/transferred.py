"""Transferred charge: the electrons that a field moved across the middle of a slab."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .charge import KEEP_CHARGE, neutral_response
from .observation import Observation, need_response
from .slab import slab_of

FLAG = "transferred_charge"
OPTIONS = {
    "--transferred-charge": {
        "action": "store_true",
        "help": "electrons moved to above the middle of the slab: area times the integral of the planar average",
    },
    "--mid": {
        "type": float,
        "metavar": "HEIGHT",
        "help": "middle of the slab in Angstrom (default: mean height of its atoms)",
    },
    **KEEP_CHARGE,
}


@dataclass(frozen=True)
class TransferredCharge:
    """above, below: electrons gained on either side of the height `mid` (Angstrom), e; removed: e, see there."""

    above: float
    below: float
    mid: float
    removed: float


def transferred_charge(
    density, axis: str | None = None, mid: float | None = None, *, keep_charge: bool = False
) -> TransferredCharge:
    """Q = A integral_mid^vacuum n(h) dh of a response, e; electrons gained above `mid` count positive.

    n(h) is the planar average, A the area of the cell's face; mid: height in Angstrom, by default the atoms' mean.
    The response's total charge, which is none that moved, is removed first, in proportion to |dn| at every point, and
    told as `removed`; keep_charge leaves it where it is. axis as in `axis_of`. The field moves electrons towards -E, so
    that Q and the field along the normal differ in sign.
    """
    need_response(density, "transferred charge")
    values, removed = neutral_response(density, keep_charge, "the transferred charge")
    slab = slab_of(density, axis, values)
    height, area = slab.profile.height, slab.profile.area
    mid = float(slab.atoms.mean()) if mid is None else mid
    if not height[0] <= mid <= height[-1]:
        raise InputError(
            f"{density.name}: --mid {mid:g} lies outside the grid's heights {height[0]:.2f} to {height[-1]:.2f}"
        )
    upto = slab.integral()
    return TransferredCharge(area * float(upto(height[-1]) - upto(mid)), area * float(upto(mid)), mid, removed)


def observe(density, options) -> Observation:
    """The charge on both sides of the middle."""
    found = transferred_charge(
        density, options.get("planar"), options.get("mid"), keep_charge=bool(options.get("keep_charge"))
    )
    return Observation(
        {
            "transferred charge": (found.above, "e"),
            "charge below the middle": (found.below, "e"),
            "middle": (found.mid, "A"),
            "charge removed": (found.removed, "e"),
        }
    )
