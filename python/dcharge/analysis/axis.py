"""The direction of a profile: a cell vector whose two fellows span the planes, and heights along their normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

AXES = ("x", "y", "z", "1", "2", "3")
PARALLEL = 1e-6  # largest sine of the angle between directions that are called parallel


@dataclass(frozen=True)
class Axis:
    """Planes of grid points across cell vector `index`, ordered by height = r . normal.

    index    0, 1 or 2
    normal   [3] unit vector across the planes
    upward   whether the heights of the planes grow with the grid's index
    """

    index: int
    normal: np.ndarray
    upward: bool = True

    @property
    def others(self) -> tuple[int, int]:
        """The cell vectors that span the planes."""
        return tuple(i for i in range(3) if i != self.index)


def _normals(cell) -> np.ndarray:
    """Unit normals [3, 3] of the planes across each cell vector, towards that vector."""
    dual = np.linalg.inv(cell).T
    return dual / np.linalg.norm(dual, axis=1, keepdims=True)


def axis_of(density, name: str | Axis | None = None) -> Axis:
    """The axis of a density's grid.

    name  "1", "2", "3": a cell vector; the normal points its way.
          "x", "y", "z": the cell vector whose planes lie across that direction; the normal is +x, +y or +z.
          None: the direction of the electric field; the normal points the cell vector's way.
          An Axis is returned as it is.
    Raises InputError where no planes of grid points lie across the direction.
    """
    if isinstance(name, Axis):
        return name
    normals = _normals(density.grid.cell)
    if name is not None and name not in AXES:
        raise InputError(f"axis '{name}': one of {', '.join(AXES)} expected")
    if name in ("1", "2", "3"):
        index = int(name) - 1
        return Axis(index, normals[index])
    field = density.structure.field
    if name is None and (field is None or not field.any()):
        raise InputError(f"{density.name}: no electric field tells the direction; give it with --planar x|y|z|1|2|3")
    wanted = np.eye(3)["xyz".index(name)] if name else field / np.linalg.norm(field)
    sine = np.linalg.norm(np.cross(normals, wanted), axis=1)
    index = int(sine.argmin())
    if sine[index] > PARALLEL:
        what = f"direction {name}" if name else "the electric field"
        raise InputError(
            f"{density.name}: no planes of grid points lie across {what}; choose a cell vector with --planar 1|2|3"
        )
    upward = bool(normals[index] @ wanted > 0) or name is None
    return Axis(index, normals[index] if upward else -normals[index], upward)
