"""What FIREANN's encoder hands to its decoder, and how atoms and frames are laid out for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch
from ..ops import EadNetwork
from .base import Encoded


@dataclass
class State:
    """What the atoms hold for one electric field.

    coefficients # [n_atoms, n_waves]; carried # [n_atoms, n_comp, n_waves] or None: what an atom's surroundings add to
    its orbitals (variant equi); constant # [n_frames or 1, n_comp, n_waves]: part of every point's normalised sums
    """

    coefficients: Tensor
    carried: Tensor | None
    constant: Tensor


@dataclass
class FireannCode(Encoded):
    """States of the atoms (for a response: with and without the field), and what every point needs of the parameters.

    center, exponent # [n_types, n_states n_waves], as often as there are states; weight # [n_products, width] and
    bias # [width] of the net's first layer; fused: from atoms to the net's output in one op, None with gradients
    """

    states: list[State]
    center: Tensor
    exponent: Tensor
    weight: Tensor
    bias: Tensor
    fused: EadNetwork | None = None


def twice(batch: Batch, field: Tensor) -> Batch:
    """The structures of a batch, and once more in another field [n_frames, 3]."""
    frame = torch.cat([batch.atom_frame, batch.atom_frame + batch.n_frames])
    atoms, species, cell, pbc = (torch.cat([t, t]) for t in (batch.atoms, batch.atom_type, batch.cell, batch.pbc))
    return Batch(atoms, species, frame, cell, pbc, torch.cat([batch.field, field]))


def by_species(species: Tensor, n_types: int) -> tuple[Tensor, Tensor]:
    """Atoms in rows of equal length, one for every species, as far as these need one.

    Returns place [n_atoms], where an atom stands in the flat rows, and source [n_types * length], which atom stands
    there; behind the last of a species any one.
    """
    order = torch.argsort(species, stable=True)
    counts = torch.bincount(species, minlength=n_types)
    length = int(counts.max())
    there = torch.arange(len(species), device=species.device)
    ordered = species[order]
    there = there - (counts.cumsum(0) - counts)[ordered] + ordered * length
    place = torch.empty_like(species).index_copy_(0, order, there)
    source = species.new_zeros(n_types * length).index_copy_(0, there, order)
    return place, source


def spread(values: Tensor, frame: Tensor) -> Tensor:
    """Values [n_frames or 1, ...] at points: [n_points or 1, ...]."""
    # index_select, for the adjoint of values[frame] sums one point after the other
    return values.index_select(0, frame) if len(values) > 1 else values
