"""Batch: structures as flat tensors."""

import numpy as np
import pytest
import torch
from tiny import SKEWED, structure

from dcharge.batch import Batch
from dcharge.errors import InputError
from dcharge.structure import Structure, complete_cell


def test_collate():
    a = structure(0)
    b = Structure([8], [[1, 2, 3]], SKEWED, (True, False, True), [0, 0, -1.0])
    empty = Structure([], np.zeros((0, 3)), np.zeros((3, 3)), False)
    batch = Batch.collate([a, empty, b], ["O", "Si"])
    assert batch.n_frames == 3
    assert batch.atom_frame.tolist() == [0, 0, 0, 0, 2] and batch.atom_type.tolist() == [1, 0, 0, 1, 0]
    assert np.array_equal(batch.atoms.numpy(), np.concatenate([a.positions, b.positions]))
    assert np.array_equal(batch.cell[2].numpy(), complete_cell(SKEWED, b.pbc))
    assert batch.pbc.tolist() == [[True] * 3, [False] * 3, [True, False, True]]
    assert batch.field.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, -1]]
    kinds = [t.dtype for t in (*batch.geometry, batch.field)]
    assert kinds == [torch.float64, torch.int64, torch.int64, torch.float64, torch.bool, torch.float64]


def test_no_structures():
    batch = Batch.collate([], ["O"])
    assert batch.n_frames == 0 and batch.atoms.shape == (0, 3) and batch.cell.shape == (0, 3, 3)


def test_unknown_species():
    with pytest.raises(InputError, match=r"species O not in type_map \['Si'\]"):
        Batch.collate([structure(0)], ["Si"])


def test_holds_copies():
    """Changing a batch leaves the structure alone."""
    s = structure(0)
    before = s.positions.copy()
    Batch.collate([s], ["Si", "O"]).atoms.add_(1.0)
    assert np.array_equal(s.positions, before)
