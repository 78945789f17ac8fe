"""What an observable found in one density, figures and curves along a height; and what it may ask of a density."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError


@dataclass
class Curve:
    """Values along a direction: height [n] Angstrom, values [n] in `unit`."""

    height: np.ndarray
    values: np.ndarray
    unit: str


@dataclass
class Observation:
    """Figures {name: (value, unit)} and curves {name: Curve}. Names are what tables, CSV and JSON call them."""

    figures: dict[str, tuple[float, str]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    def __iadd__(self, other: Observation) -> Observation:
        self.figures.update(other.figures)
        self.curves.update(other.curves)
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
