"""The studies run on tiny data, keep what is finished and write their tables and pictures."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dcharge
from dcharge import Density, Grid, Structure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import study  # noqa: E402


def made_density(numbers, seed, edges=(6, 6, 6), shape=(12, 12, 12), shift=(0, 0, 0)):
    """Atoms as Gaussians in an orthogonal cell, in layers at 1 and 4 Angstrom, shifted."""
    rng = np.random.default_rng(seed)
    cell = np.diag(edges).astype(float)
    positions = np.array([[1.0, 1.0, 1.0], [4.0, 4.0, 1.0], [1.0, 4.0, 4.0], [4.0, 1.0, 4.0]])[: len(numbers)]
    structure = Structure(numbers, positions + shift + rng.normal(0, 0.1, positions.shape), cell, True)
    grid = Grid(shape, cell)
    d = grid.points()[:, None] - structure.positions
    d -= np.diag(cell) * np.round(d / np.diag(cell))
    rho = (np.sqrt(structure.numbers) * np.exp(-(d**2).sum(-1))).sum(1)
    return Density(structure, grid, rho.reshape(shape))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with splits.json and the densities it names."""
    folder = tmp_path_factory.mktemp("data")
    splits = {
        "si_bulk": {"train": ["a", "b", "c"], "valid": ["d"], "test": ["e"], "extra_train": ["f"]},
        "almg": {"train": ["a", "b"], "valid": [], "test": ["e"], "far_test": ["c", "d"]},
        "mol_field": {"geometry": {"train": ["a_e0", "a_e1", "b_e0"], "test": ["c_e0", "c_e1"]}, "strength": {}},
        "other": {"strength": {"train": ["a"]}},
    }
    (folder / "splits.json").write_text(json.dumps(splits))
    species = {"si_bulk": [14] * 4, "almg": [13, 12, 13, 12], "mol_field": [8, 1]}
    for system, numbers in species.items():
        (folder / system).mkdir()
        names = ["a_e0", "a_e1", "b_e0", "c_e0", "c_e1"] if system == "mol_field" else list("abcdef")
        for seed, name in enumerate(names):
            dcharge.write(made_density(numbers, seed), folder / system / f"{name}.cube.gz")
    index = [
        {"frame": f"{n}.cube.gz", "poisson_periodic": "NONE", "field_V_per_A": [0, 0, float(n[-1])]} for n in names
    ]
    (folder / "mol_field/index.json").write_text(json.dumps(index))
    return folder


def start(script, *arguments):
    """Run a study; its output."""
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_data_knows_periodicity_and_field(data):
    folder = study.Data(data)
    entries = folder.systems("mol_field", ["a_e0"])
    assert entries == [{"path": str(data / "mol_field/a_e0.cube.gz"), "pbc": [0, 0, 0]}]
    assert folder.field_free("mol_field", ["a_e0", "a_e1"]) == ["a_e0"]
    assert folder.systems("almg", ["a"]) == [{"path": str(data / "almg/a.cube.gz")}]
    assert folder.type_map(folder.systems("almg", ["a"])) == ["Mg", "Al"]
    with pytest.raises(SystemExit, match="one file expected, 0 found"):
        folder.systems("almg", ["missing"])
    with pytest.raises(SystemExit, match="splits.json"):
        study.Data(data / "almg")


@pytest.mark.parametrize("family", ["painn", "schnet"])
def test_warm_up_fits_the_run(data, family):
    """At most a tenth of the steps; families without it have none."""
    from dcharge.config import normalize

    folder = study.Data(data)
    model, settings = study.FAMILIES[family]
    config = study.training_input(folder.systems("si_bulk", ["a"]), [], ["Si"], settings, model)
    for steps, warmup in ((10, 1), (200, 20), (5000, 50)):
        rate = normalize(study.with_keys(config, {"numb_steps": steps}))["learning_rate"]
        assert rate["warmup_steps"] == warmup and rate["start_lr"] == settings["start_lr"]
    plain = study.training_input(folder.systems("si_bulk", ["a"]), [], ["Si"], {})
    assert "warmup_steps" not in study.with_keys(plain, {"numb_steps": 9})["learning_rate"]


