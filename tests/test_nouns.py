"""Structure, Grid and Density."""

import numpy as np
import pytest
from ase import Atoms

from dcharge.density import Density, PointDensity
from dcharge.errors import InputError
from dcharge.grid import Grid, smooth_size
from dcharge.structure import Structure, complete_cell

CELL = np.array([[4.0, 0.3, 0.0], [-1.0, 5.0, 0.2], [0.5, 0.1, 6.0]])


def make_structure(**changes):
    return Structure(**{"numbers": [8, 1], "positions": [[0, 0, 0], [1, 0, 0]], "cell": CELL, "pbc": True, **changes})


def test_structure_and_ase():
    atoms = Atoms("OH", [[0, 0, 0], [1, 0, 0]], cell=CELL, pbc=[1, 0, 1], info={"field": [0, 0, 1.0]})
    structure = Structure.from_ase(atoms)
    assert structure.symbols == ["O", "H"] and structure.formula == "HO" and len(structure) == 2
    assert structure.pbc.tolist() == [True, False, True] and structure.field.tolist() == [0, 0, 1]
    back = structure.to_ase()
    assert np.array_equal(back.positions, atoms.positions) and np.array_equal(back.pbc, atoms.pbc)
    assert structure.volume == pytest.approx(abs(np.linalg.det(CELL)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"numbers": [8]}, "1 atomic numbers for 2 positions"),
        ({"positions": [[0, 0, 0], [np.nan, 0, 0]]}, "atom 2: position is not a finite number"),
        ({"cell": np.ones((3, 3))}, "linearly dependent"),
        ({"cell": np.full((3, 3), np.inf)}, "not finite"),
        ({"field": [0, 0, np.inf]}, "field: not a finite number"),
    ],
)
def test_bad_structures(changes, message):
    with pytest.raises(InputError, match=message):
        make_structure(**changes)


def test_types():
    structure = make_structure()
    assert structure.types(["H", "O"]).tolist() == [1, 0]
    with pytest.raises(InputError, match=r"species O not in type_map \['H'\]"):
        structure.types(["H"])
    with pytest.raises(InputError, match="'Hh' is not a chemical symbol; did you mean"):
        structure.types(["Hh"])
    for wrong in ("h", "si", "LI"):
        with pytest.raises(InputError, match=f"chemical symbol; did you mean '{wrong.capitalize()}'"):
            structure.types([wrong])


def test_printed_short():
    structure = make_structure(pbc=[1, 1, 0])
    assert repr(structure) == "Structure(HO, pbc=TTF)"
    rho = Density(structure, Grid((2, 3, 4), CELL), np.zeros((2, 2, 3, 4)), source={"file": "x.cube"})
    assert repr(rho) == "Density(x.cube: Structure(HO, pbc=TTF), density, total+spin on 2x3x4 points)"
    points = PointDensity(structure, rho.points(), rho.values.reshape(2, -1))
    assert repr(points) == "PointDensity(points: Structure(HO, pbc=TTF), density, total+spin at 24 points)"


@pytest.mark.parametrize("pbc", list(np.ndindex(2, 2, 2)))
def test_complete_cell(pbc):
    full = complete_cell(CELL, pbc)
    pbc = np.array(pbc, dtype=bool)
    assert np.array_equal(full[pbc], CELL[pbc])
    free = full[~pbc]
    assert np.allclose(free @ free.T, np.eye(len(free))) and np.allclose(free @ full[pbc].T, 0)
    junk = CELL.copy()
    junk[~pbc] = np.nan
    assert np.allclose(complete_cell(junk, pbc), full)


def test_grid_points_and_tiles():
    grid = Grid((5, 17, 9), CELL, (1, 2, 3))
    ijk = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    assert np.allclose(grid.points(), ijk / np.array(grid.shape) @ CELL + [1, 2, 3])
    for n in (1, 100, 600, 10**6):
        tiles = list(grid.tiles(n))
        assert np.array_equal(np.sort(np.concatenate(tiles)), np.arange(grid.n_points))
        assert max(map(len, tiles)) <= max(n, 512)
    assert grid.dv * grid.n_points == pytest.approx(grid.volume)
    assert grid.same_as(Grid((5, 17, 9), CELL + 1e-5, (1, 2, 3))) and not grid.same_as(Grid((5, 17, 9), CELL))


def test_grid_from_spacing():
    assert [smooth_size(n) for n in (1, 11, 13, 97, 121)] == [1, 12, 14, 98, 125]
    grid = Grid.from_spacing(CELL, 0.1)
    assert (np.linalg.norm(grid.steps, axis=1) <= 0.1).all()
    assert Grid.from_spacing(np.eye(3), 0.1).shape == (10, 10, 10)
    for bad in (0, -1, np.nan):
        with pytest.raises(InputError, match="spacing"):
            Grid.from_spacing(CELL, bad)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (((0, 1, 1), CELL), "three positive integers"),
        (((1, 1), CELL), "three positive integers"),
        (((1, 1, 1), np.ones((3, 3)) * 0), "zero volume"),
        (((1, 1, 1), CELL, (np.nan, 0, 0)), "not finite"),
    ],
)
def test_bad_grids(arguments, message):
    with pytest.raises(InputError, match=message):
        Grid(*arguments)


def test_density():
    grid = Grid((2, 3, 4), CELL)
    values = np.random.default_rng(0).random(grid.shape)
    density = Density(make_structure(), grid, values)
    assert density.values.shape == (1, 2, 3, 4) and density.channels == ("total",)
    assert density.electrons() == pytest.approx(values.mean() * grid.volume)
    assert np.array_equal(density.values_at([5, 0])[0], values.reshape(-1)[[5, 0]])
    assert np.array_equal(density.points([5]), grid.points([5]))
    turned = Density(make_structure(), grid, np.asfortranarray(values))
    assert np.array_equal(turned.values, density.values) and turned.values.flags.c_contiguous
    assert Density(make_structure(), grid, values.astype(np.float32)).values.dtype == np.float32
    with pytest.raises(InputError, match="2 density values are not finite"):
        Density(make_structure(), grid, np.where(values > np.sort(values.ravel())[-3], np.nan, values))
    with pytest.raises(InputError, match="for 24 points"):
        Density(make_structure(), grid, values[:1])
    with pytest.raises(InputError, match="kind 'total'"):
        Density(make_structure(), grid, values, kind="total")


def test_point_density():
    points = np.zeros((3, 3))
    density = PointDensity(make_structure(), points, [1.0, 2.0, 3.0], [1, 1, 1])
    assert density.n_points == 3 and density.values_at([2]).tolist() == [[3.0]]
    with pytest.raises(InputError, match="2 weights for 3 points"):
        PointDensity(make_structure(), points, [1.0, 2.0, 3.0], [1, 1])
    for weight in ([1, np.nan, 1], [1, -1, 3], [0, 0, 0]):
        with pytest.raises(InputError, match="weights must be finite"):
            PointDensity(make_structure(), points, [1.0, 2.0, 3.0], weight)
    with pytest.raises(InputError, match="not a finite"):
        PointDensity(make_structure(), points * np.nan, [1.0, 2.0, 3.0])
