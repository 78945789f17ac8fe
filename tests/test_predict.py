"""Prediction: grids, points, files, trajectories; what is copied, rescaled, refused, and never left half-written."""

import lzma
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from tiny import density, model_config, predicted, structure

import dcharge
from dcharge.density import Density, PointDensity
from dcharge.errors import InputError
from dcharge.freeze import save_frozen
from dcharge.grid import Grid
from dcharge.io import write
from dcharge.models import make_model
from dcharge.predict import Predictor, choose_grid, pattern_name, run
from dcharge.structure import Structure

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def model(frozen):
    return dcharge.load(frozen)


@pytest.fixture
def poscar(here):
    """A file with the structure of `structure(1)`."""
    structure(1).to_ase().write("POSCAR", format="vasp", direct=False)
    return "POSCAR"


def close(a, b, digits=1e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=digits * np.abs(b).max())


def test_python(model):
    s = structure(1)
    rho = model.predict(s.to_ase(), shape=(6, 5, 7))
    assert isinstance(rho, Density) and rho.values.dtype == np.float32 and rho.grid.shape == (6, 5, 7)
    close(rho.total.ravel(), predicted(model.model, s, rho.points())[:, 0])
    assert rho.kind == "density" and np.array_equal(rho.structure.positions, s.positions)
    fine = model.predict(s, spacing=0.9, dtype=np.float64)
    assert fine.values.dtype == np.float64 and np.linalg.norm(fine.grid.steps, axis=1).max() <= 0.9
    like = model.predict(s, like=rho)
    assert np.array_equal(like.values, rho.values)
    points = np.random.default_rng(0).uniform(-5, 5, (9, 3))
    free = model.predict(s, points=points)
    assert isinstance(free, PointDensity) and free.values.shape == (1, 9)
    close(free.values[0], predicted(model.model, s, points)[:, 0])


def test_electrons(model):
    rho = model.predict(structure(1), shape=(6, 6, 6), electrons=20, dtype=np.float64)
    assert rho.electrons() == pytest.approx(20, abs=1e-10)
    plain = model.predict(structure(1), shape=(6, 6, 6), dtype=np.float64)
    close(rho.values, plain.values * 20 / plain.electrons())


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "give exactly one of shape, spacing, like, grid, points .got none"),
        ({"shape": (2, 2, 2), "spacing": 1.0}, "got shape, spacing"),
        ({"points": np.zeros((1, 3)), "shape": (2, 2, 2)}, "at free points neither a grid nor"),
        ({"points": np.zeros((1, 3)), "electrons": 3}, "at free points neither a grid nor"),
        ({"shape": (2, 2, 2), "electrons": -1}, "cannot rescale"),
        ({"spacing": -1.0}, "a positive length in Angstrom expected"),
        ({"shape": (0, 2, 2)}, "three positive integers expected"),
        ({"grid": (2, 2, 2)}, "dcharge.Grid expected, tuple given; numbers of points are shape="),
    ],
)
def test_bad_options(model, options, message):
    with pytest.raises(InputError, match=message):
        model.predict(structure(1), **options)


def test_response_points_keep_their_kind():
    config = model_config({"baseline": {"type": "none"}}) | {"target": "response"}
    assert Predictor(make_model(config)).predict(structure(1), points=np.zeros((2, 3))).kind == "response"


def test_unknown_species(model):
    with pytest.raises(InputError, match=r"species C not in type_map \['Si', 'O'\]"):
        model.predict(Atoms("SiC", [[0, 0, 0], [1, 0, 0]], cell=np.eye(3) * 4, pbc=True), shape=(2, 2, 2))


def test_no_cell(model):
    with pytest.raises(InputError, match="no cell to span"):
        model.predict(Atoms("SiO", [[0, 0, 0], [1, 0, 0]]), spacing=0.5)


def test_field_is_told(model, said):
    model.predict(structure(1).with_(field=np.array([0, 0, 1.0])), shape=(2, 2, 2))
    assert "does not see the electric field; it is ignored" in said()


def test_never_nan(frozen):
    """Weights that are finite and overflow: an error, neither nan nor inf in files or metrics."""
    model = dcharge.load(frozen)
    model.model.output.weight.fill_(3e38)
    with pytest.raises(InputError, match="density is not a finite number"):
        model.predict(structure(1), shape=(2, 2, 2))


