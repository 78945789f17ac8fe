"""Structures from any file: ASE's formats, LAMMPS, densities."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from made import FORMATS, HEADER, chgcar, make_density

import dcharge.io as io
from dcharge.errors import InputError

ATOMS = Atoms("OH2", [[0.1, 0.2, 0.3], [1.0, 0.2, 0.3], [0.1, 1.2, 3.3]], cell=[4, 5, 6], pbc=[1, 1, 0])


def one(path, **options):
    found = list(io.read_structures(path, **options))
    assert len(found) == 1
    return found[0][1]


@pytest.mark.parametrize("name", ["x.xyz", "x.extxyz", "x.cif", "x.json", "x.traj", "POSCAR", "x.vasp", "x.xsf"])
def test_ase_formats(tmp_path, name):
    path = tmp_path / name
    ase.io.write(path, ATOMS if name != "x.cif" else Atoms(ATOMS, pbc=True))
    structure = one(path)
    assert structure.symbols == ["O", "H", "H"]
    assert np.allclose(structure.positions, ATOMS.positions, atol=1e-5)
    if name in ("x.extxyz", "x.json", "x.traj"):
        assert structure.pbc.tolist() == [True, True, False]


def test_trajectory_frame_by_frame(tmp_path):
    frames = [Atoms(ATOMS, positions=ATOMS.positions + i) for i in range(7)]
    ase.io.write(tmp_path / "md.extxyz", frames)
    found = list(io.read_structures(tmp_path / "md.extxyz", every=3, pbc=[0, 0, 0], field=[0, 0, 1]))
    assert [name for name, _ in found] == ["md.extxyz#0", "md.extxyz#3", "md.extxyz#6"]
    assert found[2][1].positions[0, 0] == pytest.approx(6.1)
    assert not found[0][1].pbc.any() and found[0][1].field[2] == 1
    stream = io.read_structures(tmp_path / "md.extxyz")
    next(stream)
    stream.close()


def test_density_files(tmp_path):
    assert one(FORMATS / "CHGCAR.NaCl.xz").symbols == ["Na", "Cl"]
    assert one(FORMATS / "elec.cube.gz").formula == "Cr4O5"
    io.write(make_density(), tmp_path / "a.cube")
    io.write(make_density(1), tmp_path / "b.h5")
    (tmp_path / "CHGCAR").write_text(chgcar())
    assert [n for n, _ in io.read_structures(tmp_path)] == ["CHGCAR", "a.cube", "b.h5#0"]
    assert [n for n, _ in io.read_structures(tmp_path / "*.cube")] == ["a.cube"]


def test_poscar_variants(tmp_path):
    header = HEADER.replace("O H\n", "").replace("made up", "O H").replace("1.0\n", "-512\n", 1)
    (tmp_path / "POSCAR").write_text(header)
    assert one(tmp_path / "POSCAR").cell[0, 0] == pytest.approx(8)


# --- LAMMPS dumps ---


def dump(style="x y z", steps=(0, 10), element=True, box="orthogonal", flags="pp pp ff", shuffle=True):
    """A text dump of ATOMS in a box that begins at (1, 2, 3)."""
    origin = np.array([1.0, 2.0, 3.0])
    cell = np.diag([4.0, 5.0, 6.0])
    lines = []
    tilt = box != "orthogonal"
    if tilt:
        cell[1, 0], cell[2, 0], cell[2, 1] = -1.5, 0.5, 0.25
    for step in steps:
        xyz = ATOMS.positions + 0.01 * step
        shown = (xyz if "s" not in style.split()[0] else xyz @ np.linalg.inv(cell)) + (
            origin if "s" not in style.split()[0] else 0
        )
        lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", "3"]
        if box == "general":
            lines += [f"ITEM: BOX BOUNDS abc origin {flags}"]
            lines += [" ".join(f"{x:.10g}" for x in (*cell[i], origin[i])) for i in range(3)]
        elif tilt:
            xy, xz, yz = cell[1, 0], cell[2, 0], cell[2, 1]
            low = origin + [min(0, xy, xz, xy + xz), min(0, yz), 0]
            high = origin + np.diag(cell) + [max(0, xy, xz, xy + xz), max(0, yz), 0]
            lines += [f"ITEM: BOX BOUNDS xy xz yz {flags}"]
            lines += [f"{a:.10g} {b:.10g} {t:.10g}" for a, b, t in zip(low, high, (xy, xz, yz), strict=True)]
        else:
            lines += [f"ITEM: BOX BOUNDS {flags}"]
            lines += [f"{o:.10g} {o + x:.10g}" for o, x in zip(origin, np.diag(cell), strict=True)]
        lines += [f"ITEM: ATOMS id {'element' if element else 'type'} {style}"]
        for i in [2, 0, 1] if shuffle else range(3):
            name = ATOMS.symbols[i] if element else {"O": 2, "H": 1}[ATOMS.symbols[i]]
            lines.append(f"{i + 1} {name} " + " ".join(f"{x:.10f}" for x in shown[i]))
    return "\n".join(lines) + "\n", cell


@pytest.mark.parametrize("style", ["x y z", "xu yu zu", "xs ys zs", "xsu ysu zsu"])
@pytest.mark.parametrize("box", ["orthogonal", "triclinic", "general"])
def test_dump(tmp_path, style, box):
    text, cell = dump(style, box=box)
    (tmp_path / "md.dump").write_text(text)
    found = list(io.read_structures(tmp_path / "md.dump"))
    assert [name for name, _ in found] == ["md.dump@0", "md.dump@10"]
    for (_, structure), step in zip(found, (0, 10), strict=True):
        assert structure.symbols == ["O", "H", "H"] and np.allclose(structure.cell, cell)
        assert np.allclose(structure.positions, ATOMS.positions + 0.01 * step, atol=1e-7)
        assert structure.pbc.tolist() == [True, True, False]


def test_dump_against_ase(tmp_path):
    text, _ = dump("x y z", box="triclinic", shuffle=False)
    (tmp_path / "md.dump").write_text(text)
    theirs = ase.io.read(tmp_path / "md.dump", index=1, format="lammps-dump-text")
    ours = list(io.read_structures(tmp_path / "md.dump"))[1][1]
    assert np.allclose(ours.cell, theirs.cell, atol=1e-6)
    assert np.allclose(ours.positions, theirs.positions - theirs.get_celldisp().T, atol=1e-6)


def test_dump_with_types(tmp_path):
    (tmp_path / "md.lammpstrj").write_text(dump(element=False)[0])
    found = list(io.read_structures(tmp_path / "md.lammpstrj", type_map=["H", "O"], every=2))
    assert len(found) == 1 and found[0][1].symbols == ["O", "H", "H"]
    with pytest.raises(InputError, match="names no elements; give them .*--type-map"):
        list(io.read_structures(tmp_path / "md.lammpstrj"))
    with pytest.raises(InputError, match="atom type 2, but the type map names 1"):
        list(io.read_structures(tmp_path / "md.lammpstrj", type_map=["H"]))
    with pytest.raises(InputError, match="'Hx' is not a chemical symbol"):
        list(io.read_structures(tmp_path / "md.lammpstrj", type_map=["Hx", "O"]))


def test_type_map_before_element(tmp_path):
    """LAMMPS writes C for every element unless it is told; the user's word counts."""
    text = dump(element=False, steps=(0,))[0].replace("id type", "id type element")
    lines = text.splitlines()
    at = next(i for i, x in enumerate(lines) if x.startswith("ITEM: ATOMS"))
    rows = [" ".join([*x.split()[:2], "C", *x.split()[2:]]) for x in lines[at + 1 :]]
    (tmp_path / "md.dump").write_text("\n".join([*lines[: at + 1], *rows]) + "\n")
    assert io.read_structure(tmp_path / "md.dump").symbols == ["C"] * 3
    assert io.read_structure(tmp_path / "md.dump", type_map=["H", "O"]).symbols == ["O", "H", "H"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("3 H", "3", r"line 10: 5 columns expected \(id element x y z\), found 4"),
        ("element x y z", "element vx vy vz", "no positions: columns x y z"),
        ("1 O", "1 Ox", "'Ox' is not a chemical symbol"),
        ("ITEM: BOX BOUNDS", "ITEM: BOUNDS", "line 5: 'ITEM: BOX BOUNDS' expected"),
        ("ITEM: NUMBER OF ATOMS\n3", "ITEM: NUMBER OF ATOMS\nmany", "line 4: the number of atoms expected, found"),
        ("1.1000000000", "1.1x", "the frame that ends in line 12"),
    ],
)
def test_bad_dumps(tmp_path, old, new, message):
    (tmp_path / "md.dump").write_text(dump(steps=(0,))[0].replace(old, new, 1))
    with pytest.raises(InputError, match=message) as error:
        list(io.read_structures(tmp_path / "md.dump"))
    assert "md.dump" in str(error.value)


