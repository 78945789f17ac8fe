"""CHGCAR and CHG: what is read, what is written back, what is refused."""

import gzip
import lzma
import re

import numpy as np
import pytest
from ase.calculators.vasp import VaspChargeDensity
from made import FORMATS, HEADER, chgcar, make_density

import dcharge.io as io
from dcharge.errors import InputError

REAL = [("CHGCAR.NaCl.xz", 8, 1), ("CHGCAR.Si2.gz", 8, 1), ("CHGCAR.Si10.xz", 40, 1), ("CHGCAR.nospin.gz", 1, 1),
        ("CHGCAR.spin.xz", 1, 2)]  # fmt: skip


def text_of(name):
    data = (FORMATS / name).read_bytes()
    return (gzip if name.endswith("gz") else lzma).decompress(data)


def put(folder, text, name="CHGCAR"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name, electrons, channels", REAL)
def test_real_files(name, electrons, channels, tmp_path):
    density = io.read(FORMATS / name)
    assert density.electrons() == pytest.approx(electrons, abs=1e-5)
    assert len(density.values) == channels and density.structure.pbc.all()
    plain = tmp_path / "CHGCAR"
    plain.write_bytes(text_of(name))
    other = VaspChargeDensity(str(plain))
    assert np.allclose(density.total, other.chg[0], rtol=1e-12)
    assert np.array_equal(density.structure.numbers, other.atoms[0].numbers)
    assert np.allclose(density.structure.positions, other.atoms[0].positions)
    if channels == 2:
        assert np.allclose(density.values[1], other.chgdiff[0], rtol=1e-12)


@pytest.mark.parametrize("name, electrons, channels", REAL)
def test_written_back_as_it_was(name, electrons, channels, tmp_path):
    density = io.read(FORMATS / name)
    assert sum(t.count("augmentation") for t in density.extra["vasp"]["tails"]) == channels * len(density.structure)
    io.write(density, tmp_path / "CHGCAR")
    before, after = text_of(name).splitlines(), (tmp_path / "CHGCAR").read_bytes().splitlines()
    assert [line.rstrip() for line in before] == [line.rstrip() for line in after]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zz", ".xz", ".bz2"])
def test_round_trip(suffix, tmp_path):
    density = make_density(n_channels=2, pbc=(True, True, False), field=(0.1, 0, -1.0))
    io.write(density, tmp_path / f"CHGCAR{suffix}")
    again = io.read(tmp_path / f"CHGCAR{suffix}")
    assert np.allclose(again.values, density.values, rtol=1e-10, atol=0)
    assert np.allclose(again.structure.positions, density.structure.positions, atol=1e-12)
    assert np.array_equal(again.structure.pbc, density.structure.pbc)
    assert np.array_equal(again.structure.field, density.structure.field)
    assert again.channels == ("total", "spin")


def test_response_keeps_its_kind(tmp_path, density):
    density.kind = "response"
    io.write(density, tmp_path / "CHGCAR")
    assert io.read(tmp_path / "CHGCAR").kind == "response"


def test_chg(tmp_path, density):
    io.write(density, tmp_path / "CHG")
    assert len((tmp_path / "CHG").read_text().splitlines()[13].split()) == 10
    assert np.allclose(io.read(tmp_path / "CHG").values, density.values, rtol=1e-4, atol=0)


def test_changed_structure_gets_a_new_header(tmp_path):
    density = io.read(FORMATS / "CHGCAR.Si2.gz")
    density.structure = density.structure.with_(positions=density.structure.positions + 0.1)
    io.write(density, tmp_path / "CHGCAR")
    assert np.allclose(io.read(tmp_path / "CHGCAR").structure.positions, density.structure.positions)


def test_another_comment_keeps_the_augmentation(tmp_path):
    density = io.read(FORMATS / "CHGCAR.Si2.gz")
    density.source["comment"] = "predicted; augmentation occupancies of another calculation"
    io.write(density, tmp_path / "CHGCAR")
    again = io.read(tmp_path / "CHGCAR")
    assert "predicted; augmentation" in (tmp_path / "CHGCAR").read_text().split("\n")[0]
    assert again.extra["vasp"]["tails"] == density.extra["vasp"]["tails"]
    io.write(again, tmp_path / "CHGCAR.2")
    assert (tmp_path / "CHGCAR.2").read_bytes() == (tmp_path / "CHGCAR").read_bytes()


def test_order_of_atoms_is_kept(tmp_path):
    density = make_density()
    density.structure = density.structure.with_(numbers=np.array([1, 8, 1]))
    io.write(density, tmp_path / "CHGCAR")
    assert io.read(tmp_path / "CHGCAR").structure.symbols == ["H", "O", "H"]


def test_origin_moves_the_atoms(tmp_path):
    density = make_density(origin=(1.0, 0.5, 0.0))
    io.write(density, tmp_path / "CHGCAR")
    again = io.read(tmp_path / "CHGCAR")
    assert np.allclose(again.structure.positions, density.structure.positions - [1.0, 0.5, 0.0])


def test_grid_of_another_cell_is_refused(tmp_path):
    density = make_density()
    density.structure = density.structure.with_(cell=density.structure.cell * 2)
    with pytest.raises(InputError, match="spans the whole cell"):
        io.write(density, tmp_path / "CHGCAR")
    assert not list(tmp_path.iterdir())


# --- headers ---


def read_header(tmp_path, header, **options):
    return io.read(put(tmp_path, chgcar(header=header)), **options).structure


def test_selective_dynamics(tmp_path):
    header = HEADER.replace("Direct", "Selective dynamics\nDirect").replace("0.25 0.0 0.0", "0.25 0.0 0.0 T T F")
    assert np.allclose(read_header(tmp_path, header).positions[1], [1, 0, 0])


def test_cartesian_scaled(tmp_path):
    header = HEADER.replace("1.0\n", "2.0\n", 1).replace("Direct", "Cartesian")
    structure = read_header(tmp_path, header)
    assert structure.cell[0, 0] == 8 and np.allclose(structure.positions[1], [0.5, 0, 0])


def test_negative_scale_is_the_volume(tmp_path):
    structure = read_header(tmp_path, HEADER.replace("1.0\n", "-512.0\n", 1))
    assert structure.volume == pytest.approx(512) and structure.cell[0, 0] == pytest.approx(8)


def test_three_scales(tmp_path):
    structure = read_header(tmp_path, HEADER.replace("1.0\n", "1.0 2.0 3.0\n", 1))
    assert np.allclose(np.diag(structure.cell), [4, 8, 12])


def test_vasp4_names_in_the_comment(tmp_path):
    header = HEADER.replace("O H\n", "").replace("made up", "O H")
    assert read_header(tmp_path, header).symbols == ["O", "H", "H"]


def test_vasp4_without_names(tmp_path):
    with pytest.raises(InputError, match=r"CHGCAR: line 6: no species line \(VASP 4\)"):
        read_header(tmp_path, HEADER.replace("O H\n", ""))


@pytest.mark.parametrize("species", ["O_s H_pv", "O/0123abcd H/4567", "O.5 H1.25"])
def test_names_of_potentials(species, tmp_path):
    assert read_header(tmp_path, HEADER.replace("O H", species)).symbols == ["O", "H", "H"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("O H", "O Hh", r"line 6: 'Hh' is not a chemical symbol; did you mean"),
        ("1 2\n", "1\n", r"line 7: 2 species \(O H\) but 1 counts"),
        ("1 2\n", "1 3\n", r"line 12: position of atom 4 of 4"),
        ("Direct", "Sideways", None),
        ("Direct", "Zigzag", r"line 8: 'Direct' or 'Cartesian' expected, found 'Zigzag'"),
        ("1.0\n4.0", "zero\n4.0", r"line 2: the scale"),
        ("0.0 4.0 0.0", "4.0 0.0 0.0", r"zero volume"),
        ("0.25 0.0 0.0", "0.25 ****** 0.0", r"line 10: position of atom 2 of 3"),
    ],
)
def test_bad_headers(old, new, message, tmp_path):
    if message is None:
        new, message = "Selective dynamics", r"line 9: 'Direct' or 'Cartesian' expected"
    with pytest.raises(InputError, match=message):
        read_header(tmp_path, HEADER.replace(old, new, 1))


