"""Batch: structures and points as flat torch tensors on one device. The only border between numpy and torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .boxes import Boxes
from .structure import complete_cell

MANY = 2048  # atoms from which it pays to look only at those near a tile of points
EDGE = 6.0  # Angstrom, of the boxes they are sorted into


@dataclass
class Batch:
    """Atoms of one or more structures, flat; no padding, no assumption that there is one frame.

    atoms      # [n_atoms, 3] float64, Angstrom
    atom_type  # [n_atoms] int64, index into the model's type_map
    atom_frame # [n_atoms] int64
    cell       # [n_frames, 3, 3] float64, rows, Angstrom (non-periodic rows completed)
    pbc        # [n_frames, 3] bool
    field      # [n_frames, 3] float64, V/Angstrom (zero where a structure has none)
    """

    atoms: Tensor
    atom_type: Tensor
    atom_frame: Tensor
    cell: Tensor
    pbc: Tensor
    field: Tensor

    @classmethod
    def collate(cls, structures, type_map, device="cpu") -> Batch:
        """Flat batch of `structures`; raises InputError for a species that is not in `type_map`."""
        counts = [len(s) for s in structures]
        zero = np.zeros(3)

        def tensor(rows, shape, dtype):
            array = np.concatenate(rows) if rows else np.zeros(0)
            return torch.as_tensor(array.reshape(shape), dtype=dtype).to(device)

        return cls(
            tensor([s.positions for s in structures], (-1, 3), torch.float64),
            tensor([s.types(type_map) for s in structures], (-1,), torch.int64),
            torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64)).to(device),
            tensor([complete_cell(s.cell, s.pbc) for s in structures], (-1, 3, 3), torch.float64),
            tensor([s.pbc for s in structures], (-1, 3), torch.bool),
            tensor([zero if s.field is None else s.field for s in structures], (-1, 3), torch.float64),
        )

    @property
    def n_frames(self) -> int:
        """Number of structures."""
        return len(self.cell)

    @property
    def geometry(self) -> tuple[Tensor, ...]:
        """The atom arguments every op takes: atoms, atom_type, atom_frame, cell, pbc."""
        return self.atoms, self.atom_type, self.atom_frame, self.cell, self.pbc

    @cached_property
    def _boxes(self) -> Boxes | None:
        if self.n_frames != 1 or len(self.atoms) < MANY or self.atoms.device.type != "cpu":
            return None
        if not torch.isfinite(self.atoms).all():
            return None  # the ops tell which atom it is
        return Boxes(self.atoms, self.cell[0], self.pbc[0], EDGE)

    def near(self, points: Tensor, reach: float) -> Batch:
        """This batch, or one with only those atoms that can lie within `reach` (Angstrom) of a point [n, 3].

        An op looks at every atom it is given: without this the time of a tile would grow with the structure.
        """
        return self.atoms_only(self.near_index(points, reach))

    def near_index(self, points: Tensor, reach: float) -> Tensor | None:
        """Which atoms `near` keeps, [n] int64; None for all of them."""
        return None if self._boxes is None else self._boxes.near(points, reach)

    def atoms_only(self, index: Tensor | None) -> Batch:
        """The batch with the atoms `index` [n] alone; None: with all."""
        if index is None:
            return self
        atoms = {name: getattr(self, name)[index] for name in ("atoms", "atom_type", "atom_frame")}
        return replace(self, **atoms)

    def select(self, frames: Tensor) -> Batch:
        """The structures with the numbers `frames` [n_frames] (int64, increasing), atoms and cells alone."""
        number = torch.full((self.n_frames,), -1, dtype=torch.int64, device=frames.device)
        number[frames] = torch.arange(len(frames), device=frames.device)
        atom_frame = number[self.atom_frame]
        keep = atom_frame >= 0
        return Batch(
            self.atoms[keep], self.atom_type[keep], atom_frame[keep], self.cell[frames], self.pbc[frames],
            self.field[frames],
        )  # fmt: skip

    def to(self, device) -> Batch:
        """The same batch on another device."""
        return Batch(*(t.to(device) for t in (*self.geometry, self.field)))