def test_truncated_dump(tmp_path):
    text = dump()[0]
    (tmp_path / "md.dump").write_text(text[: len(text) - 60])
    stream = io.read_structures(tmp_path / "md.dump")
    next(stream)
    with pytest.raises(InputError, match=r"md.dump: line 2\d: "):
        next(stream)


# --- LAMMPS data ---

DATA = """LAMMPS data file

3 atoms
2 atom types

1.0 5.0 xlo xhi
2.0 7.0 ylo yhi
3.0 9.0 zlo zhi
{tilt}
Masses

1 15.999{comment_o}
2 1.008{comment_h}

Atoms{style}

2 {extra2}2.0 2.2 3.3 0 0 0
1 {extra1}1.1 2.2 3.3 0 0 0
3 {extra2}1.1 3.2 6.3 0 0 0

Velocities

1 0 0 0
2 0 0 0
3 0 0 0
"""


def data(style="atomic", named=True, tilt=False, masses="comment"):
    extra = {"atomic": "{t} ", "charge": "{t} -0.5 ", "molecular": "1 {t} ", "full": "1 {t} -0.5 "}[style]
    return DATA.format(
        tilt="-1.5 0.5 0.25 xy xz yz\n" if tilt else "",
        comment_o=" # O" if masses == "comment" else "",
        comment_h=" # H" if masses == "comment" else "",
        style=f" # {style}" if named else "",
        extra1=extra.format(t=1),
        extra2=extra.format(t=2),
    )


