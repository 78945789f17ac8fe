"""`dcharge test` with derived quantities: every figure against numpy, the tables, the picture, bad input."""

import json
import sys

import numpy as np
import pytest
from tiny import calibrated, density, model_config, tiny_model

import dcharge
from dcharge.analysis import dipole_change, dipole_moment, gradient_and_laplacian
from dcharge.cli import main
from dcharge.density import Density, PointDensity
from dcharge.derivatives import Derivatives, density_derivatives
from dcharge.derived import Derived, Wanted
from dcharge.errors import InputError
from dcharge.evaluate import test
from dcharge.freeze import load_frozen, save_frozen
from dcharge.grid import Grid
from dcharge.io import HDF5Writer, write
from dcharge.metrics import Errors
from dcharge.structure import Structure

test.__test__ = False  # it is called as the command, and no test
SHAPE = (8, 7, 9)
VALENCE = {14: 4.0, 8: 6.0}


@pytest.fixture
def system(here):
    """Three densities that the model does not know exactly, and not neutral with 4 and 6 electrons for Si and O."""
    with HDF5Writer("all.h5", "float64") as file:
        for seed in range(3):
            rho = density(seed, shape=SHAPE)
            rho.values = rho.values * (1.01 + 0.05 * np.sin(rho.points()[:, 0] + seed).reshape(SHAPE))
            file.append(rho)
    return "all.h5"


def figures(found, truth):
    """The definitions, literally."""
    p, q = (np.ravel(x).astype(float) for x in (found, truth))
    return {
        "mae": np.abs(p - q).mean(),
        "rmse": np.sqrt(((p - q) ** 2).mean()),
        "r2": 1 - ((p - q) ** 2).sum() / ((q - q.mean()) ** 2).sum(),
        "r2_pearson": np.corrcoef(p, q)[0, 1] ** 2,
    }


def both(path, system, frame):
    """Reference, and prediction and baseline as `Density`, float32 as a test keeps them."""
    rho = dcharge.read(system, frame=frame)
    model = dcharge.load(path)
    parts = model.at(rho.structure, rho.points(), parts=True)
    return rho, *(Density(rho.structure, rho.grid, x[0].astype(np.float32).reshape(SHAPE)) for x in parts)


def test_fields(system, frozen):
    """Frame by frame and pooled, of the model and of its baseline alone."""
    report = test([frozen], [system], derive=Wanted(gradient=True, laplacian=True), json_file="r.json")
    assert json.loads(open("r.json").read())["derived"] == report["derived"]
    assert report["derived"]["derivatives"] == "fft" and "dipole" not in report["derived"]
    pooled = {}
    for i, frame in enumerate(report["frames"]):
        assert not {"dipole"} & set(frame["derived"])
        rho, model, base = both(frozen, system, i)
        for what in ("density", "gradient", "laplacian"):
            values = [d.total if what == "density" else gradient_and_laplacian(d)[what] for d in (rho, model, base)]
            assert frame["derived"][what] == pytest.approx(figures(values[1], values[0]), rel=1e-4)
            assert frame["derived"]["baseline"][what] == pytest.approx(figures(values[2], values[0]), rel=1e-4)
            pooled.setdefault(what, []).append([v.ravel() * np.sqrt(rho.grid.dv) for v in values])
        assert frame["derived"]["density"]["rmse"] == pytest.approx(frame["metrics"]["rmse"], rel=1e-9)
    assert report["derived"]["density"]["r2"] == pytest.approx(report["pooled"]["r2"], rel=1e-9)
    for what, parts in pooled.items():  # equal volumes here
        truth, model, base = (np.concatenate(x) for x in zip(*parts, strict=True))
        assert report["derived"][what]["r2"] == pytest.approx(figures(model, truth)["r2"], rel=1e-4)
        assert report["derived"]["baseline"][what]["r2_pearson"] == pytest.approx(
            figures(base, truth)["r2_pearson"], rel=1e-4
        )


def test_nothing_asked_for(system, frozen):
    """The report is what it was."""
    report = test([frozen], [system])
    assert "derived" not in report and "derived" not in report["frames"][0]


