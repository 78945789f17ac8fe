"""Ensembles: mean and standard deviation of several models, in arrays and files; calibration; what may not be mixed."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import spearmanr
from tiny import calibrated, density, merged, model_config, predicted, stirred, structure

import dcharge
from dcharge.calibration import CELLS, Calibration, cell, edge
from dcharge.cli import main
from dcharge.density import PointDensity
from dcharge.ensemble import Ensemble, load_models, mean_and_deviation
from dcharge.errors import InputError
from dcharge.evaluate import test
from dcharge.freeze import save_frozen
from dcharge.io import HDF5Writer, write
from dcharge.io.writers import deviation_name
from dcharge.models import make_model
from dcharge.predict import Predictor, run

test.__test__ = False  # it is called as the command, and no test


@pytest.fixture(scope="module", params=["deep_charge", "fireann", "painn", "schnet", "cgcnn"])
def models(request, tmp_path_factory):
    """Three frozen models of one input, other seeds: paths."""
    folder = tmp_path_factory.mktemp(request.param)
    for seed in (1, 2, 3):
        model = stirred(calibrated(model_config({"type": request.param}), seed), seed, 0.1)
        baseline = model.baseline
        model.output_scale.fill_(0.2)  # the baseline knows this density: the networks would hardly count
        if request.param == "cgcnn":  # its mean over nodes hardly varies: without what all points share, enlarged
            points, model.baseline = np.random.default_rng(0).uniform(0, 5, (300, 3)), None
            values = predicted(model.eval(), structure(1), points)
            model.output_scale.mul_(0.1 / values.std())
            model.output_mean.fill_(-values.mean() * 0.1 / values.std())
            model.baseline = baseline
        save_frozen(model, folder / f"{seed}.pth", {"checkpoint": str(seed)})
    return [str(folder / f"{seed}.pth") for seed in (1, 2, 3)]


@pytest.fixture
def poscar(here):
    structure(1).to_ase().write("POSCAR", format="vasp", direct=False)
    return "POSCAR"


def by_hand(models, **options):
    """Mean and standard deviation of what every model predicts alone."""
    each = np.array([dcharge.load(m).predict(structure(1), dtype=np.float64, **options).values for m in models])
    return each.mean(0), each.std(0)


def close(a, b, digits=1e-6):
    np.testing.assert_allclose(a, b, rtol=0, atol=digits * np.abs(b).max())


def test_mean_and_deviation():
    rho = np.random.default_rng(0).normal(5, 1e-3, (4, 1, 50))
    mean, deviation = mean_and_deviation(rho)
    np.testing.assert_allclose(mean, rho.mean(0), rtol=1e-14)
    np.testing.assert_allclose(deviation, rho.std(0), rtol=1e-10)
    assert mean_and_deviation(rho.astype(np.float32))[1].dtype == np.float32


def test_grid(models):
    ensemble = dcharge.load(models)
    assert isinstance(ensemble, Ensemble) and len(ensemble) == 3
    mean, deviation = ensemble.predict(structure(1), shape=(6, 5, 7))
    expected = by_hand(models, shape=(6, 5, 7))
    close(mean.values, expected[0])
    close(deviation.values, expected[1], 1e-4)
    assert deviation.values.min() >= 0 and deviation.values.max() > 1e-4 * mean.values.max()
    assert "standard deviation" in deviation.name


def test_points(models):
    points = np.random.default_rng(0).uniform(-3, 8, (30, 3))
    mean, deviation = dcharge.load(models).predict(structure(1), points=points)
    assert isinstance(mean, PointDensity)
    each = np.array([dcharge.load(m).at(structure(1), points) for m in models])
    close(mean.values, each.mean(0))
    close(deviation.values, each.std(0), 1e-5)


def test_atoms_of_the_pseudo_species_are_points(models):
    """As for one model."""
    s = structure(1)
    points = np.random.default_rng(0).uniform(0, 4, (7, 3))
    both = s.with_(numbers=np.append(s.numbers, [0] * 7), positions=np.append(s.positions, points, axis=0))
    ensemble = dcharge.load(models)
    for a, b in zip(ensemble.predict(both), ensemble.predict(s, points=points), strict=True):
        assert a.structure.numbers.tolist() == s.numbers.tolist()
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_allclose(a.positions, points)
    for options in ({"shape": (3, 3, 3)}, {"electrons": 20}, {"symmetry": True}):
        with pytest.raises(InputError, match="predict: .* free points"):
            ensemble.predict(both, **options)


def test_electrons(models):
    """Both are scaled by what the mean asks for."""
    ensemble = dcharge.load(models)
    plain, scaled = (ensemble.predict(structure(1), shape=(6, 5, 7), electrons=e) for e in (None, 20.0))
    assert scaled[0].electrons() == pytest.approx(20.0)
    factor = 20.0 / plain[0].electrons()
    for a, b in zip(scaled, plain, strict=True):
        np.testing.assert_allclose(a.values, factor * b.values, rtol=1e-5)


def test_tiles_do_not_matter(models):
    ensemble = dcharge.load(models)
    small = Ensemble(
        [Predictor(p.model, tile=n) for p, n in zip(ensemble.predictors, (64, 100, 64), strict=True)], models
    )
    assert {p.tile for p in small.predictors} == {64}
    for a, b in zip(
        small.predict(structure(1), shape=(9, 9, 9)), ensemble.predict(structure(1), shape=(9, 9, 9)), strict=True
    ):
        close(a.values, b.values, 1e-4)


def test_coarse(models):
    """As the mean of models that are each interpolated."""
    mean, deviation = dcharge.load(models).predict(structure(1), shape=(12, 12, 12), coarse=2)
    expected = by_hand(models, shape=(12, 12, 12), coarse=2)
    close(mean.values, expected[0])
    close(deviation.values, expected[1], 1e-4)


def test_symmetry(models):
    pytest.importorskip("spglib")
    from ase.build import bulk

    ensemble, silicon = dcharge.load(models), bulk("Si", "diamond", a=5.4, cubic=True)
    whole, few = (ensemble.predict(silicon, shape=(8, 8, 8), symmetry=s) for s in (False, True))
    before = ensemble.evaluations
    ensemble.predict(silicon, shape=(8, 8, 8), symmetry=True)
    assert ensemble.evaluations - before < 3 * 8**3 / 10
    for a, b in zip(few, whole, strict=True):
        close(a.values, b.values, 1e-4)  # of the deviation, a small difference of large numbers


def test_hdf5(models, poscar):
    """The deviation lies in a dataset of the layout of rho, scaled with it."""
    assert run(models, [poscar, poscar], shape=(6, 5, 7), output="rho.h5", dtype="float64") == 2
    mean, deviation = by_hand(models, shape=(6, 5, 7))
    with h5py.File("rho.h5") as file:
        assert file["std"].shape == file["rho"].shape == (2 * 210,) and file["std"].attrs["unit"] == "e/Angstrom^3"
        close(file["rho"][210:], mean.ravel())
        close(file["std"][210:], deviation.ravel(), 1e-4)
    close(dcharge.read("rho.h5", frame=1).values, mean)
    run(models, [poscar], shape=(6, 5, 7), output="rho.h5", dtype="float64", electrons=20.0)
    assert dcharge.read("rho.h5").electrons() == pytest.approx(20)
    with h5py.File("rho.h5") as file:
        factor = 20 / (mean.sum() * dcharge.read("rho.h5").grid.dv)
        close(file["std"][...], factor * deviation.ravel(), 1e-4)


@pytest.mark.parametrize("name, beside", [("rho.cube.gz", "rho.std.cube.gz"), ("CHGCAR", "CHGCAR.std")])
def test_text_files(models, poscar, here, name, beside):
    run(models, [poscar], shape=(6, 5, 7), output=name)
    assert sorted(p.name for p in here.iterdir()) == sorted(["POSCAR", name, beside])
    for path, expected, digits in zip((name, beside), by_hand(models, shape=(6, 5, 7)), (1e-5, 1e-4), strict=True):
        close(dcharge.read(path).values, expected, digits)
    assert "standard deviation" in dcharge.read(beside).source["comment"]


def test_pattern(models, here, said):
    from ase.io import write as ase_write

    ase_write("md.xyz", [structure(i).to_ase() for i in range(2)], format="extxyz")
    run(models, ["md.xyz"], shape=(3, 4, 5), pattern="rho.%02d.cube")
    assert sorted(p.name for p in here.glob("rho*")) == [f"rho.0{i}{s}.cube" for i in range(2) for s in ("", ".std")]
    assert "written: rho.01.cube and rho.01.std.cube" in said()


def test_deviation_is_not_written_over_an_input(models, poscar, here):
    write(density(1, shape=(3, 3, 3)), "rho.std.cube")
    before = Path("rho.std.cube").read_bytes()
    with pytest.raises(InputError, match=r"rho\.std\.cube: is read by this command"):
        run(models, ["rho.std.cube"], shape=(3, 3, 3), output="rho.cube")
    assert Path("rho.std.cube").read_bytes() == before and not Path("rho.cube").exists()


def test_augmentation_belongs_to_the_mean_alone(here, tmp_path):
    import lzma

    (here / "CHGCAR.dft").write_bytes(
        lzma.decompress((Path(__file__).parent / "data/formats/CHGCAR.Si10.xz").read_bytes())
    )
    for seed in (1, 2):
        save_frozen(calibrated(model_config(), seed), f"{seed}.pth", {})
    run(["1.pth", "2.pth"], ["CHGCAR.dft"], like="CHGCAR.dft", output="CHGCAR")
    assert "augmentation" in Path("CHGCAR").read_text()
    assert "augmentation" not in Path("CHGCAR.std").read_text()


@pytest.mark.parametrize(
    "path, beside",
    [
        ("rho.cube", "rho.std.cube"),
        ("a/b.rho.cub.xz", "a/b.rho.std.cub.xz"),
        ("CHGCAR.gz", "CHGCAR.std.gz"),
        ("x.CHGCAR", "x.CHGCAR.std"),
        ("rho.h5", None),
    ],
)
def test_names(path, beside):
    assert deviation_name(path) == (None if beside is None else Path(beside))


def test_writer_wants_deviations_where_announced(here):
    rho = density(0, shape=(2, 2, 2))
    for deviation in (False, True):
        with pytest.raises(ValueError, match="missing" if deviation else "not expected"):
            with HDF5Writer("x.h5", deviation=deviation) as file:
                file.begin(rho.structure, rho.grid)
                file.put(np.arange(8), np.zeros(8), None if deviation else np.zeros(8))
    assert not list(here.iterdir())


# --------------------------------------------------------------------------------------------------- what does not fit
@pytest.mark.parametrize(
    "change, message",
    [
        ({"type_map": ["O", "Si"]}, r"the type map of 1\.pth is \['Si', 'O'\], that of other\.pth \['O', 'Si'\]"),
        ({"type_map": ["Si", "O", "H"]}, r"the type map of 1\.pth"),
        ({"descriptor": {"rcut": 4.5}}, r"the cutoff of 1\.pth is 4 Angstrom, that of other\.pth 4\.5 Angstrom"),
        ({"target": "response", "baseline": {"type": "none"}}, r"the target of 1\.pth is density, .* response"),
        ({"type": "fireann", "field": True, "baseline": {"type": "none"}}, r"the electric field of 1\.pth is not seen"),
        ({"baseline": {"type": "none"}}, r"the baseline of 1\.pth is additive, that of other\.pth none"),
    ],
)
def test_mixed(here, change, message, capsys):
    save_frozen(calibrated(model_config(), 1), "1.pth", {})
    config = model_config({"type": change.get("type", "deep_charge")})
    save_frozen(make_model(merged(config, change), 2), "other.pth", {})
    with pytest.raises(InputError, match="ensemble: " + message):
        load_models(["1.pth", "other.pth"])


def test_same_model_twice(models):
    with pytest.raises(InputError, match=r"3\.pth is given twice"):
        load_models([*models, models[2]])


def test_unknown_species_and_missing_file(models, here, capsys):
    (here / "C.xyz").write_text('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nC 0 0 0\n')
    call = ["predict", "C.xyz", "--grid", "2", "2", "2", "-o", "rho.cube", "-m", *models]
    assert main(call) == 1
    assert "species C not in type_map" in capsys.readouterr().err
    assert main([*call, "missing.pth"]) == 1
    assert "missing.pth: " in capsys.readouterr().err
    assert [p.name for p in here.iterdir()] == ["C.xyz"]


# ------------------------------------------------------------------------------------------------------- command line
@pytest.mark.parametrize("order", ["models first", "structure first", "twice -m"])
def test_command(models, poscar, here, order):
    """Structures may follow the models behind -m."""
    rest = ["--grid", "3", "3", "3", "-o", "rho.cube"]
    call = {
        "models first": ["-m", *models, poscar, *rest],
        "structure first": [poscar, *rest, "-m", *models],
        "twice -m": [poscar, "-m", models[0], "-m", *models[1:], *rest],
    }[order]
    assert main(["predict", *call]) == 0
    close(dcharge.read("rho.std.cube").values, by_hand(models, shape=(3, 3, 3))[1], 1e-4)


def test_models_without_a_suffix(models, poscar, here):
    for m in models[:2]:
        (here / Path(m).stem).write_bytes(Path(m).read_bytes())
    assert main(["predict", "-m", "1", "2", poscar, "--grid", "2", "2", "2", "-o", "rho.h5"]) == 0
    with h5py.File("rho.h5") as file:
        assert "std" in file


def test_structure_is_missing(models, capsys):
    assert main(["predict", "-m", *models, "--grid", "2", "2", "2", "-o", "rho.cube"]) == 2
    assert "STRUCTURE" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- dcharge test
def test_report(models, here, capsys):
    with HDF5Writer("all.h5", "float64") as file:
        for seed, shape in ((4, (6, 5, 7)), (5, (8, 8, 8))):
            file.append(density(seed, shape=shape))
    report = test(models, ["all.h5"], json_file="report.json", prefix="detail")
    assert json.loads(Path("report.json").read_text()) == json.loads(json.dumps(report))
    ensemble, parts = dcharge.load(models), []
    for i, frame in enumerate(report["frames"]):
        rho = dcharge.read("all.h5", frame=i)
        mean, deviation = (x[0] for x in ensemble.at(rho.structure, rho.points()))
        truth = rho.total.ravel()
        assert frame["metrics"]["mae"] == pytest.approx(np.abs(mean - truth).mean(), rel=1e-5)
        found = frame["deviation"]
        assert found["avg_devi"] == pytest.approx(deviation.mean(), rel=1e-4)
        assert found["max_devi"] == pytest.approx(deviation.max(), rel=1e-4)
        assert found["rel_devi_percent"] == pytest.approx(100 * deviation.sum() / np.abs(mean).sum(), rel=1e-4)
        ratio = np.sqrt(np.square(mean - truth).mean() / np.square(deviation).mean())
        assert found["error_over_deviation"] == pytest.approx(ratio, rel=1e-4)
        assert found["spearman"] == pytest.approx(spearmanr(np.abs(mean - truth), deviation)[0], abs=3e-3)
        detail = np.load(f"detail.all.h5_{i}.npz")
        close(detail["std"].ravel(), deviation, 1e-5)
        close(detail["predicted"].ravel(), mean, 1e-5)
        parts.append((deviation, rho.grid.dv))
    pooled = report["ensemble"]["deviation"]
    volume = sum(len(d) * dv for d, dv in parts)
    assert pooled["avg_devi"] == pytest.approx(sum(d.sum() * dv for d, dv in parts) / volume, rel=1e-4)
    alone = [test([m], ["all.h5"])["pooled"]["nmae_percent"] for m in models]
    assert report["ensemble"]["nmae_percent"] == pytest.approx(alone, rel=1e-5)
    assert sum(row["n_points"] for row in report["ensemble"]["bins"]) == report["pooled"]["n_points"]
    summary = Path("detail.summary.txt").read_text()
    assert "Spearman" in summary and "all.h5#1" in summary


def test_report_of_points(models, here):
    rho = density(4, shape=(6, 5, 7))
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1)), "points")
    write(rho, "rho.h5")
    a, b = (test(models, [s])["ensemble"]["deviation"] for s in ("points", "rho.h5"))
    assert a == pytest.approx(b, rel=1e-3)


def test_one_model_has_nothing_of_it(models, here):
    write(density(4, shape=(4, 4, 4)), "rho.cube")
    report = test(models[:1], ["rho.cube"])
    assert "ensemble" not in report and "deviation" not in report["frames"][0]


@pytest.mark.parametrize("options", [["--coarse", "1,2"], ["--precision", "bf16"], ["--store"]])
def test_one_model_at_a_time(models, options, capsys):
    assert main(["test", "-m", *models, "-s", "x.cube", *options]) == 1
    assert f"{options[0]} is measured for one model at a time" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- calibration
def synthetic(n=20_000, seed=0):
    """Errors that are normal with 1.5 times the deviation."""
    rng = np.random.default_rng(seed)
    deviation = 10 ** rng.uniform(-4, -1, n)
    truth = rng.uniform(0, 3, n)
    return truth + 1.5 * deviation * rng.normal(size=n), deviation, truth


def test_calibration_of_known_errors():
    mean, deviation, truth = synthetic()
    calibration = Calibration()
    calibration.add(mean, deviation, truth, 0.3)
    found = calibration.result()
    assert found["spearman"] == pytest.approx(spearmanr(np.abs(mean - truth), deviation)[0], abs=1e-3)
    assert found["error_over_deviation"] == pytest.approx(1.5, rel=0.03)
    assert found["rms_error"] == pytest.approx(np.sqrt(np.square(mean - truth).mean()), rel=1e-12)
    assert found["rms_deviation"] == pytest.approx(np.sqrt(np.square(deviation).mean()), rel=1e-12)
    rows = calibration.bins()
    assert len(rows) == 10 and sum(r["n_points"] for r in rows) == len(mean)
    assert all(r["error_over_deviation"] == pytest.approx(1.5, rel=0.1) for r in rows)
    assert all(r["n_points"] == pytest.approx(2000, rel=0.1) for r in rows)
    row = rows[4]
    inside = (deviation >= row["from"]) & (deviation < row["to"])
    assert inside.sum() == row["n_points"]
    assert row["rms_error"] == pytest.approx(np.sqrt(np.square(mean - truth)[inside].mean()), rel=1e-10)


def test_calibration_adds_up():
    mean, deviation, truth = synthetic(999)
    whole, parts = Calibration(), Calibration()
    whole.add(mean, deviation, truth)
    for span in (slice(0, 200), slice(200, 999)):
        part = Calibration()
        part.add(mean[span], deviation[span], truth[span])
        parts += part
    assert parts.result() == pytest.approx(whole.result()) and parts.bins() == whole.bins()


def test_calibration_without_spread():
    """Vacuum alone: no figure is made up."""
    calibration = Calibration()
    calibration.add(np.zeros(5), np.zeros(5), np.zeros(5))
    found = calibration.result()
    assert found["spearman"] is None and found["error_over_deviation"] is None and found["rel_devi_percent"] is None
    assert calibration.bins()[0]["n_points"] == 5
    assert Calibration().result()["avg_devi"] is None


def test_weights_count():
    """A point of weight 2 is two points."""
    mean, deviation, truth = synthetic(300)
    a, b = Calibration(), Calibration()
    a.add(mean, deviation, truth, np.repeat([2.0, 1.0], 150))
    b.add(*(np.concatenate([x[:150], x]) for x in (mean, deviation, truth)))
    assert a.result() == pytest.approx(b.result())


def test_cells():
    values = np.array([0.0, 1e-30, 1e-12, 1e-5, 0.7, 1e9])
    found = cell(values)
    assert found[0] == found[1] == found[2] == 0 and found[-1] == CELLS - 1
    for v, n in zip(values[3:5], found[3:5], strict=True):
        assert edge(n) <= v < edge(n + 1)