@pytest.mark.parametrize("style", ["atomic", "charge", "molecular", "full"])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("masses", ["comment", "value"])
def test_data(tmp_path, style, named, masses):
    (tmp_path / "water.data").write_text(data(style, named, masses=masses))
    structure = one(tmp_path / "water.data")
    assert structure.symbols == ["O", "H", "H"] and np.allclose(np.diag(structure.cell), [4, 5, 6])
    assert np.allclose(structure.positions, ATOMS.positions) and structure.pbc.all()


def test_data_tilted_with_type_map(tmp_path):
    (tmp_path / "water.lmp").write_text(data(tilt=True))
    structure = one(tmp_path / "water.lmp", type_map=["S", "Li"], pbc="T T F")
    assert structure.symbols == ["S", "Li", "Li"] and structure.cell[1, 0] == -1.5 and not structure.pbc[2]


def test_ase_writes_we_read(tmp_path):
    atoms = Atoms(ATOMS, pbc=True)
    ase.io.write(tmp_path / "x.data", atoms, format="lammps-data", specorder=["H", "O"], masses=True)
    structure = one(tmp_path / "x.data")
    assert structure.symbols == ["O", "H", "H"] and np.allclose(structure.positions, atoms.positions, atol=1e-6)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("3 atoms", "4 atoms", "3 lines in section 'Atoms', 4 atoms announced"),
        ("Atoms # atomic", "Atoms # peri", "atom style 'peri'; one of"),
        ("2.0 7.0 ylo yhi", "2.0 ylo yhi", "'xlo xhi', 'ylo yhi'"),
        ("1 1 1.1", "1 3 1.1", "atom type 3, but the type map names 2"),
        ("1 1 1.1", "1 1 abc", "section 'Atoms' .style atomic."),
        ("Atoms # atomic", "Atom", "no section 'Atoms'|lines"),
    ],
)
def test_bad_data(tmp_path, old, new, message):
    (tmp_path / "x.data").write_text(data().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        list(io.read_structures(tmp_path / "x.data"))


def test_bad_files(tmp_path):
    (tmp_path / "x.cif").write_text("nonsense")
    with pytest.raises(InputError, match="x.cif: ") as error:
        list(io.read_structures(tmp_path / "x.cif"))
    assert "\n" not in str(error.value)
    (tmp_path / "x.xyz").write_text("")
    with pytest.raises(InputError, match="x.xyz: the file is empty"):
        list(io.read_structures(tmp_path / "x.xyz"))
    with pytest.raises(InputError, match="no such file"):
        list(io.read_structures(tmp_path / "none.xyz"))
    with pytest.raises(InputError, match="every 0"):
        list(io.read_structures(FORMATS / "CHGCAR.Si2.gz", every=0))


# -------------------------------------------------------------------------------------------------------------- XDATCAR
def xdatcar(frames, cell_every=None):
    """Text of an XDATCAR of two silicon and one oxygen atom; with `cell_every` the header returns, cells differ."""
    lines = []
    for i, positions in enumerate(frames):
        if i == 0 or cell_every:
            rows = (5 + 0.1 * (i if cell_every else 0)) * np.eye(3)
            lines += ["md", "1.0", *(" ".join(map(str, r)) for r in rows), "Si O", "2 1"]
        lines += [f"Direct configuration= {i + 1:5d}", *(" ".join(f"{x:.8f}" for x in p) for p in positions)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("cell_every", [None, 1])
@pytest.mark.parametrize("every", [1, 3])
def test_xdatcar(tmp_path, cell_every, every):
    """All frames, not the first alone; a header before each where the cell changes."""
    frames = np.random.default_rng(0).random((5, 3, 3)).round(8)
    path = tmp_path / "XDATCAR"
    path.write_text(xdatcar(frames, cell_every))
    found = list(io.read_structures(path, every=every))
    assert [name for name, _ in found] == [f"XDATCAR#{i + 1}" for i in range(0, 5, every)]
    for (_, s), i in zip(found, range(0, 5, every), strict=True):
        assert s.numbers.tolist() == [14, 14, 8] and s.pbc.all()
        cell = (5 + 0.1 * (i if cell_every else 0)) * np.eye(3)
        np.testing.assert_allclose(s.cell, cell)
        np.testing.assert_allclose(s.positions, frames[i] @ cell, atol=1e-7)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t[: t.rindex("\n", 0, -1) + 1], "line 15: the file ends where position of atom 3 of 3"),
        (lambda t: t.replace("Direct configuration=     2", "Direct configuration=     2\n1.0 ** 3.0", 1), "line 13"),
    ],
)
def test_damaged_xdatcar(tmp_path, change, message):
    path = tmp_path / "XDATCAR"
    path.write_text(change(xdatcar(np.full((2, 3, 3), 0.25))))
    with pytest.raises(InputError, match=message):
        list(io.read_structures(path))
