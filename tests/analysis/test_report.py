"""`dcharge analyze` from files to table, CSV, JSON and picture."""

import csv
import json

import numpy as np
import pytest
from sheets import AREA, SIGMA, STEP, K, blob, charge, sheets

from dcharge.cli import main
from dcharge.density import Density, PointDensity
from dcharge.io import HDF5Writer, write
from dcharge.structure import Structure


@pytest.fixture
def slab(here):
    """The response of a slab, one with other figures beside it, and the pair of densities it is the difference of."""
    rho = sheets()
    write(rho, "response.cube")
    off = sheets()
    off.values = 0.9 * off.values
    write(off, "predicted.cube")
    write(Density(rho.structure.with_(), rho.grid, 0.01 + rho.values), "em1.cube")
    still = Structure(rho.structure.numbers, rho.structure.positions, rho.structure.cell, rho.structure.pbc)
    write(Density(still, rho.grid, np.full(rho.grid.shape, 0.01)), "e0.cube")
    return here


ALL = ["--planar", "z", "--potential", "--transferred-charge"]


def figures(path="a.json", frame=0, what=None):
    entry = json.loads(open(path).read())["frames"][frame]
    entry = entry if what is None else entry[what]
    return {name: f["value"] for name, f in entry["figures"].items()}


def test_table_and_json(slab, capsys):
    """What is printed and written is what the library finds; a file holds six digits."""
    assert main(["analyze", "response.cube", *ALL, "-o", "a.json"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("response.cube (response, field 0 0 -1 V/A)\n")
    assert f"{-K * SIGMA:.5f}" in text and "V/A" in text
    found = figures()
    assert found["slope inside"] == pytest.approx(-K * SIGMA, rel=1e-4)
    assert found["potential step"] == pytest.approx(STEP, rel=1e-4)
    assert found["transferred charge"] == pytest.approx(SIGMA * AREA, rel=1e-4)
    assert {"total charge", "charge removed", "slab dipole", "largest planar average"} <= set(found)
    report = json.loads((slab / "a.json").read_text())
    assert (report["format"], report["version"]) == ("dcharge-analysis", 1)
    frame = report["frames"][0]
    assert frame["reference"] is None and frame["field_V_per_A"] == [0, 0, -1] and frame["kind"] == "response"
    curve = frame["curves"]["planar average"]
    np.testing.assert_allclose(curve["values"], charge(np.array(curve["height_A"])), atol=1e-8)
    assert frame["curves"]["potential"]["unit"] == "V"
    assert not list(slab.glob(".*"))


@pytest.mark.parametrize(
    "source", [["em1.cube", "--minus", "e0.cube"], ["em1.h5"], ["bare.cube", "--kind", "response"]]
)
def test_where_responses_come_from(slab, source):
    """--minus, `convert --minus`, and a difference of another program: the same figures."""
    assert main(["convert", "em1.cube", "em1.h5", "--minus", "e0.cube", "--dtype", "float64"]) == 0
    write(Density(sheets().structure, sheets().grid, sheets().values), "bare.cube")
    assert main(["analyze", *source, *ALL, "-o", "a.json"]) == 0
    found = figures()
    assert found["slope inside"] == pytest.approx(-K * SIGMA, rel=1e-3)
    assert found["transferred charge"] == pytest.approx(SIGMA * AREA, rel=1e-3)


def test_beside_a_reference(slab, capsys):
    """Prediction, reference and difference; a reference that is a density is subtracted from too."""
    for reference in (["response.cube"], ["em1.cube", "--minus", "e0.cube"]):
        call = ["analyze", "predicted.cube", "--reference", *reference, *ALL, "-o", "a.json", "-o", "a.csv"]
        assert main(call) == 0
        text = capsys.readouterr().out
        assert f"beside {reference[0]}" in text
        row = next(line.split() for line in text.splitlines() if "slope inside" in line)
        slope = -K * SIGMA
        assert [float(x) for x in row[2:5]] == pytest.approx([0.9 * slope, slope, -0.1 * slope], rel=1e-3)
        frame = json.loads((slab / "a.json").read_text())["frames"][0]
        assert frame["difference"]["transferred charge"] == pytest.approx(-0.1 * SIGMA * AREA, rel=1e-2)
        assert figures(what="reference")["potential step"] == pytest.approx(STEP, rel=1e-3)
        with open("a.csv") as stream:
            table = list(csv.DictReader(stream))
        rows = [r for r in table if r["quantity"] == "potential"]
        assert len(rows) == 120 and {r["unit"] for r in rows} == {"V"}
        assert float(rows[-1]["value"]) == pytest.approx(0.9 * float(rows[-1]["reference"]), rel=1e-3)
        single = [r for r in table if r["quantity"] == "slope inside"]
        assert len(single) == 1 and single[0]["height_A"] == "" and float(single[0]["reference"]) < 0


def test_several_frames_find_their_references(here, capsys):
    """By atoms, grid and field, in any order."""
    fields = [(0, 0, -1.0), (0, 0, -2.0)]
    with HDF5Writer("a.h5", "float64") as a, HDF5Writer("b.h5", "float64") as b:
        for i, writer in ((0, a), (1, a), (1, b), (0, b)):
            rho = sheets(field=fields[i])
            rho.values = rho.values * (i + 1)
            writer.append(rho)
    assert main(["analyze", "a.h5", "--reference", "b.h5", "--potential", "-o", "a.json"]) == 0
    for i in (0, 1):
        assert figures(frame=i)["slope inside"] == pytest.approx(-K * SIGMA * (i + 1), rel=1e-6)
        assert figures(frame=i, what="reference") == figures(frame=i)
    assert main(["analyze", "a.h5", "--reference", "response.cube", "--potential"]) == 1
    write(sheets(field=(0, 0, -3.0)), "c.cube")
    assert main(["analyze", "a.h5", "--reference", "c.cube", "--potential"]) == 1
    assert "a.h5#0 and reference c.cube cannot be compared: another electric field" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_picture(slab, kind, monkeypatch):
    from matplotlib.axes import Axes

    drawn, original = [], Axes.plot

    def noted(self, *args, **options):
        drawn.append(np.array(args[1]))
        return original(self, *args, **options)

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(Axes, "plot", noted)
    call = ["analyze", "predicted.cube", "--reference", "response.cube", *ALL, "--macroscopic", "2", "-o", f"a.{kind}"]
    assert main(call) == 0
    assert (slab / f"a.{kind}").stat().st_size > 1000
    assert len(drawn) == 6  # planar average, macroscopic average, potential: each beside its reference
    for predicted, reference in zip(drawn[::2], drawn[1::2], strict=True):
        np.testing.assert_allclose(predicted, 0.9 * reference, atol=1e-3 * np.abs(reference).max())


def test_dipole_of_a_molecule(here, capsys):
    rho = sheets(pbc=(0, 0, 0))
    cell = np.eye(3) * 8
    grid = type(rho.grid)((24, 24, 24), cell)
    values = blob(grid.points(), [4, 4, 3.9], 1.0) - blob(grid.points(), [4, 4, 4.0], 1.0)
    structure = Structure([1], [[4, 4, 4]], cell, False, [0, 0, 1.0])
    write(Density(structure, grid, values.reshape(grid.shape), "response"), "m.cube")
    assert main(["analyze", "m.cube", "--dipole", "-o", "a.csv"]) == 0
    with open("a.csv") as stream:
        table = {r["quantity"]: float(r["value"]) for r in csv.DictReader(stream)}
    assert table["dipole along field"] == pytest.approx(0.1, abs=1e-5)
    assert table["dipole along field (Debye)"] == pytest.approx(0.480320, abs=1e-5)
    assert main(["analyze", "m.cube", "--dipole", "-o", "a.png"]) == 1
    assert "a.png: nothing to draw" in capsys.readouterr().err and not (here / "a.png").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["response.cube"], "nothing asked for; one or more of --planar, --transferred-charge, --potential, --dipole"),
        (["response.cube", "--planar", "z", "--margin", "0"], "--margin: belongs to --potential, which is not asked"),
        (["response.cube", "--potential", "--macroscopic", "2"], "--macroscopic: belongs to --planar"),
        (["em1.cube", "--potential"], "the potential is a property of a response, this is a density"),
        (["e0.cube", "--minus", "e0.cube", "--potential"], "no electric field is known"),
        (["em1.cube", "--minus", "e0.cube", "--kind", "response", "--planar", "z"], "--kind makes no sense"),
        (["response.cube", "--potential", "--pbc", "F", "F", "F"], "for a molecule ask for --dipole"),
        (["response.cube", "--dipole"], "periodic along a and b; the dipole moment is that of a molecule"),
        (["response.cube", "--potential", "-o", "a.txt"], "a.txt: .csv, .json, .png, .pdf or .svg expected"),
        (["response.cube", "--potential", "-o", "no/a.csv"], "there is no folder no"),
        (["response.cube", "--planar", "z", "--reference", "em1.cube"], "its reference em1.cube a density"),
        (["response.cube", "--planar", "z", "--reference", "other.cube"], "cannot be compared: another grid"),
        (["points", "--planar", "z"], "free points have no planes"),
        (["absent.cube", "--planar", "z"], "absent.cube"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(slab, args, message, capsys):
    write(sheets(n=60), "other.cube")
    rho = sheets()
    write(PointDensity(rho.structure, rho.points([1, 2]), rho.values_at([1, 2])), "points")
    capsys.readouterr()
    assert main(["analyze", *args, "-v", "ERROR"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("dcharge: error: ") and message in error and error.count("\n") == 1
    assert "bug" not in error and not (slab / "a.csv").exists()


def test_axis_is_checked_by_the_parser(capsys):
    assert main(["analyze", "x.cube", "--planar", "c"]) == 2
    assert "argument --planar: invalid choice: 'c'" in capsys.readouterr().err
