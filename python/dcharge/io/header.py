"""What the header of one frame tells before its numbers are read."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..grid import Grid
from ..structure import Structure


@dataclass
class Header:
    """One frame without its values.

    structure    Structure
    grid         Grid, or None for free points
    n_points     number of points
    n_channels   number of channels, or None where only the numbers tell (spin blocks of a CHGCAR)
    kind         "density" or "response"
    n_electrons  electron count where the file states it, else None
    comment      free text of the file
    more         what the format's reader needs to go on
    """

    structure: Structure
    grid: Grid | None
    n_points: int
    n_channels: int | None = None
    kind: str = "density"
    n_electrons: float | None = None
    comment: str = ""
    more: dict = field(default_factory=dict)
