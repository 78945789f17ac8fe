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


def test_select():
    structures = [structure(k).with_(field=[0, 0, k]) for k in range(4)]
    batch = Batch.collate(structures, ["O", "Si"])
    part, expected = batch.select(torch.tensor([1, 3])), Batch.collate(structures[1::2], ["O", "Si"])
    for a, b in zip((*part.geometry, part.field), (*expected.geometry, expected.field), strict=True):
        assert torch.equal(a, b)


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


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_atoms_near_points_are_enough(pbc):
    """A large structure: the moments do not change, however few atoms are looked at, also across the cell's faces."""
    from dcharge.ops import radial_moments

    rng = np.random.default_rng(3)
    cell = np.array([[40.0, 0, 0], [9.0, 36.0, 0], [-7.0, 5.0, 44.0]])
    s = Structure(np.full(3000, 14), rng.uniform(-0.5, 1.5, (3000, 3)) @ cell, cell, pbc)
    batch = Batch.collate([s], ["Si"])
    options = dict(rcut=6.0, rcut_smth=0.5, soft=0.5, n_radial=6, l_max=1, n_types=1, out_dtype=torch.float64)
    for centre in ([0.5, 0.5, 0.5], [0.01, 0.98, 0.5], [1.6, -0.7, 3.2], [40.0, 0.5, 0.5]):
        points = torch.from_numpy(np.array(centre) @ cell + rng.uniform(-2, 2, (50, 3)))
        frame = torch.zeros(50, dtype=torch.int64)
        near = batch.near(points, 6.0)
        assert len(near.atoms) < 0.5 * len(batch.atoms)
        expected = radial_moments(points, frame, *batch.geometry, **options)
        torch.testing.assert_close(radial_moments(points, frame, *near.geometry, **options), expected)
    assert (expected != 0).any() == pbc[0]  # the last centre is far outside along the first axis
    everywhere = torch.from_numpy(rng.uniform(-0.5, 1.5, (500, 3)) @ cell)
    assert batch.near(everywhere, 6.0) is batch and batch.near(points[:0], 6.0) is batch
    assert batch.near(points * torch.nan, 6.0) is batch  # the op says which point it is
    few = Batch.collate([structure(0)], ["O", "Si"])
    assert few.near(points, 6.0) is few