def test_table(data, tmp_path):
    options = ["--data", data, "--minutes", 0.01, "--points", 300, "--batch", 64, "--out", tmp_path]
    text = start("table/run.py", *options, "--systems", "mol_field", "si_bulk-paper")
    assert "other: neither train nor geometry" in text and "timing:" in text
    first = json.loads((tmp_path / "mol_field/result.json").read_text())
    assert first["n_train_frames"] == 2 and len(first["tests"]["test"]["frames"]) == 1
    text = start("table/run.py", *options)
    assert "mol_field: done before" in text
    results = json.loads((tmp_path / "table.json").read_text())
    assert list(results) == ["si_bulk", "si_bulk+extra_train", "si_bulk-paper", "almg", "mol_field"]
    assert results["mol_field"] == first
    assert results["si_bulk+extra_train"]["n_train_frames"] == 4
    assert set(results["almg"]["tests"]) == {"test", "far_test"}
    assert results["si_bulk-paper"]["tests"]["test"]["baseline"] is None
    assert results["si_bulk"]["tests"]["test"]["pooled"]["n_points"] == 12**3
    table = (tmp_path / "table.md").read_text()
    assert table.count("baseline alone") == 5 and "Deep Charge does not see it" in table
    assert "si_bulk," in (tmp_path / "nmae_minutes.csv").read_text()


def test_interrupted_training_continues(data, tmp_path):
    folder = study.Data(data)
    train, test = folder.systems("si_bulk", ["a"]), folder.systems("si_bulk", ["e"])
    config = study.training_input(train, [], ["Si"], {"points_per_frame": 200, "batch_size": 50})
    first = study.run(tmp_path, config, {"test": test}, 0.005, {})
    (tmp_path / "result.json").unlink()  # as if killed while testing
    plan = (tmp_path / "plan.json").read_text()
    again = study.run(tmp_path, config, {"test": test}, 0.005, {})
    assert (tmp_path / "plan.json").read_text() == plan
    assert again["numb_steps"] == first["numb_steps"]
    (tmp_path / "result.json").unlink()
    other = study.training_input(train, [], ["Si"], {"points_per_frame": 100, "batch_size": 50})
    assert study.run(tmp_path, other, {"test": test}, 0.005, {})["n_train_points"] == 100


def test_learning_curves(data, tmp_path):
    options = ["--data", data, "--minutes", 0.005, "--points", 200, "--batch", 64, "--counts", 100, 300]
    text = start("learning_curves/run.py", *options, "--out", tmp_path)
    assert "6 of 6 trainings done" in text
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert len(rows) == 7 and rows[1].startswith("points,si_bulk,1,100,")
    for name in ("points.png", "structures.png", "profile.png", "errors.png"):
        assert (tmp_path / name).stat().st_size > 1000
    profile = np.loadtxt(tmp_path / "runs/si_bulk-3x100/profile.csv", delimiter=",", skiprows=1)
    assert profile.shape == (12, 3) and profile[-1, 0] == pytest.approx(5.5)
    assert "6 of 6" in start("learning_curves/run.py", *options, "--out", tmp_path)


def test_angular_orders(data, tmp_path):
    """Four orders, at equal steps and at equal time; the second call repeats nothing."""
    out = tmp_path / "out"
    arguments = ["--data", data, "--steps", 4, "--points", 300, "--batch", 64, "--systems", "almg", "--out", out]
    start("angular_order/run.py", *arguments)
    seconds = json.loads((out / "almg/step_seconds.json").read_text())
    results = json.loads((out / "angular_order.json").read_text())
    assert [(r["l_max"], r["kind"]) for r in results] == [(k, kind) for k in range(4) for kind in ("steps", "time")]
    for r in results:
        steps = 4 if r["kind"] == "steps" else round(4 * seconds["1"] / seconds[str(r["l_max"])])
        assert r["steps"] == steps and r["tests"]["test"]["pooled"]["nmae_percent"] > 0
    assert (out / "angular_order.md").read_text().count("| almg |") == 4
    assert "done before" in start("angular_order/run.py", *arguments)
    arguments[5] = 301
    command = [sys.executable, str(ROOT / "examples/angular_order/run.py"), *map(str, arguments)]
    other = subprocess.run(command, capture_output=True, text=True)  # figures of other settings are not taken for these
    assert other.returncode == 1 and "of other settings or minutes; give another --out" in other.stderr