def test_atoms_outside_the_grid(model, said):
    """Where an axis is not periodic nothing comes back into the cell; where it is, all does."""
    cell, z = np.eye(3) * 6, 14
    model.predict(Structure([z, z], [[1, 1, 1], [-1, 7, 5.0]], cell, True), shape=(2, 2, 2))
    model.predict(Structure([z, z], [[1, 1, 1], [-1, 7, 5.0]], cell, [1, 1, 0]), shape=(2, 2, 2))
    assert "outside" not in said()
    model.predict(Structure([z, z], [[1, 1, 1], [-1, 7, 5.0]], cell, [0, 1, 1]), shape=(2, 2, 2))
    assert "1 of 2 atoms (the first: 2) lie outside the grid" in said()


def test_insert_grid_takes_one_grid():
    with pytest.raises(InputError, match="give one of shape, spacing, points"):
        dcharge.insert_grid(structure(1).to_ase(), points=np.zeros((1, 3)), spacing=0.5)


def test_insert_grid(model):
    """The paper's view: grid points as pseudo-atoms X. Predicting through them is predicting directly."""
    atoms = structure(1).to_ase()
    with_grid = dcharge.insert_grid(atoms, shape=(4, 3, 5))
    assert with_grid.numbers[: len(atoms)].tolist() == atoms.numbers.tolist()
    assert with_grid.get_chemical_symbols()[len(atoms) :] == ["X"] * 60
    direct = model.predict(atoms, shape=(4, 3, 5), dtype=np.float64)
    through = model.predict(with_grid)
    np.testing.assert_allclose(through.positions, direct.grid.points())
    close(through.values[0], direct.total.ravel())
    spaced = dcharge.insert_grid(atoms, spacing=1.5)
    assert len(spaced) - len(atoms) == Grid.from_spacing(atoms.cell.array, 1.5).n_points
    points = [[0.1, 0.2, 0.3], [9.0, 9.0, 9.0]]
    close(model.predict(dcharge.insert_grid(atoms, points=points)).values, model.at(structure(1), points))


@pytest.mark.parametrize("name", ["rho.cube", "rho.cube.gz", "CHGCAR", "rho.h5"])
def test_files(model, poscar, frozen, name, here):
    assert run(frozen, [poscar], shape=(6, 5, 7), output=name) == 1
    rho, direct = dcharge.read(name), model.predict(structure(1), shape=(6, 5, 7))
    assert rho.grid.same_as(direct.grid) and np.allclose(rho.structure.positions, structure(1).positions, atol=1e-6)
    close(rho.values, direct.values)
    assert sorted(p.name for p in here.iterdir()) == sorted(["POSCAR", name])


def test_float64_hdf5(poscar, frozen):
    run(frozen, [poscar], shape=(3, 3, 3), output="rho.h5", dtype="float64")
    import h5py

    with h5py.File("rho.h5") as file:
        assert file["rho"].dtype == np.float64


@pytest.mark.parametrize("name, digits", [("rho.cube", 1e-6), ("CHGCAR", 1e-10), ("rho.h5", 1e-14)])
def test_electrons_in_files(poscar, frozen, name, digits, said):
    run(frozen, [poscar], shape=(6, 5, 7), output=name, electrons=20.0, dtype="float64")
    assert dcharge.read(name).electrons() == pytest.approx(20, rel=digits)
    assert "rescaled by" in said()


@pytest.fixture
def like(here):
    """A CHGCAR with augmentation occupancies, and a frozen model that knows its species: both names."""
    packed = DATA / "formats/CHGCAR.Si10.xz"
    (here / "CHGCAR.dft").write_bytes(lzma.decompress(packed.read_bytes()))
    return "CHGCAR.dft"


def test_like_copies_grid_and_augmentation(like, frozen):
    run(frozen, [like], like=like, output="CHGCAR")
    new, old = dcharge.read("CHGCAR"), dcharge.read(like)
    assert new.grid.same_as(old.grid, 1e-6)
    assert new.extra["vasp"]["tails"] == old.extra["vasp"]["tails"]
    assert "augmentation" in new.extra["vasp"]["tails"][0]
    first = Path("CHGCAR").read_text().split("\n")[0]
    assert "augmentation occupancies copied from CHGCAR.dft" in first and "prediction" in first


def test_like_a_spin_polarised_file(here):
    """The total's augmentation goes with the total density."""
    (here / "CHGCAR.dft").write_bytes(lzma.decompress((DATA / "formats/CHGCAR.spin.xz").read_bytes()))
    save_frozen(make_model(model_config({"type_map": ["Li"]})), "lithium.pth", {})
    run("lithium.pth", ["CHGCAR.dft"], like="CHGCAR.dft", output="CHGCAR")
    new, old = dcharge.read("CHGCAR"), dcharge.read("CHGCAR.dft")
    assert len(new.values) == 1 and len(old.values) == 2
    assert new.extra["vasp"]["tails"] == old.extra["vasp"]["tails"][:1]


