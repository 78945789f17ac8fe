"""Responses from pairs of densities: rho(field) - rho(0) on the same atoms and the same points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..density import Density, PointDensity
from ..errors import InputError
from .systems import Frame

TOLERANCE = 1e-4  # Angstrom; cubes hold six decimals in Bohr


def disagreement(frame: Frame, reference: Frame) -> str | None:
    """How two frames differ in atoms or points, in words, or None. Values are not read."""
    a, b = frame.structure, reference.structure
    if not np.array_equal(a.numbers, b.numbers):
        return f"other atoms ({a.formula} and {b.formula}, or in another order)"
    if not np.array_equal(a.pbc, b.pbc):
        return "other periodic axes"
    moved = np.abs(a.positions - b.positions).max(axis=1, initial=0.0)
    if moved.max(initial=0.0) > TOLERANCE:
        atom = int(moved.argmax())
        return f"atom {atom + 1} is {moved[atom]:.2g} Angstrom away"
    if np.abs(a.cell - b.cell)[a.pbc].max(initial=0.0) > TOLERANCE:
        return "another cell"
    if (frame.grid is None) != (reference.grid is None):
        return "a grid and free points"
    if frame.grid is None:
        p, q = frame.points(), reference.points()
        return None if p.shape == q.shape and np.abs(p - q).max(initial=0.0) <= TOLERANCE else "other points"
    if frame.grid.shape != reference.grid.shape:
        shapes = ("x".join(map(str, x.grid.shape)) for x in (frame, reference))
        return f"another grid ({' and '.join(shapes)})"
    steps = np.abs(frame.grid.cell - reference.grid.cell).max()
    if max(steps, np.abs(frame.grid.origin - reference.grid.origin).max()) > TOLERANCE:
        return "a grid of other size or origin"
    return None


@dataclass
class Pairs:
    """Finds the frame without field that belongs to a frame in a field, and subtracts it.

    references  frames without field; each may serve several frames
    """

    references: list[Frame]

    def partner(self, frame: Frame) -> Frame:
        """The one reference with the same atoms and points; InputError where there is none, or more."""
        reasons = [disagreement(frame, reference) for reference in self.references]
        found = [r for r, reason in zip(self.references, reasons, strict=True) if reason is None]
        if len(found) > 1:
            raise InputError(f"{frame.name}: both {found[0].name} and {found[1].name} have its atoms and its grid")
        if found:
            return found[0]
        name = self.references[0].name
        if len(reasons) == 1:
            raise InputError(f"{frame.name} and {name} cannot be subtracted: {reasons[0]}")
        raise InputError(
            f"{frame.name}: none of {len(reasons)} reference frames has its atoms and its grid ({name}: {reasons[0]})"
        )

    def read(self, frame: Frame, dtype=np.float64) -> Density | PointDensity:
        """The response of a frame, in e/Angstrom^3: its values minus those of its reference."""
        reference = self.partner(frame)
        if frame.structure.field is None:
            raise InputError(f"{frame.name}: no electric field is known; a response needs it (--field X Y Z)")
        if reference.structure.field is not None and reference.structure.field.any():
            raise InputError(f"{reference.name}: has an electric field; a reference without field expected")
        density, free = frame.read(np.float64), reference.read(np.float64)
        if frame.kind != "density" or reference.kind != "density":
            name = frame.name if frame.kind != "density" else reference.name
            raise InputError(f"{name}: holds a response already; two densities expected")
        if density.values.shape != free.values.shape:
            raise InputError(f"{frame.name} and {reference.name} cannot be subtracted: other channels (total, spin)")
        difference = density.values - free.values
        if frame.structure.field.any() and not difference.any():
            raise InputError(
                f"{frame.name}: in a field of {np.linalg.norm(frame.structure.field):g} V/Angstrom, but every value is "
                f"that of {reference.name} without field; is it the density without field itself?"
            )
        density.values = difference.astype(dtype)
        density.kind = "response"
        density.source["minus"] = reference.name
        if isinstance(density, Density):
            density.extra = {}  # augmentation occupancies and the like belong to a density
        return density
