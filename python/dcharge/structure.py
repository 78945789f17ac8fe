"""Structure: atoms in a cell. numpy, float64, Angstrom; cell vectors are rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from .errors import InputError, nearest, warn_once

CLOSEST = 0.1  # Angstrom; no two nuclei come as near, but an atom that is listed twice does
LARGEST = 1e12  # Angstrom; beyond it the cells by which an atom is wrapped cannot be counted


def complete_cell(cell, pbc):
    """Cell rows with every non-periodic row replaced by a unit vector orthogonal to the periodic ones.

    A non-periodic cell vector has no geometric meaning for neighbours; with this choice the cell is
    always invertible, and fractional coordinates along a non-periodic axis are lengths in Angstrom.

    Parameters: cell [3, 3] Angstrom, pbc [3] bool. Returns [3, 3].
    Raises InputError where the periodic vectors are not finite or linearly dependent.
    """
    cell = np.array(cell, dtype=np.float64).reshape(3, 3)
    pbc = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    periodic = cell[pbc]
    if not np.all(np.isfinite(periodic)):
        raise InputError("cell: a periodic cell vector is not finite")
    if pbc.all():
        volume = abs(np.linalg.det(cell))
        if volume < 1e-9 * np.prod(np.linalg.norm(cell, axis=1)) or volume == 0:
            raise InputError("cell: the periodic cell vectors are linearly dependent (zero volume)")
        return cell
    # rows of the right null space of the periodic vectors: orthonormal, hence the free directions
    if len(periodic):
        _, s, vt = np.linalg.svd(periodic)
        if s.min() < 1e-9 * s.max() or s.max() == 0:
            raise InputError("cell: the periodic cell vectors are linearly dependent (zero volume)")
        free = vt[len(periodic) :]
    else:
        free = np.eye(3)
    out = cell.copy()
    out[~pbc] = free
    return out


@dataclass(frozen=True)
class Structure:
    """Atoms, cell and, optionally, a uniform electric field.

    numbers   [n_atoms] int64, atomic numbers (0 is the grid pseudo-atom X)
    positions [n_atoms, 3] float64, Angstrom
    cell      [3, 3] float64, rows, Angstrom
    pbc       [3] bool
    field     [3] float64 in V/Angstrom (the physical field: it pushes electrons towards -field), or None
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    field: np.ndarray | None = field(default=None)

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("numbers", np.ascontiguousarray(self.numbers, dtype=np.int64).reshape(-1))
        put("positions", np.ascontiguousarray(self.positions, dtype=np.float64).reshape(-1, 3))
        put("cell", np.ascontiguousarray(self.cell, dtype=np.float64).reshape(3, 3))
        put("pbc", np.array(np.broadcast_to(np.asarray(self.pbc, dtype=bool), (3,))))
        if self.field is not None:
            try:
                put("field", np.ascontiguousarray(self.field, dtype=np.float64).reshape(3))
            except (TypeError, ValueError):
                raise InputError(f"field {self.field}: three numbers in V/Angstrom expected") from None
            if not np.all(np.isfinite(self.field)):
                raise InputError("field: not a finite number")
        if len(self.numbers) != len(self.positions):
            raise InputError(f"{len(self.numbers)} atomic numbers for {len(self.positions)} positions")
        bad = np.flatnonzero(~(np.abs(self.positions) < LARGEST).all(axis=1))
        if len(bad):
            raise InputError(f"atom {bad[0] + 1}: position is not a finite number below {LARGEST:g} Angstrom")
        complete_cell(self.cell, self.pbc)  # raises on a degenerate cell

    def __repr__(self) -> str:
        pbc = "".join("FT"[int(p)] for p in self.pbc)
        field = "" if self.field is None else f", field={self.field.tolist()}"
        return f"Structure({self.formula}, pbc={pbc}{field})"

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbol of every atom."""
        return [chemical_symbols[z] for z in self.numbers]

    @property
    def volume(self) -> float:
        """Cell volume in Angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def formula(self) -> str:
        """Chemical formula, for messages."""
        return Atoms(numbers=self.numbers).get_chemical_formula()

    @classmethod
    def from_ase(cls, atoms: Atoms) -> Structure:
        """From ase.Atoms; `atoms.info['field']` (V/Angstrom) is taken as the electric field."""
        return cls(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.info.get("field"))

    def to_ase(self) -> Atoms:
        """As ase.Atoms, the field in `info['field']`."""
        info = {} if self.field is None else {"field": self.field.copy()}
        return Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc, info=info)

    def with_(self, **changes) -> Structure:
        """A copy with some members replaced, e.g. `structure.with_(pbc=[1, 1, 0])`."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})

    def field_along_periodic(self, vacuum: float = 5.0) -> str | None:
        """The periodic axis (a, b or c) along which a uniform field is ill-defined: its potential has no period.

        A gap between the atoms of at least `vacuum` Angstrom, where codes let the potential jump, makes it defined.
        """
        if self.field is None or not self.field.any() or not len(self):
            return None
        cell = complete_cell(self.cell, self.pbc)
        inverse = np.linalg.inv(cell)
        drop = np.abs(cell @ self.field) / np.linalg.norm(cell, axis=1)
        for axis in np.flatnonzero(self.pbc & (drop > 1e-6 * np.linalg.norm(self.field))):
            fractional = np.sort((self.positions @ inverse[:, axis]) % 1.0)
            gap = np.diff(np.append(fractional, fractional[0] + 1.0)).max() / np.linalg.norm(inverse[:, axis])
            if gap < vacuum:
                return "abc"[axis]
        return None

    def check_apart(self) -> None:
        """InputError naming two atoms that coincide, or come nearer than CLOSEST; periodic images count.

        The time grows with the number of atoms, not with its square.
        """
        import torch

        from .ops import neighbors

        cell = complete_cell(self.cell, self.pbc)
        per_height = np.linalg.norm(np.linalg.inv(cell), axis=0)[self.pbc]
        if len(self) and np.prod(1 + 2 * CLOSEST * per_height) > 1000:
            raise InputError(f"cell: too small, {self.volume:.3g} Angstrom^3: every atom coincides with its images")
        index, shift = neighbors(*(torch.tensor(x) for x in (self.positions, cell, self.pbc)), CLOSEST)
        if not index.shape[1]:
            return
        (i, j), shift = index.numpy(), shift.numpy()
        distance = np.linalg.norm(self.positions[j] + shift @ cell - self.positions[i], axis=1)
        k = int(np.where(i <= j, distance, np.inf).argmin())
        a, b = (f"atom {n + 1} ({chemical_symbols[self.numbers[n]]})" for n in (i[k], j[k]))
        image = "a periodic image of " if shift[k].any() else ""
        raise InputError(
            f"{a} and {image}{b} are {distance[k]:.3f} Angstrom apart; at least {CLOSEST:g} expected "
            "(is an atom listed twice?)"
        )

    def types(self, type_map) -> np.ndarray:
        """Index of every atom's species in `type_map` (list of symbols) -> [n_atoms] int64.

        Raises InputError naming the species that is not in the map.
        """
        lookup = {}
        for i, name in enumerate(type_map):
            if name not in atomic_numbers:
                raise InputError(f"type_map: '{name}' is not a chemical symbol{nearest(name, chemical_symbols[1:])}")
            lookup[atomic_numbers[name]] = i
        missing = sorted({chemical_symbols[z] for z in self.numbers if z not in lookup})
        if missing:
            raise InputError(f"species {', '.join(missing)} not in type_map {list(type_map)}")
        return np.array([lookup[z] for z in self.numbers], dtype=np.int64)


def warn_of_field(structure: Structure, name: str) -> None:
    """Warn once where the electric field of a structure is ill-defined."""
    if axis := structure.field_along_periodic():
        warn_once(
            "field-periodic",
            f"{name}: the electric field has a component along {axis}, which is periodic and has no vacuum: a uniform "
            "field is ill-defined there (for a slab or molecule give --pbc, or pbc of the system)",
        )