# --- bodies ---


def test_x_is_fastest(tmp_path):
    density = io.read(put(tmp_path, chgcar()))
    assert np.allclose(density.total[:, 0, 0] * 64, [1, 2]) and np.allclose(density.total[0, 0, :] * 64, [1, 5, 9])


def test_numbers_that_touch(tmp_path):
    words = ["0.1E+01-0.2E+01", "-.373E-01", "0.123-102", "1", "2", "3", "4", "5", "6", "7", "8"]
    values = io.read(put(tmp_path, chgcar(words))).total.reshape(-1, order="F") * 64
    assert np.allclose(values[:4], [1, -2, -0.0373, 0.123e-102], rtol=1e-14)


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.99])
def test_truncated(cut, tmp_path):
    text = text_of("CHGCAR.Si2.gz").decode()
    text = text[: int(len(text) * cut)]
    with pytest.raises(InputError) as error:
        io.read(put(tmp_path, text))
    line = int(re.search(r"CHGCAR: line (\d+): .*end", str(error.value))[1])
    assert abs(line - text.count("\n")) <= 1 and "\n" not in str(error.value)


def test_stars(tmp_path):
    words = ["1"] * 7 + ["******"] + ["1"] * 4
    with pytest.raises(InputError, match=r"CHGCAR: line 15: '\*+' found where value 8 of 12"):
        io.read(put(tmp_path, chgcar(words)))