def test_dipoles(system, frozen, said):
    """Vectors of every frame; both R2 over frames. The frames are periodic and charged: both are told."""
    report = test([frozen], [system], derive=Wanted(dipole=True, valence=VALENCE))
    electrons, per_volume = [], []
    for i, frame in enumerate(report["frames"]):
        rho, *rest = both(frozen, system, i)
        found = frame["derived"]["dipole"]
        exact = [dipole_moment(d, VALENCE) for d in (rho, *rest)]
        for name, dipole in zip(("reference", "model", "baseline"), exact, strict=True):
            assert found[name]["electrons_eA"] == pytest.approx(dipole.electrons.tolist(), rel=1e-4)
            assert found[name]["per_volume_D_per_A3"] == pytest.approx(dipole.per_volume, rel=1e-4)
            assert found[name]["net_charge_e"] == pytest.approx(dipole.charge, abs=1e-4)
        assert found["ions_eA"] == pytest.approx(exact[0].ions.tolist()) and found["origin_A"] == [0, 0, 0]
        electrons.append([d.electrons for d in exact])
        per_volume.append([d.per_volume for d in exact])
    for key, values in (("electrons_eA", electrons), ("per_volume_D_per_A3", per_volume)):
        truth, model, base = np.moveaxis(np.array(values), 1, 0)
        assert report["derived"]["dipole"][key] == pytest.approx(figures(model, truth), rel=1e-3)
        assert report["derived"]["baseline"]["dipole"][key] == pytest.approx(figures(base, truth), rel=1e-3)
    text = said()
    assert "all.h5#1: net charge" in text and "one choice of the cell" in text
    assert "electrons: RMSE" in text and "total/V: RMSE" in text


def response(pbc, electrons=0.1):
    """What a Gaussian gains, another loses nearly: a charge is left, so that the origin counts."""
    cell = np.eye(3) * 8.0
    atoms = Structure([14, 8], [[3.5, 4, 4], [4.4, 4, 4]], cell, pbc, [0, 0, 0.3])
    grid = Grid((20, 20, 20), cell)
    r = np.linalg.norm(grid.points()[:, None] - [[4, 4, 3.7], [4, 4, 4.3]], axis=2)
    values = np.exp(-((r / 0.8) ** 2)) @ [electrons, -0.09]
    return Density(atoms, grid, values.reshape(grid.shape), "response")


def test_dipole_of_a_response():
    """About the mean of the atoms, as `dcharge analyze` measures it; the corner if asked for."""
    rho = response(False)
    predicted = response(False, 0.11)
    values = predicted.values.reshape(-1)
    found = Derived(Wanted(dipole=True), None).add(rho, "a", values, None)["dipole"]
    assert found["origin_A"] == pytest.approx([3.95, 4, 4]) and found["baseline"] is None
    for who, change in (("reference", rho), ("model", predicted)):
        assert found[who]["electrons_eA"] == pytest.approx(dipole_change(change).tolist(), abs=1e-9)
        assert abs(found[who]["net_charge_e"]) > 1e-3
    corner = Derived(Wanted(dipole=True, origin="corner"), None).add(rho, "a", values, None)["dipole"]
    assert corner["origin_A"] == [0, 0, 0]
    assert corner["model"]["electrons_eA"] == pytest.approx(dipole_change(predicted, "corner").tolist(), abs=1e-9)
    assert abs(corner["model"]["electrons_eA"][0] - found["model"]["electrons_eA"][0]) > 1e-3


def test_dipole_of_a_periodic_response():
    rho = response((True, True, False))
    with pytest.raises(InputError, match="periodic along a and b; the dipole moment is that of a molecule"):
        Derived(Wanted(dipole=True), None).add(rho, "a", rho.values.reshape(-1), None)


def test_neutral(system, frozen, said):
    """Electrons are scaled in reference and prediction, so that no charge is left."""
    report = test([frozen], [system], n=1, derive=Wanted(dipole=True, valence=VALENCE, neutral=True))
    found = report["frames"][0]["derived"]["dipole"]
    assert all(abs(found[who]["net_charge_e"]) < 1e-9 for who in ("reference", "model", "baseline"))
    assert "net charge" not in said()
    # one frame has no spread: undefined, not a number
    assert report["derived"]["dipole"]["per_volume_D_per_A3"]["r2"] is None


