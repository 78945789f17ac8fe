"""What an observable found in one density, figures and curves along a height; and what it may ask of a density."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .planes import Plane


@dataclass
class Curve:
    """Values along a direction: height [n] Angstrom, values [n] in `unit`."""

    height: np.ndarray
    values: np.ndarray
    unit: str


@dataclass
class Field:
    """A field on the density's grid: what it is in words, values [n1, n2, n3], and the grid plane that shows it.

    The values are dropped (None) once they are written; `shown` [n, m] are those of the plane.
    limits: values at the ends of the colour scale (equal ones with opposite signs: white is zero); None: all there are
    """

    words: str
    values: np.ndarray | None
    plane: Plane
    shown: np.ndarray = None
    limits: tuple[float, float] | None = None

    def __post_init__(self):
        if self.shown is None:
            self.shown = self.plane.of(self.values)


@dataclass
class Observation:
    """Figures {name: (value, unit)}, curves {name: Curve} and fields {name: Field}.

    Names are what tables, CSV, JSON and files call them.
    """

    figures: dict[str, tuple[float, str]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    fields: dict[str, Field] = field(default_factory=dict)

    def __iadd__(self, other: Observation) -> Observation:
        self.figures.update(other.figures)
        self.curves.update(other.curves)
        self.fields.update(other.fields)
        return self


def need_response(density, what: str) -> None:
    """InputError unless the density is a response; `what` was asked of it."""
    if density.kind != "response":
        raise InputError(
            f"{density.name}: {what} is a property of a response, this is a density "
            "(--minus REF subtracts the density without field, --kind response tells that this was done)"
        )


def need_field(density, what: str) -> np.ndarray:
    """The electric field [3] V/Angstrom; InputError where none is known or it is zero."""
    field = density.structure.field
    if field is None or not field.any():
        how = "no electric field is known" if field is None else "the electric field is zero"
        raise InputError(f"{density.name}: {how}; {what} needs its direction (--field X Y Z)")
    return field