def test_nan(tmp_path):
    with pytest.raises(InputError, match=r"CHGCAR: 2 values are nan or inf, the first in line 14"):
        io.read(put(tmp_path, chgcar(["nan", "inf"] + ["1"] * 10)))


def test_too_many_values(tmp_path):
    with pytest.raises(InputError, match="more than the grid|text behind the last value"):
        io.read(put(tmp_path, chgcar(["1"] * 20)))
    with pytest.raises(InputError, match="text behind the last value"):
        io.read(put(tmp_path, chgcar(["1"] * 13)))


@pytest.mark.parametrize("tail", ["2 2 x3\n1 2 3\n", "\nhello\n", chgcar()], ids=["grid", "words", "frame"])
def test_text_behind_the_density(tmp_path, tail):
    """A damaged grid line of the spin block, or another frame, is not passed over."""
    with pytest.raises(InputError, match=r"CHGCAR: line 1[678]: neither augmentation nor a further density block"):
        io.read(put(tmp_path, chgcar(tail=tail)))


def test_noncollinear(tmp_path, caplog):
    block = chgcar()[len(HEADER) :]
    with caplog.at_level("INFO", "dcharge"):
        density = io.read(put(tmp_path, HEADER + block * 4))
    assert density.channels == ("total",) and "noncollinear" in caplog.text
    with pytest.raises(InputError, match="3 density blocks"):
        io.read(put(tmp_path, HEADER + block * 3))


def test_moments_between_blocks_are_kept(tmp_path):
    tail = "augmentation occupancies   1   2\n  0.1E+00 0.2E+00\n  0.5 0.5 0.5\n"
    block = chgcar()[len(HEADER) :]
    text = HEADER + block + tail + block + tail
    density = io.read(put(tmp_path, text))
    assert density.extra["vasp"]["tails"] == [tail, tail]
    io.write(density, tmp_path / "CHGCAR.out")
    assert (tmp_path / "CHGCAR.out").read_text().split() == [
        *HEADER.split(), *(re.sub(r"(\d)\.(\d+)E\+0(\d)", _fortran, block) + tail).split() * 2]  # fmt: skip


def _fortran(found):
    digits, exponent = found[1] + found[2][:10], int(found[3]) + 1
    return f"0.{digits}E+0{exponent}"


def test_augmentation_cut_short(tmp_path):
    tail = "augmentation occupancies   1   4\n  0.1E+00 0.2E+00\n"
    with pytest.raises(InputError, match="line 18: the file ends after 2 of the 4 augmentation occupancies of atom 1"):
        io.read(put(tmp_path, chgcar(tail=tail)))


def test_frames_of_molecular_dynamics(tmp_path):
    text = chgcar() + chgcar(header=HEADER.replace("0.25", "0.30")) + chgcar(shape=(2, 2, 2), values=["1"] * 8)
    system = io.open_system(put(tmp_path, text, "CHG"))
    assert [f.n_points for f in system.frames] == [12, 12, 8]
    assert [f.name for f in system.frames] == ["CHG#0", "CHG#1", "CHG#2"]
    assert system.frames[1].read().structure.positions[1, 0] == pytest.approx(1.2)
    assert len(list(io.read_frames(tmp_path / "CHG"))) == 3
    with pytest.raises(InputError, match="frame 3 asked for; there are 3"):
        io.read(tmp_path / "CHG", frame=3)


def test_elfcar_is_no_density():
    with pytest.raises(InputError, match="ELFCAR files hold no electron density"):
        io.read(FORMATS / "ELFCAR.gz")


def test_empty(tmp_path):
    with pytest.raises(InputError, match="CHGCAR"):
        io.read(put(tmp_path, ""))


def test_periodicity_is_said_once(tmp_path, caplog):
    path = put(tmp_path, chgcar())
    with caplog.at_level("INFO", "dcharge"):
        io.read(path, pbc=[1, 1, 0])
        assert "periodic" not in caplog.text
        io.read(path)
        io.read(path)
    assert caplog.text.count("taken as periodic") == 1


def test_damaged_bytes_give_one_line(tmp_path):
    """Cut, overwritten and shuffled files: a density or an InputError, nothing else."""
    rng = np.random.default_rng(3)
    good = chgcar(tail="augmentation occupancies   1   2\n  0.1E+00 0.2E+00\n").encode()
    path = tmp_path / "CHGCAR"
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            a, n = rng.integers(0, len(data)), rng.integers(1, 20)
            data[a : a + n] = rng.choice([b"", b"\n", b"x", b"-", b" ", b"9" * 5, b"\xff"])
        path.write_bytes(bytes(data))
        try:
            io.read(path)
        except InputError as error:
            assert "\n" not in str(error) and "CHGCAR" in str(error)