def test_autograd(system, here, monkeypatch):
    """The model's own derivatives, taken once, beside the reference's; the baseline alone has none here."""
    save_frozen(calibrated(model_config({"precision": "float64"})), "model.pth", {})
    passes, tiles = [], Derivatives.tiles
    monkeypatch.setattr(Derivatives, "tiles", lambda *args: passes.append(1) or tiles(*args))
    report = test(["model.pth"], [system], n=1, derive=Wanted(gradient=True, laplacian=True, derivatives="autograd"))
    assert len(passes) == 1
    rho = dcharge.read(system)
    _, gradient, hessian = density_derivatives(load_frozen("model.pth")[0], rho.structure, rho.points())
    own = figures(gradient.T, gradient_and_laplacian(rho)["gradient"])
    assert report["frames"][0]["derived"]["gradient"] == pytest.approx(own, rel=1e-6)
    expected = figures(np.trace(hessian, axis1=1, axis2=2), gradient_and_laplacian(rho)["laplacian"])
    frame = report["frames"][0]["derived"]
    assert frame["laplacian"] == pytest.approx(expected, rel=1e-6)
    assert report["derived"]["derivatives"] == "autograd" and list(frame["baseline"]) == ["density"]
    fft = test(["model.pth"], [system], n=1, derive=Wanted(laplacian=True))["frames"][0]["derived"]
    assert fft["laplacian"]["rmse"] != pytest.approx(expected["rmse"], rel=1e-6)


def test_command(system, frozen, here, said):
    """Table I and II as text, the picture, an ensemble."""
    call = ["test", "-m", str(frozen), "-s", system, "--laplacian", "--gradient", "--dipole", "--valence", "Si=4,O=6"]
    assert main([*call, "--plot", "parity.png", "-d", "detail", "--json", "r.json"]) == 0
    report = json.loads((here / "r.json").read_text())
    assert (here / "parity.png").read_bytes().startswith(b"\x89PNG") and not list(here.glob(".*"))
    text = (here / "detail.summary.txt").read_text()
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip().startswith("all.h5#")}
    derived = report["frames"][2]["derived"]
    lines = [line.split() for line in text.splitlines() if "all.h5#2" in line]
    assert len(rows) == 3 and len(lines) == 2
    order = [derived[w][k] for w in ("density", "gradient", "laplacian") for k in ("rmse", "r2", "r2_pearson")]
    assert lines[0][1] == "O2Si2" and [float(x) for x in lines[0][2:]] == pytest.approx(order, rel=1e-4)
    vectors = derived["dipole"]["model"]["electrons_eA"] + derived["dipole"]["reference"]["electrons_eA"]
    assert [float(x) for x in lines[1][1:7]] == pytest.approx(vectors, abs=1e-3)
    assert "R2 = 1 - SSE/SST, r2 = Pearson^2" in text
    save_frozen(tiny_model(5), "other.pth", {})
    assert main(["test", "-m", str(frozen), "other.pth", "-s", system, "--laplacian", "--json", "e.json"]) == 0
    assert json.loads((here / "e.json").read_text())["derived"]["baseline"] is None


def test_parity_panels(system, frozen, monkeypatch):
    """What is drawn: every quantity, model above reference; per frame three components and one |mu|/V."""
    seen = []
    monkeypatch.setattr("dcharge.derived.parity_plots", lambda panels, path, title: seen.extend(panels))
    test([frozen], [system], derive=Wanted(laplacian=True, dipole=True, valence=VALENCE, plot="a.pdf"))
    assert [p[0] for p in seen] == ["rho", "Laplacian", "dipole of the electrons", "dipole per volume"]
    assert [len(p[2]) for p in seen] == [3 * 504, 3 * 504, 9, 3]
    rho, model, _ = both(frozen, system, 0)
    np.testing.assert_allclose(seen[0][2][:504], rho.total.ravel(), rtol=1e-12)
    np.testing.assert_allclose(seen[0][3][:504], model.total.ravel(), atol=1e-6)


def test_picture_that_fails(system, frozen, here, monkeypatch):
    """The numbers are there all the same."""

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr("dcharge.derived.parity_plots", fail)
    with pytest.raises(OSError, match="no space"):
        test([frozen], [system], n=1, prefix="x", json_file="r.json", derive=Wanted(laplacian=True, plot="a.png"))
    assert json.loads((here / "r.json").read_text())["derived"] and (here / "x.summary.txt").exists()


