"""Irreducible points: the orbits of known crystals, what lowers them, and equality with the full evaluation."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from tiny import gaussians, structure

import dcharge
from dcharge.cli import main
from dcharge.errors import InputError
from dcharge.grid import Grid
from dcharge.predict import Predictor
from dcharge.structure import Structure
from dcharge.symmetry import operations, orbits, unfold

pytest.importorskip("spglib")


@pytest.fixture(scope="module")
def model(frozen):
    return dcharge.load(frozen)


def silicon(cubic=True) -> Structure:
    return Structure.from_ase(bulk("Si", "diamond", a=5.43, cubic=cubic))


def count(s: Structure, shape, **options) -> tuple[int, int]:
    """Number of operations and of orbits; every orbit's points must see the same surroundings."""
    grid = Grid(shape, s.cell, **options)
    place, n_ops = orbits(s, grid)
    some = np.random.default_rng(0).choice(grid.n_points, min(300, grid.n_points), replace=False)
    rho = surroundings(s, grid, some)
    np.testing.assert_allclose(surroundings(s, grid, place[some]), rho, atol=1e-5 * rho.max())
    return n_ops, len(np.unique(place))


def surroundings(s: Structure, grid: Grid, index) -> np.ndarray:
    """A density that has the symmetry of the atoms: one Gaussian each, wider for heavier ones; any pbc."""
    known = {z: 14 if k % 2 else 8 for k, z in enumerate(np.unique(s.numbers))}
    return gaussians(s.with_(numbers=[known[z] for z in s.numbers]), grid.points(index), n=2)


def test_silicon():
    """192 operations of Fd-3m in the cubic cell (48 x 4 centrings), 48 in the primitive one."""
    n_ops, n_orbits = count(silicon(), (24, 24, 24))
    assert n_ops == 192 and n_orbits < 24**3 / 80
    n_ops, n_orbits = count(silicon(cubic=False), (16, 16, 16))
    assert n_ops == 48 and n_orbits < 16**3 / 20


def test_grids_that_do_not_fit():
    """The glides of diamond need n divisible by 4, the centrings n even; a longer axis leaves the tetragonal ones."""
    assert count(silicon(), (16, 16, 16))[0] == 192
    assert count(silicon(), (18, 18, 18))[0] == 96
    assert count(silicon(), (15, 15, 15))[0] == 24
    assert count(silicon(), (16, 16, 20))[0] == 64
    assert count(silicon(), (16, 20, 24))[0] == 32
    assert count(silicon(), (5, 7, 9))[0] >= 4


def test_order_of_the_group():
    """As many images of a general point as operations: the average orbit of a large grid comes close to it."""
    n_ops, n_orbits = count(silicon(cubic=False), (32, 32, 32))
    assert 32**3 / n_ops <= n_orbits < 1.5 * 32**3 / n_ops


def test_hexagonal():
    wurtzite = Structure.from_ase(bulk("ZnO", "wurtzite", a=3.25, c=5.2))
    n_ops, n_orbits = count(wurtzite, (18, 18, 24))
    assert n_ops == 12 and n_orbits < 18 * 18 * 24 / 7  # 6mm with a screw axis
    assert count(wurtzite, (18, 18, 25))[0] == 6
    assert count(wurtzite, (18, 20, 24))[0] < 12


def test_origin():
    """A grid that begins elsewhere is mapped onto itself too, where that is so."""
    s = silicon()
    assert count(s, (16, 16, 16), origin=s.cell[0] / 8)[0] == 192
    half = count(s, (16, 16, 16), origin=s.cell.sum(0) / 32)[0]
    assert half == 192
    assert count(s, (16, 16, 16), origin=[0.1, 0.0, 0.0])[0] < 192


def test_slab_and_molecule():
    """Nothing wraps along an axis that is not periodic; a mirror plane may map points off the grid."""
    sheet = graphene(vacuum=3.0)
    sheet.pbc = (True, True, False)
    s = Structure.from_ase(sheet)
    n_ops, n_orbits = count(s, (12, 12, 12))
    assert n_ops == 24 and n_orbits < 12**3 / 8
    s = s.with_(positions=s.positions + [0, 0, 5.9])  # sticks out of the cell: the mirror maps all points off the grid
    assert count(s, (12, 12, 12))[1] >= 12**3 / 24
    water = molecule("H2O", vacuum=3.0)
    water.set_cell([6, 6, 6])
    water.positions -= water.get_center_of_mass() - 3
    s = Structure.from_ase(water)
    n_ops, n_orbits = count(s, (12, 12, 12))
    assert n_ops == 4 and n_orbits < 0.4 * 12**3