@pytest.fixture(scope="module")
def field_data(tmp_path_factory):
    """Two molecules in fields, responses of the size of the field, and a slab; all end in vacuum where not periodic."""
    folder = tmp_path_factory.mktemp("fields")
    fields = {"e0": [0, 0, 0], "e1": [0, 0, 1.0], "e2": [0, 0, -0.5]}
    splits = {
        "mol_field": {
            "strength": {"train": ["a_e0", "a_e1"], "test": ["a_e2"]},
            "geometry": {"train": ["a_e0", "a_e1", "a_e2"], "test": ["b_e0", "b_e1"]},
        },
        "au_field": {"train": ["s_e0", "s_e1"], "test": ["s_e0", "s_e2"]},
        "water": {"train": ["x"], "test": ["y"]},
    }
    (folder / "splits.json").write_text(json.dumps(splits))
    for system, names, periodic in (("mol_field", "ab", "NONE"), ("au_field", "s", "XY")):
        (folder / system).mkdir()
        index = []
        for seed, name in enumerate(names):
            for ending, field in fields.items():
                if periodic == "NONE":
                    rho = made_density([8, 1], seed, edges=(9, 9, 8), shape=(18, 18, 16), shift=(2, 2, 3))
                else:
                    rho = made_density([8, 1, 8, 1], seed, edges=(6, 6, 11), shape=(12, 12, 44), shift=(0, 0, 3))
                z = rho.points()[:, 2].reshape(rho.grid.shape)
                values = rho.total * (1 + 0.1 * field[2] * (z - z.mean()))
                dcharge.write(Density(rho.structure, rho.grid, values), folder / system / f"{name}_{ending}.cube.gz")
                frame = {"frame": f"{name}_{ending}.cube.gz", "poisson_periodic": periodic, "field_V_per_A": field}
                index.append(frame)
        (folder / system / "index.json").write_text(json.dumps(index))
    return folder


def test_response(field_data, tmp_path):
    options = ["--data", field_data, "--minutes", 0.01, "--points", 200, "--batch", 50, "--out", tmp_path]
    start("response/run.py", *options, "--runs", "strength")
    first = json.loads((tmp_path / "strength/result.json").read_text())
    (one,) = first["responses"]
    # the made response is linear in the field: scaling that of e1 is exact to the digits of the files
    assert one["name"] == "a_e2" and one["scaling_nmae_percent"] < 0.1 and one["planar_nmae_percent"] is None
    assert one["nmae_percent"] == pytest.approx(first["tests"]["test"]["pooled"]["nmae_percent"], rel=1e-3)
    text = start("response/run.py", *options)
    assert "strength: done before" in text
    results = json.loads((tmp_path / "response.json").read_text())
    assert list(results) == ["strength", "geometry", "au_field"] and results["strength"] == first
    several = [*options[:-1], tmp_path / "several", "--runs", "strength", "--models", 2]
    start("response/run.py", *several)
    both = json.loads((tmp_path / "several/strength/result.json").read_text())
    each, tested = both["each_nmae_percent"]["test"], both["tests"]["test"]
    assert len(set(each)) == 2 and tested["pooled"]["nmae_percent"] <= max(each)
    of_mean = tested["frames"][0]["metrics"]["nmae_percent"]
    assert both["responses"][0]["nmae_percent"] == pytest.approx(of_mean, rel=1e-3)
    assert start("response/run.py", *several).count("done before") == 2
    assert results["geometry"]["responses"][0]["scaling_nmae_percent"] is None
    (slab,) = results["au_field"]["responses"]
    assert 0 < slab["planar_nmae_percent"] < 200
    assert set(slab["derived_reference"]) == {"dipole", "charge", "transferred", "slope"}
    assert all(slab["derived_reference"].values()) and one["derived_reference"]["dipole"] != 0
    # a model of a few steps may see no vacuum: then its quantities are left out, which is said
    assert ("model, s_e2: derived quantities are left out" in text) == (not slab["derived"])
    lines = (tmp_path / "response.md").read_text()
    assert "| strength | a_e2 |" in lines and "| au_field | s_e2 | slope of the potential inside, V/A |" in lines