def test_like_without_augmentation(here, frozen, poscar):
    rho = density(1, shape=(4, 5, 6))
    write(rho, "like.cube")
    write(rho, "CHGCAR.like")
    for name in ("like.cube", "CHGCAR.like"):
        run(frozen, [poscar], like=name, output="CHGCAR")
        assert dcharge.read("CHGCAR").grid.shape == (4, 5, 6)
        assert "augmentation" not in Path("CHGCAR").read_text()


def test_like_of_other_atoms(like, frozen, here):
    atoms = dcharge.read(like).structure.to_ase()
    atoms[0].symbol = "O"
    atoms.write("other.vasp", format="vasp")
    with pytest.raises(InputError, match=r"--like CHGCAR\.dft: holds Si10 in its order, the structure is OSi9"):
        run(frozen, ["other.vasp"], like=like, output="CHGCAR")
    assert not Path("CHGCAR").exists()


def test_like_of_another_cell(poscar, frozen, here):
    write(density(0, shape=(3, 4, 5), cell=np.eye(3) * 6), "like.cube")
    with pytest.raises(InputError, match=r"like\.cube has another cell than the structure; .* --grid 3 4 5"):
        run(frozen, [poscar], like="like.cube", output="CHGCAR")


def test_like_points(poscar, frozen, here):
    rho = density(1, shape=(2, 2, 2))
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1)), "points")
    with pytest.raises(InputError, match="holds free points; a density on a grid expected"):
        run(frozen, [poscar], like="points", output="rho.cube")


@pytest.fixture
def trajectory(here):
    """Five frames."""
    from ase.io import write as ase_write

    ase_write("md.xyz", [structure(i).to_ase() for i in range(5)], format="extxyz")
    return "md.xyz"


def test_trajectory_to_hdf5(model, trajectory, frozen):
    assert run(frozen, [trajectory], shape=(3, 4, 5), output="md.h5", every=2) == 3
    frames = list(dcharge.read_frames("md.h5"))
    assert len(frames) == 3
    for i, rho in zip((0, 2, 4), frames, strict=True):
        assert np.allclose(rho.structure.positions, structure(i).positions)
        close(rho.values, model.predict(structure(i), shape=(3, 4, 5)).values)


def test_trajectory_to_files(model, trajectory, frozen, here):
    assert run(frozen, [trajectory], shape=(3, 4, 5), pattern="rho.%03d.cube") == 5
    assert sorted(p.name for p in here.glob("rho*")) == [f"rho.00{i}.cube" for i in range(5)]
    close(dcharge.read("rho.003.cube").values, model.predict(structure(3), shape=(3, 4, 5)).values)


def test_trajectory_with_electrons(trajectory, frozen):
    run(frozen, [trajectory], shape=(3, 4, 5), output="md.h5", electrons=20.0, dtype="float64")
    assert [rho.electrons() for rho in dcharge.read_frames("md.h5")] == pytest.approx([20] * 5, abs=1e-9)


def test_trajectory_needs_a_pattern(trajectory, frozen, here):
    with pytest.raises(InputError, match=r"rho\.cube: holds one frame, the input has more; use an \.h5 file or"):
        run(frozen, [trajectory], shape=(3, 3, 3), output="rho.cube")
    for pattern in ("rho.cube", "rho.%s.%d.cube", "rho.100%.cube", "rho.%%.cube"):
        with pytest.raises(InputError, match="a frame number such as %06d expected in it"):
            run(frozen, [trajectory], shape=(3, 3, 3), pattern=pattern)
    assert pattern_name("a.%04d.h5", 12) == "a.0012.h5"
    assert [p.name for p in here.iterdir()] == ["md.xyz"]


DUMP = """ITEM: TIMESTEP
100
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0.0 5.0
0.0 6.0
0.0 7.0
ITEM: ATOMS id type x y z
2 1 3.0 3.0 3.0
1 2 1.0 1.5 2.0
"""


