import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from cases import FRAMES, case, image_shifts

from dcharge.ops import neighbors

CUTOFF = 4.3
SYSTEMS = [name for name in FRAMES if name != "two_frames"]


def table(index, shift):
    return torch.cat([index, shift.T.long()]).T.numpy()


@pytest.mark.parametrize("system", SYSTEMS)
def test_ase(backend, system):
    c = case(system)
    atoms = Atoms(
        numbers=np.ones(len(c.atoms)), positions=c.atoms.numpy(), cell=c.cell[0].numpy(), pbc=c.pbc[0].numpy()
    )
    index, shift = neighbors(c.atoms, c.cell[0], c.pbc[0], CUTOFF)
    assert index.dtype == torch.int64 and shift.dtype == torch.int32
    i, j, s = neighbor_list("ijS", atoms, CUTOFF)
    exact = np.column_stack([i, j, s]).astype(np.int64).reshape(-1, 5)
    exact = exact[np.lexsort(exact.T[::-1])]  # sorted by (i, j, shift)
    assert np.array_equal(table(index, shift), exact)


@pytest.mark.parametrize("system", ["bulk", "skewed", "small_cell", "molecule"])
def test_vesin(backend, system):
    vesin = pytest.importorskip("vesin")
    c = case(system)
    atoms = c.atoms.numpy() + 17.0 * np.arange(len(c.atoms))[:, None] * c.pbc[0].numpy()  # far outside the cell
    calculator = vesin.NeighborList(cutoff=CUTOFF, full_list=True)
    box = c.cell[0].numpy() if c.pbc.all() else np.eye(3)
    i, j, s = calculator.compute(points=atoms, box=box, periodic=bool(c.pbc.all()), quantities="ijS")
    exact = np.column_stack([i, j, s]).astype(np.int64)
    exact = exact[np.lexsort(exact.T[::-1])]
    index, shift = neighbors(torch.tensor(atoms), c.cell[0], c.pbc[0], CUTOFF)
    assert np.array_equal(table(index, shift), exact)


@pytest.mark.parametrize("system", SYSTEMS)
def test_targets(backend, system):
    c = case(system)
    index, shift = neighbors(c.atoms, c.cell[0], c.pbc[0], CUTOFF, targets=c.points)
    found = set(map(tuple, table(index, shift).tolist()))
    vectors = c.atoms.numpy() - c.points.numpy()[:, None]  # [i, j, 3]
    reach = np.linalg.norm(vectors, axis=-1).max(initial=0) + CUTOFF
    grid, cartesian = image_shifts(c.cell[0].numpy(), c.pbc[0].numpy(), reach)
    near = np.argwhere(np.linalg.norm(vectors[:, :, None] + cartesian, axis=-1) < CUTOFF)
    exact = {(i, j, *grid[n].tolist()) for i, j, n in near.tolist()}
    assert found == exact and len(found) == index.shape[1]


def test_zero_atoms_and_targets(backend):
    cell, pbc = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.bool)
    none = torch.zeros(0, 3, dtype=torch.float64)
    for positions, targets in ((none, None), (none, torch.zeros(2, 3, dtype=torch.float64)), (cell, none)):
        index, shift = neighbors(positions, cell, pbc, 2.0, targets)
        assert index.shape == (2, 0) and shift.shape == (0, 3)


@pytest.mark.parametrize("change, error, text", [
    (dict(positions=torch.zeros(3, 3)), TypeError, "positions: torch.float64 expected"),
    (dict(cell=torch.zeros(1, 3, 3, dtype=torch.float64)), ValueError, r"cell: shape \[3, 3\] expected"),
    (dict(pbc=torch.ones(3)), TypeError, "pbc: torch.bool expected"),
    (dict(cutoff=0.0), ValueError, "cutoff: a positive length"),
    (dict(targets=torch.zeros(2, dtype=torch.float64)), ValueError, r"targets: shape \[n, 3\] expected"),
    (dict(positions=torch.full((1, 3), float("inf"), dtype=torch.float64)), ValueError, "positions: row 0 is not"),
])  # fmt: skip
def test_messages(backend, change, error, text):
    given = dict(positions=torch.zeros(1, 3, dtype=torch.float64), cell=torch.eye(3, dtype=torch.float64),
                 pbc=torch.ones(3, dtype=torch.bool), cutoff=2.0)  # fmt: skip
    with pytest.raises(error, match=text):
        neighbors(**{**given, **change})