def test_toys(tmp_path):
    """Five training sets, of which linear C-C-C alone serves every element; the second call repeats nothing."""
    (tmp_path / "toys").mkdir()
    (tmp_path / "splits.json").write_text("{}")
    for seed, (middle, number) in enumerate({"C": 6, "O": 8, "N": 7}.items()):
        for shape in ("lin", "bent"):
            rho = made_density([6, number, 6], seed, edges=(7, 7, 7))
            dcharge.write(rho, tmp_path / f"toys/C{middle}C_{shape}.cube.gz")
    options = ["--data", tmp_path, "--out", tmp_path / "out", "--points", 300, "--steps", 3, "--seeds", 1, 2]
    text = start("toys/run.py", *options, "--elements", "O", "N")
    results = json.loads((tmp_path / "out/toys.json").read_text())
    assert len(results) == 2 * (1 + 2 * 4) and all(r["tests"]["bent C-C-C"]["pooled"]["mae"] > 0 for r in results)
    both = [r for r in results if r["set"].startswith("linear C-C-C + bent")]
    assert len(both) == 4 and all(r["n_train_frames"] == 2 for r in both)
    assert text.count("linear C-C-C alone, lower in") == 4 and "| linear C-C-C + linear C-N-C |" in text
    assert start("toys/run.py", *options, "--elements", "O", "N").count("done before") == len(results)


@pytest.fixture(scope="module")
def transfer_data(tmp_path_factory):
    """Crystals with far atoms, those that test the transfer with near ones; molecules in vacuum."""
    folder = tmp_path_factory.mktemp("transfer")
    splits = {
        "quartz": {"train": ["a", "b"], "valid": [], "test": ["c"]},
        "molecules": {"train": ["a", "b"], "valid": ["c"], "test": ["d"]},
        "polyethylene": {"train": [], "test": ["e"]},
    }
    (folder / "splits.json").write_text(json.dumps(splits))
    frames = {
        "quartz": ("abc", [14, 8, 14, 8], {}),
        "transfer": (["sio2_vac_00", "cris_00", "cris_01"], [14, 8, 8], {"edges": (4, 4, 6), "shape": (8, 8, 12)}),
        "molecules": ("abcd", [6, 1], {"edges": (9, 9, 8), "shape": (18, 18, 16), "shift": (2, 2, 3)}),
        "polyethylene": ("e", [6, 1, 6, 1], {}),
    }
    for system, (names, numbers, options) in frames.items():
        (folder / system).mkdir()
        for seed, name in enumerate(names):
            dcharge.write(made_density(numbers, seed, **options), folder / system / f"{name}.cube.gz")
    index = [{"frame": f"{n}.cube.gz", "poisson_periodic": "NONE"} for n in "abcd"]
    (folder / "molecules/index.json").write_text(json.dumps(index))
    return folder