def test_rattled():
    """One atom moved by a thousandth of an Angstrom: nothing is left."""
    s = structure(1)
    assert count(s, (8, 8, 8)) == (1, 512)
    s = silicon()
    moved = s.positions.copy()
    moved[0] += [1e-3, 2e-3, 3.1e-3]
    assert count(s.with_(positions=moved), (12, 12, 12)) == (1, 12**3)
    # rounding of a file's eighth digit is none
    s = s.with_(positions=np.round(s.positions, 7))
    assert count(s, (12, 12, 12))[0] == 192


def test_a_long_search_is_announced(monkeypatch, said):
    operations(silicon(), Grid((4, 4, 4), silicon().cell))
    assert "spglib looks at" not in said()
    monkeypatch.setattr("dcharge.symmetry.LONG_SEARCH", 8)
    operations(silicon(), Grid((4, 4, 4), silicon().cell))
    assert "--symmetry: spglib looks at 8 atoms" in said()


def test_field():
    """Along c the operations that turn c are gone; in a general direction all but the translations."""
    s = silicon(cubic=False)
    cubic = silicon()
    assert count(cubic.with_(field=[0, 0, 0]), (8, 8, 8))[0] == 192
    assert count(cubic.with_(field=[0, 0, 0.1]), (8, 8, 8))[0] == 32
    assert count(cubic.with_(field=[0.1, 0.1, 0.1]), (8, 8, 8))[0] == 24
    assert count(cubic.with_(field=[0.1, 0.2, 0.3]), (8, 8, 8))[0] == 4
    assert count(s.with_(field=[0.1, 0.2, 0.3]), (8, 8, 8))[0] == 1
    grid = Grid((8, 8, 8), cubic.cell)
    for w in operations(cubic.with_(field=[0, 0, 0.1]), grid)[0]:
        assert w[2, 2] == 1


def test_other_cells(said):
    """A grid over another cell than the atoms': only the identity."""
    s = silicon()
    place, n_ops = orbits(s, Grid((6, 6, 6), 2 * s.cell))
    assert n_ops == 1 and np.array_equal(place, np.arange(216))
    assert orbits(s.with_(numbers=[], positions=np.zeros((0, 3))), Grid((4, 4, 4), s.cell))[1] == 1
    doubled = Structure(np.full(2, 14), np.zeros((2, 3)), s.cell, True)  # one atom on another
    assert orbits(doubled, Grid((4, 4, 4), s.cell))[1] >= 1


def test_unfold(said):
    """One evaluation per orbit, every point handed out once."""
    s = silicon()
    grid, asked = Grid((12, 12, 12), s.cell), []

    def evaluate(points):
        asked.append(len(points))
        return gaussians(s, points)[None]

    out = np.zeros(grid.n_points)
    for index, values in unfold(s, grid, 20, evaluate):
        out[index] += values[0]
    np.testing.assert_allclose(out, gaussians(s, grid.points()), rtol=1e-6)
    assert sum(asked) == len(np.unique(orbits(s, grid)[0])) and max(asked) < 20 + 512
    assert said().startswith("--symmetry: 192 operations fit the grid 12x12x12")


@pytest.mark.parametrize("shape", [(16, 16, 16), (15, 15, 16)])
@pytest.mark.parametrize("coarse", [1, 2])
def test_equal_to_the_full_evaluation(model, shape, coarse):
    s = silicon()
    full = model.predict(s, shape=shape, coarse=coarse)
    before = model.evaluations
    some = Predictor(model.model, tile=100).predict(s, shape=shape, symmetry=True, coarse=coarse)
    np.testing.assert_allclose(some.values, full.values, rtol=0, atol=1e-5 * full.values.max())
    assert model.evaluations == before


def test_baseline_is_unfolded_too(model):
    s, base = silicon(), {}
    grid = Grid((12, 12, 12), s.cell)
    for symmetry in (False, True):
        base[symmetry] = np.zeros(grid.n_points)
        for index, _, b in model.tiles(s, grid, parts=True, symmetry=symmetry):
            base[symmetry][index] = b[0]
    np.testing.assert_allclose(base[True], base[False], atol=1e-5 * base[False].max())


def test_command(frozen, here, said):
    Atoms("Si2", scaled_positions=[[0, 0, 0], [0.25, 0.25, 0.25]], cell=silicon(False).cell, pbc=True).write("POSCAR")
    command = ["predict", "POSCAR", "-m", str(frozen), "--grid", "12", "12", "12", "-o"]
    assert main([*command, "a.h5", "--symmetry"]) in (0, None)
    assert main([*command, "b.h5"]) in (0, None)
    a, b = dcharge.read("a.h5").values, dcharge.read("b.h5").values
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * b.max())


def test_without_spglib(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "spglib", None)
    with pytest.raises(InputError, match="--symmetry needs spglib: pip install spglib"):
        model.predict(silicon(), shape=(4, 4, 4), symmetry=True)