def test_without_matplotlib(system, frozen, here, capsys, monkeypatch):
    """Told before the first frame."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("dcharge.evaluate.load", lambda *_: pytest.fail("work has begun"))
    assert main(["test", "-m", str(frozen), "-s", system, "--laplacian", "--plot", "a.png", "--json", "r.json"]) == 1
    assert "test: matplotlib is missing" in capsys.readouterr().err and not (here / "r.json").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--derivatives", "fft", "--dipole"], "--derivatives: belongs to --gradient and --laplacian"),
        (["--valence", "Si=4,O=6"], "--valence: belongs to --dipole"),
        (["--neutral", "--laplacian"], "--neutral: belongs to --dipole"),
        (["--plot", "a.gif"], "a.gif: .png, .pdf or .svg expected"),
        (["--plot", "no/a.png"], "there is no folder no"),
        (["--dipole", "--valence", "Si=4"], "charge of the ion O is not known"),
        (["--laplacian", "-s", "points"], "free points have no Laplacian"),
    ],
)
def test_bad_input(system, frozen, here, options, message, capsys):
    rho = density(0, shape=(3, 3, 3))
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1)), "points")
    assert main(["test", "-m", str(frozen), "-s", system, *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dcharge: error: ") and message in error


def test_autograd_of_a_family_that_is_not_smooth(system, here, capsys):
    """Refused before any prediction; the other way is named and works."""
    save_frozen(calibrated(model_config({"type": "cgcnn"})), "model.pth", {})
    call = ["test", "-m", "model.pth", "-s", system, "--laplacian"]
    assert main([*call, "--derivatives", "autograd"]) == 1
    assert "is not smooth, it jumps where the neighbours in its graph change" in capsys.readouterr().err
    assert main(call) == 0


def test_pearson():
    """1 for any straight line, whatever R2 says; weights count; undefined where there is no spread."""
    rng = np.random.default_rng(0)
    q, w = rng.normal(size=200), rng.uniform(0.5, 2, 200)
    p = 0.7 * q + 0.2 * rng.normal(size=200)
    errors = Errors()
    errors.add(p[:50], q[:50], w[:50])
    errors.add(p[50:], q[50:], w[50:])
    c = np.cov(p, q, aweights=w)
    assert errors.pearson2() == pytest.approx(c[0, 1] ** 2 / (c[0, 0] * c[1, 1]))
    line = Errors()
    line.add(3 - 2 * q, q)
    assert line.pearson2() == pytest.approx(1) and line.result()["r2"] < 0
    flat = Errors()
    flat.add(np.ones(5), q[:5])
    assert flat.pearson2() is None and Errors().pearson2() is None


def test_resolution(system, frozen):
    """Both Laplacians without their short waves; and what it belongs to."""
    report = test([frozen], [system], derive=Wanted(laplacian=True, resolution=2.0), json_file="r.json")
    rho, model, _ = both(frozen, system, 1)
    values = [gradient_and_laplacian(d, ("laplacian",), resolution=2.0)["laplacian"] for d in (rho, model)]
    assert report["frames"][1]["derived"]["laplacian"] == pytest.approx(figures(values[1], values[0]), rel=1e-4)
    assert report["derived"]["resolution_A"] == 2.0
    with pytest.raises(InputError, match="--resolution: belongs to --gradient and --laplacian"):
        Wanted(dipole=True, resolution=2.0)
    with pytest.raises(InputError, match="give --derivatives fft"):
        Wanted(laplacian=True, resolution=2.0, derivatives="autograd")


def test_prediction_without_vacuum(here, said):
    """A model with a constant in vacuum has no Fourier derivatives of a molecule: told, null, and nothing is lost."""
    model = calibrated(model_config({"type": "cgcnn"}))
    model.output_mean.fill_(0.1)
    save_frozen(model, "model.pth", {})
    cell = np.eye(3) * 12.0
    atom, grid = Structure([14], [[6.0, 6, 6]], cell, False), Grid((24, 24, 24), cell)
    values = np.exp(-((np.linalg.norm(grid.points() - 6.0, axis=1) / 0.9) ** 2)).reshape(grid.shape)
    write(Density(atom, grid, values), "one.h5")
    assert abs(dcharge.load("model.pth").at(atom, [[0.0, 0, 0]])).max() > 0.05
    report = test(["model.pth"], ["one.h5"], derive=Wanted(laplacian=True, plot="p.png"), json_file="r.json")
    (frame,) = json.loads(open("r.json").read())["frames"]
    assert frame["derived"]["laplacian"] is None and frame["derived"]["density"]["rmse"] > 0
    assert report["derived"]["laplacian"] is None
    assert "no vacuum at its ends" in said() and "Laplacian of this frame left out" in said()
    assert "1 of 1 predictions have none" in said()


def test_reference_without_derivatives_is_refused_first(here, frozen, monkeypatch):
    cell = np.eye(3) * 4.0
    grid = Grid((6, 6, 6), cell)
    write(Density(Structure([14], [[2.0, 2, 2]], cell, False), grid, np.ones(grid.shape)), "full.h5")
    monkeypatch.setattr("dcharge.evaluate.compare", lambda *args, **more: pytest.fail("predicted"))
    with pytest.raises(InputError, match="full.h5.*no vacuum at its ends"):
        test([frozen], ["full.h5"], derive=Wanted(laplacian=True))