def test_families(data, tmp_path):
    """Two families, with and without baseline; the second call repeats nothing, other minutes are refused."""
    command = [sys.executable, "-m", "benchmarks.families", "--data", data, "--minutes", 0.03, "--systems", "si_bulk"]
    command += ["--families", "deep_charge", "cgcnn", "--points", 60, "--batch", 16, "--out", tmp_path]
    for again in range(2):
        done = subprocess.run([str(x) for x in command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("done before") == 4 * again
    results = json.loads((tmp_path / "families.json").read_text())
    assert [(r["family"], r["bare"]) for r in results] == [
        (f, b) for f in ("deep_charge", "cgcnn") for b in (False, True)
    ]
    for r in results:
        assert 0 < r["steps"] <= r["numb_steps"] and r["n_train_points"] == 180 and r["points_per_s"] > 0
        assert r["parameters"] > 0 and r["tests"]["test"]["pooled"]["nmae_percent"] > 0
    assert (tmp_path / "families.md").read_text().count("| si_bulk |") == 4
    assert (tmp_path / "families.png").stat().st_size > 1000
    done = subprocess.run(
        [str(x) for x in [*command, "--all", "--minutes", 0.02]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "of other settings or minutes" in done.stderr + done.stdout


def test_transfer(transfer_data, tmp_path):
    """Two sizes of one training set; errors of every set and environment; the second call repeats nothing."""
    options = ["--data", transfer_data, "--minutes", 0.005, "--batch", 32, "--out", tmp_path]
    crystal = [*options, "--cases", "quartz", "--families", "deep_charge", "--counts", 100, 300, "--steps", 3]
    start("transfer/run.py", *crystal)
    assert start("transfer/run.py", *crystal).count("done before") == 2
    text = start("transfer/run.py", *options, "--cases", "molecules", "--points", 100, "--bare")
    results = json.loads((tmp_path / "transfer.json").read_text())
    assert [(r["case"], r["family"], r["bare"], r["n_train_points"]) for r in results] == [
        ("molecules", "cgcnn", True, 200),
        ("quartz", "deep_charge", False, 100),
        ("quartz", "deep_charge", False, 300),
    ]
    molecules, _, quartz = results
    assert list(quartz["tests"]) == list(quartz["coverage"]) == ["quartz", "vacancy", "cristobalite"]
    assert len(quartz["tests"]["cristobalite"]["frames"]) == 2
    for r in results:
        for key, tested in r["tests"].items():
            found = r["coverage"][key]
            shares = [row["nmae_share_percent"] or 0 for rows in found["species"].values() for row in rows]
            assert sum(shares) == pytest.approx(tested["pooled"]["nmae_percent"], rel=1e-4)
            if key == "molecules":  # isolated: no Fourier derivatives
                assert "derived" not in tested and found["near_percent"] is None
            else:
                assert tested["derived"]["laplacian"]["r2"] < 1 and 0 < found["near_percent"] <= 100
                assert found["long_r2"] <= 1 and 0 <= found["short_percent"] <= 100
    absent = [found["absent_percent"] for found in quartz["coverage"].values()]
    assert absent == pytest.approx([0, 200 / 3, 200 / 3])  # silicon and an oxygen are bonded there
    assert molecules["tests"]["polyethylene"]["derived"]["baseline"] is None
    assert quartz["tests"]["vacancy"]["derived"]["baseline"]["density"]["r2"] <= 1
    assert "| quartz | vacancy | deep_charge | 300 |" in text and "| quartz | cristobalite | O Si1 (absent) |" in text
    runs = tmp_path / "runs"
    assert not list(runs.glob("*/*.npz")) and (runs / "quartz-deep_charge-300-3steps/coverage-vacancy.png").is_file()
    assert (tmp_path / "transfer.png").stat().st_size > 1000


def test_where_the_laplacian_is_wrong():
    """Squared error of a Laplacian: of a Gaussian within 0.7 Angstrom of its atom, of short waves all."""
    edge, n, sigma = 6.0, 48, 0.4
    rho = made_density([8], 0, shape=(n, n, n), edges=(edge,) * 3)
    d = rho.points() - rho.structure.positions
    r = np.linalg.norm(d - edge * np.round(d / edge), axis=1)
    error = np.exp(-((r / sigma) ** 2) / 2)
    square = ((r**2 / sigma**4 - 3 / sigma**2) * error) ** 2 * rho.grid.dv
    module = loaded("transfer/run.py")
    parts = np.array_split(np.arange(n**3), 3)

    def squares(error):
        return module.laplacian_squares(rho, (rho.total + error.reshape(rho.grid.shape))[None], parts)

    near, short, whole, *reference = squares(error)
    assert near == pytest.approx(square[r < module.NEAR].sum(), rel=1e-3)
    assert whole == pytest.approx(square.sum(), rel=1e-3) and near < 0.95 * whole and short < 1e-3 * whole
    for waves, share in ((15, 0), (17, 1)):  # of 3.2 and 2.8 grid spacings
        k = 2 * np.pi * waves / edge
        _, short, whole, *same = squares(np.cos(k * rho.points()[:, 1]))
        assert whole == pytest.approx(k**4 / 2 * edge**3) and short == pytest.approx(share * whole, abs=1e-9 * whole)
        assert same == pytest.approx(reference) and 0 < reference[0] < 1e-3 * reference[1]


def test_samplers(data, tmp_path):
    """Three ways to choose points, two families; the second call repeats nothing."""
    options = ["--data", data, "--minutes", 0.005, "--batch", 64, "--systems", "almg", "--out", tmp_path]
    text = start("samplers/run.py", *options, "--counts", 10, 40, "--cycles", 2)
    results = json.loads((tmp_path / "samplers.json").read_text())
    assert [(r["points"], r["sampler"]) for r in results] == [
        (n, kind) for n in (10, 40) for kind in ("random", "targeted", "independent")
    ]
    assert all(r["n_train_points"] == 2 * r["points"] for r in results if r["sampler"] != "independent")
    assert "| almg | 40 |" in text and (tmp_path / "samplers.png").stat().st_size > 1000
    assert start("samplers/run.py", *options, "--counts", 10, 40, "--cycles", 2).count("done before") == 6
    start("samplers/run.py", *options, "--points", 10, "--family", "fireann", "--no-baseline")
    assert (tmp_path / "runs/almg-fireann-bare-independent-10/result.json").is_file()


def test_structures(data, tmp_path):
    """Two families, one and three structures; the first ones bring all species; the second call repeats nothing."""
    options = ["--data", data, "--minutes", 0.005, "--points", 100, "--batch", 32, "--out", tmp_path]
    options += ["--systems", "si_bulk", "--families", "deep_charge", "fireann", "--structures", 1, 3, 60]
    text = start("structures/run.py", *options)
    results = json.loads((tmp_path / "structures.json").read_text())
    assert [(r["structures"], r["family"]) for r in results] == [
        (n, family) for n in (1, 3) for family in ("deep_charge", "fireann")
    ]
    assert [r["n_train_frames"] for r in results] == [1, 1, 3, 3]
    assert "| si_bulk | 3 |" in text and (tmp_path / "structures.png").stat().st_size > 1000
    assert start("structures/run.py", *options).count("done before") == 4


def loaded(path):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / "examples" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_first_structures_bring_all_species(tmp_path):
    entries = []
    for i, numbers in enumerate([[1, 1], [1, 6], [1, 6], [6, 8], [1, 8], [7, 1]]):
        dcharge.write(made_density(numbers, i, shape=(3, 3, 3)), tmp_path / f"{i}.cube")
        entries.append({"path": str(tmp_path / f"{i}.cube")})
    order = [int(Path(e["path"]).stem) for e in loaded("structures/run.py").ordered(entries)]
    assert sorted(order) == list(range(6))
    known = [set(), {1}, {1, 6}, {1, 6}, {6, 8}, {1, 8}, {7, 1}]
    seen, news = set(), []
    for i in order:
        news.append(not known[i + 1] <= seen)
        seen |= known[i + 1]
    assert news == sorted(news, reverse=True) and sum(news) in (3, 4)


def test_distortions():
    """As asked for, no two atoms nearer than 0.7 Angstrom; None where that cannot be."""
    module = loaded("ensembles/run.py")
    s = Structure([8, 1, 1], [[0, 0, 0], [0.97, 0, 0], [-0.3, 0.92, 0]], np.eye(3) * 9, False)
    for size in (0.1, 0.3):
        moved = module.distorted(s, "all", size, 3).positions - s.positions
        assert 0.3 * size < moved.std() < 2 * size
    for factor in (0.75, 1.6):
        moved = module.distorted(s, "bond", factor, 1)
        changed = np.linalg.norm(moved.positions - s.positions, axis=1)
        assert (changed > 1e-6).sum() == 1 and changed.max() == pytest.approx(abs(factor - 1) * 0.97, rel=0.01)
        assert module.distances(moved.to_ase()).min() > module.LEAST
    assert module.distorted(s, "bond", 0.5, 1) is None
    assert module.distorted(Structure([8], [[0, 0, 0]], np.eye(3) * 9, False), "bond", 1.3, 1) is None


def test_ensembles(data, tmp_path):
    options = ["--data", data, "--minutes", 0.005, "--points", 100, "--batch", 32, "--out", tmp_path]
    options += ["--systems", "si_bulk", "--family", "deep_charge", "--seeds", 1, 2]
    text = start("ensembles/run.py", *options)
    (result,) = json.loads((tmp_path / "ensembles.json").read_text())
    assert len(result["ensemble"]["nmae_percent"]) == 2 and -1 <= result["ensemble"]["deviation"]["spearman"] <= 1
    ranks = [row for row in result["ranks"] if "rank" in row]
    rows = np.loadtxt(tmp_path / "si_bulk-deep_charge-test.out")
    assert len(ranks) == 6 and len(rows) == 7
    for row, numbers in zip(ranks, rows[1:], strict=True):
        assert row["rank"]["max_devi"] == (1 if numbers[1] > rows[0, 1] else 2)
        assert row["atom_devi"] == pytest.approx(numbers[5], rel=1e-5)
    assert "| si_bulk | all atoms moved by 0.3 A |" in text and "1 test |" in text
    again = start("ensembles/run.py", *options)
    assert again.count("done before") == 3
    start("ensembles/run.py", *options, "--frames", "valid")
    assert len(json.loads((tmp_path / "ensembles.json").read_text())) == 1
