"""Sampler of inequivalent points: orbits and weights of known crystals, no preference, what it says and refuses."""

import sys

import numpy as np
import pytest
from ase.build import bulk
from tiny import density, gaussians, input_config, structure

from dcharge.cli import main
from dcharge.density import Density, PointDensity
from dcharge.errors import InputError
from dcharge.grid import Grid
from dcharge.inequivalent import Inequivalent, sub_grid
from dcharge.io import open_system, write
from dcharge.sampling import make_sampler
from dcharge.structure import Structure
from dcharge.symmetry import orbits

pytest.importorskip("spglib")


def silicon(shape=(16, 16, 16), shake=0.0, **options) -> Density:
    """Diamond in its cubic cell, Gaussians on atoms that are off their places by about `shake` Angstrom."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.positions += shake * np.random.default_rng(0).uniform(-1, 1, atoms.positions.shape)
    s = Structure(atoms.numbers, atoms.positions, atoms.cell.array, True, **options)
    grid = Grid(shape, s.cell)
    return Density(s, grid, gaussians(s, grid.points()).reshape(shape))


def sub_mean(rho, axes, values=None) -> float:
    """Mean over the sub-grid."""
    return (rho.total if values is None else values)[np.ix_(*axes)].mean()


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("shape, n_operations", [((16, 16, 16), 192), ((24, 24, 24), 192), ((15, 15, 15), 24)])
def test_orbits_of_silicon(shape, n_operations, said):
    """One point of every orbit of the whole grid that meets the sub-grid, weighted by how often it does."""
    rho = silicon(shape)
    index, weight = Inequivalent(spacing=0.9)(rho, rng())
    axes = sub_grid(rho.grid, 0.9)
    all_points = np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), shape).ravel()
    label = orbits(rho.structure, rho.grid)[0]
    found, size = np.unique(label[all_points], return_counts=True)
    assert np.isin(index, all_points).all() and (np.diff(index) > 0).all()
    order = np.argsort(label[index])
    assert np.array_equal(label[index][order], found)  # each orbit once
    np.testing.assert_allclose(weight[order], size / size.mean())
    assert len(index) < len(all_points) / 5
    text = f"{n_operations} operations fit the grid, {len(index)} of {len(all_points)} points are inequivalent"
    assert said() == f"sampler 'inequivalent': sub-grid {'x'.join(str(len(a)) for a in axes)}, {text}"


@pytest.mark.parametrize("seed", range(2))
def test_weighted_mean_is_that_of_the_sub_grid(seed):
    """Exactly, for every draw, of any function with the symmetry; the unweighted one is not."""
    rho = silicon()
    index, weight = Inequivalent(spacing=0.34)(rho, rng(seed))
    values = rho.total.ravel()[index]
    exact = sub_mean(rho, sub_grid(rho.grid, 0.34))
    assert (weight * values).mean() == pytest.approx(exact, rel=1e-6)
    assert abs(values.mean() / exact - 1) > 0.01


@pytest.mark.parametrize("n", [1000, 9])
def test_unbiased_where_the_symmetry_is_approximate(n):
    """Atoms off by some 0.004 Angstrom, orbits by a symprec of 0.02: the mean over draws is that over the sub-grid, of
    a function that follows the atoms and of one that has no symmetry at all."""
    rho = silicon((8, 8, 8), shake=0.004)
    axes = sub_grid(rho.grid, 0.68)
    functions = rho.total, rho.points()[:, 2].reshape(rho.grid.shape) * rho.total
    means = []
    for seed in range(100):
        index, weight = Inequivalent(n, spacing=0.68, symprec=0.02)(rho, rng(seed))
        means.append([(values.ravel()[index] * weight).mean() for values in functions])
    assert len(index) < 300
    for found, values in zip(np.transpose(means), functions, strict=True):
        exact = sub_mean(rho, axes, values)
        # with some orbits only it is a ratio of two means, biased by 1/n
        assert abs(found.mean() - exact) < 4 * found.std() / 10 + (1e-9 if n > 9 else 0.03) * exact


def test_tolerance(said):
    """Strict: rattled atoms have no symmetry and every point counts, which is said; generous: most of it is back."""
    rho = silicon(shake=0.004)
    index, weight = Inequivalent(spacing=0.7, symprec=1e-4)(rho, rng())
    assert np.array_equal(
        index, np.ravel_multi_index(np.meshgrid(*[np.arange(0, 16, 2)] * 3, indexing="ij"), (16,) * 3).ravel()
    )
    assert (weight == 1).all() and said() == "sampler 'inequivalent': sub-grid 8x8x8, no symmetry, all 512 points count"
    assert len(Inequivalent(spacing=0.7, symprec=0.02)(rho, rng())[0]) < 40


def test_no_preference_for_a_part_of_the_cell():
    """Any point of an orbit is drawn: the mean height over draws is the middle of the sub-grid, not its lower end."""
    rho, heights = silicon(), []
    for seed in range(40):
        index, weight = Inequivalent(spacing=0.34)(rho, rng(seed))
        heights.append((weight * np.unravel_index(index, rho.grid.shape)[2]).mean())
    assert np.mean(heights) == pytest.approx(7.5, abs=4 * np.std(heights) / np.sqrt(40) + 1e-9)
    assert np.std(heights) > 0.1


def test_seed():
    sampler, rho = Inequivalent(10, spacing=0.34), silicon()
    a, b, c = sampler(rho, rng(1)), sampler(rho, rng(1)), sampler(rho, rng(2))
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and not np.array_equal(a[0], c[0])
    assert len(a[0]) == 10 and a[1].mean() == pytest.approx(1)


def test_cap_is_told(said):
    """With symmetry and without."""
    for rho, orbits_found in (
        (silicon(), "points are inequivalent"),
        (silicon(shake=0.05), "no symmetry, all 4096 points count"),
    ):
        index, _ = Inequivalent(20, spacing=0.34, symprec=1e-4)(rho, rng())
        assert len(index) == 20 and said().endswith(f"{orbits_found}; 20 of them drawn at random")
    Inequivalent(5000, spacing=0.34, symprec=1e-4)(rho, rng())
    assert said().endswith("all 4096 points count")


def test_field_and_open_boundaries():
    """A field along c leaves the operations that keep c; a molecule has its own symmetry about its centre."""
    free = len(Inequivalent(spacing=0.34)(silicon(), rng())[0])
    along = len(Inequivalent(spacing=0.34)(silicon(field=[0, 0, 0.1]), rng())[0])
    general = len(Inequivalent(spacing=0.34)(silicon(field=[0.1, 0.2, 0.3]), rng())[0])
    assert free < along < general == 1000  # of 4096 / 4
    pair = Structure([8, 8], [[3.0, 3.0, 2.0], [3.0, 3.0, 4.0]], np.eye(3) * 6, False)
    grid = Grid((12, 12, 12), pair.cell)
    rho = Density(pair, grid, gaussians(pair, grid.points()).reshape(grid.shape))
    index, weight = Inequivalent(5000, spacing=0.5)(rho, rng())
    assert len(index) < 12**3 / 8
    assert (weight * rho.total.ravel()[index]).mean() == pytest.approx(rho.total.mean(), rel=1e-6)


@pytest.mark.parametrize(
    "shape, spacing, counts",
    [
        ((40, 60, 45), 0.5, (10, 12, 9)),  # 5, 6, 4.5 Angstrom: 10, 12, 9 are divisors
        ((40, 60, 45), 0.45, (10, 12, 9)),  # 11.1, 13.3, 10 wanted
        ((40, 60, 45), 0.125, (40, 60, 45)),
        ((47, 60, 45), 0.5, (9, 12, 9)),  # 47 is a prime: every fifth or so
        ((40, 60, 45), 20.0, (1, 1, 1)),
    ],
)
def test_sub_grid(shape, spacing, counts):
    grid = Grid(shape, np.diag([5.0, 6.0, 4.5]) if shape[0] == 40 else np.diag([4.7, 6.0, 4.5]))
    axes = sub_grid(grid, spacing)
    assert tuple(len(a) for a in axes) == counts
    for a, n in zip(axes, shape, strict=True):
        steps = np.diff(np.append(a, n))  # the cell closes: no gap at its end
        assert a[0] == 0 and np.ptp(steps) <= 1
        assert n % len(a) or np.ptp(steps) == 0


def test_what_is_refused(monkeypatch):
    rho = silicon()
    with pytest.raises(
        InputError, match="spacing 0.2 is smaller than the grid's 0.3394 Angstrom along a; at least that"
    ):
        Inequivalent(spacing=0.2)(rho, rng())
    with pytest.raises(InputError, match="sampler 'inequivalent' needs a grid, these are free points"):
        Inequivalent()(PointDensity(rho.structure, [[0, 0, 0]], [1.0]), rng())
    monkeypatch.setitem(sys.modules, "spglib", None)
    with pytest.raises(InputError, match="sampler 'inequivalent' needs spglib: pip install spglib"):
        Inequivalent()(rho, rng())


def test_training_and_command(here, capsys, said):
    """In an input, as candidates of another sampler, and on the command line: the same points."""
    from dcharge.train import Trainer

    rho = silicon()
    write(rho, "si.h5", dtype="float64")
    section = {"type": "inequivalent", "spacing": 0.68, "points_per_frame": 8}
    sampler = make_sampler({**section, "symprec": 0.01})
    assert sampler == Inequivalent(8, 0.68, 0.01)
    trainer = Trainer(input_config(["si.h5"], {"training": {"sampler": section}, "loss": {"weights": "importance"}}))
    assert len(trainer.samples) == 8 and trainer.samples.weight.mean() == pytest.approx(1)
    command = ["sample", "si.h5", "points", "--sampler", "inequivalent", "--spacing", "0.68", "-n", "8", "--seed", "3"]
    assert main(command) == 0
    found = open_system("points").frames[0].read()
    np.testing.assert_allclose(found.positions, trainer.samples.points)
    np.testing.assert_allclose(found.weight, trainer.samples.weight)
    assert "sub-grid 8x8x8" in said()
    assert main(["sample", "si.h5", "p2", "--sampler", "inequivalent", "--spacing", "-1"]) == 1
    assert "--spacing: a positive number expected, -1 given" in capsys.readouterr().err
    assert main(["sample", "si.h5", "p2", "--sampler", "random", "--spacing", "1"]) == 1
    assert "--spacing" in capsys.readouterr().err


def test_without_symmetry():
    """Four atoms anywhere in a skewed cell."""
    rho = density(0, shape=(8, 8, 10))
    index, weight = Inequivalent(10_000, spacing=1.1)(rho, rng())
    assert (weight == 1).all() and len(index) == np.prod([len(a) for a in sub_grid(rho.grid, 1.1)])
    assert len(structure(0)) == 4