def test_lammps_dump(model, frozen, here):
    (here / "run.dump").write_text(DUMP)
    run(frozen, ["run.dump"], shape=(3, 3, 3), output="rho.cube", type_map=["O", "Si"])
    s = Structure([14, 8], [[1, 1.5, 2], [3, 3, 3]], np.diag([5.0, 6.0, 7.0]), True)
    rho = dcharge.read("rho.cube")
    assert rho.structure.numbers.tolist() == [14, 8]
    close(rho.values, model.predict(s, shape=(3, 3, 3)).values)
    with pytest.raises(InputError, match="type"):
        run(frozen, ["run.dump"], shape=(3, 3, 3), output="none.cube")
    assert not (here / "none.cube").exists()


def test_pbc_on_the_command_line(model, poscar, frozen):
    run(frozen, [poscar], shape=(3, 3, 3), output="rho.h5", pbc="T T F")
    slab = structure(1, pbc=(True, True, False)).with_(positions=dcharge.read("rho.h5").structure.positions)
    assert not dcharge.read("rho.h5").structure.pbc[2]
    close(dcharge.read("rho.h5").values, model.predict(slab, shape=(3, 3, 3)).values)


@pytest.mark.parametrize("name", ["rho.cube", "CHGCAR", "rho.h5"])
def test_failure_leaves_nothing(poscar, frozen, here, monkeypatch, name):
    """An interrupt in the middle of a prediction: what was there before is there afterwards."""
    (here / name).write_bytes(b"old")
    tiles = Predictor.tiles

    def interrupted(self, *args, **options):
        yield next(iter(tiles(Predictor(self.model, tile=1), *args, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "tiles", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(frozen, [poscar], shape=(9, 9, 9), output=name)
    assert sorted(p.name for p in here.iterdir()) == sorted(["POSCAR", name])
    assert (here / name).read_bytes() == b"old"


def test_bad_frame_in_a_trajectory(trajectory, frozen, here):
    text = (here / trajectory).read_text().split("\n")
    text[3 * 6 + 2] = "C" + text[3 * 6 + 2].lstrip()[2:]  # in the fourth frame
    (here / trajectory).write_text("\n".join(text))
    with pytest.raises(InputError, match="md.xyz#3: species C not in type_map"):
        run(frozen, [trajectory], shape=(3, 3, 3), output="md.h5")
    assert [p.name for p in here.iterdir()] == ["md.xyz"]


def test_inputs_are_not_overwritten(poscar, frozen, here):
    write(density(1, shape=(2, 2, 2)), "CHGCAR")
    before = (here / "CHGCAR").read_bytes()
    with pytest.raises(InputError, match="CHGCAR: is read by this command and would be overwritten"):
        run(frozen, [poscar], like="CHGCAR", output="CHGCAR")
    assert (here / "CHGCAR").read_bytes() == before


def test_no_structure(model):
    with pytest.raises(InputError, match="ase.Atoms or dcharge.Structure expected, str given"):
        model.predict("POSCAR", spacing=0.5)


def test_wrong_places(poscar, frozen, here, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(InputError, match="there is no folder no"):
        patch.setattr(Predictor, "tiles", None)  # told before anything is computed
        run(frozen, [poscar], shape=(3, 3, 3), pattern="no/rho.%d.cube")
    for output, message in (("no/rho.cube", "there is no folder no"), ("rho.txt", "the name tells no format")):
        with pytest.raises(InputError, match=message):
            run(frozen, [poscar], shape=(3, 3, 3), output=output)
    with pytest.raises(InputError, match=r"none\.vasp: no such file"):
        run(frozen, ["none.vasp"], shape=(3, 3, 3), output="rho.cube")


def test_choose_grid_of_a_slab_and_a_molecule():
    """Axes that are not periodic are spanned as well; --like may lie in a cell of its own there."""
    slab = structure(1, pbc=(True, True, False))
    assert choose_grid(slab, shape=(2, 3, 4)).same_as(Grid((2, 3, 4), slab.cell))
    cell = slab.cell.copy()
    cell[2] *= 2
    like = Density(slab.with_(cell=cell), Grid((2, 2, 2), cell), np.zeros((2, 2, 2)))
    assert choose_grid(slab, like=like) is like.grid


def test_tiles_are_compact(model):
    """A tile's points lie together: the kernels share neighbours."""
    s = structure(1)
    grid = Grid((16, 16, 16), s.cell)
    tiles = [index for index, *_ in Predictor(model.model, tile=512).tiles(s, grid)]
    assert sorted(np.concatenate(tiles).tolist()) == list(range(4096)) and len(tiles) == 8
    fractional = grid.points(tiles[-1]) @ np.linalg.inv(s.cell)
    assert np.ptp(fractional, axis=0).max() < 0.5
