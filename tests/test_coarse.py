"""The residual on a coarser grid: interpolation, window, electron count, files, and the verdict a model keeps."""

import json
import shutil

import numpy as np
import pytest
from tiny import SKEWED, density, model_config, structure

import dcharge
from dcharge import coarse
from dcharge.cli import main
from dcharge.coarse_verdict import study, table
from dcharge.density import PointDensity
from dcharge.errors import InputError
from dcharge.evaluate import compare
from dcharge.evaluate import test as evaluate
from dcharge.freeze import load_frozen, save_frozen
from dcharge.grid import Grid, smooth_size
from dcharge.io import write
from dcharge.models import make_model
from dcharge.predict import Predictor, run


@pytest.fixture(scope="module")
def model(frozen):
    return dcharge.load(frozen)


@pytest.fixture
def own(frozen, here):
    """A frozen model that may be changed."""
    shutil.copy(frozen, "own.pth")
    return "own.pth"


def waves(shape, n, seed=0):
    """A random real field with frequencies below n/2 along each axis, on a grid of any shape."""
    rng = np.random.default_rng(seed)
    out = np.zeros(shape)
    x = np.meshgrid(*[np.arange(m) / m for m in shape], indexing="ij")
    for _ in range(12):
        k = [int(rng.integers(-((m - 1) // 2), (m - 1) // 2 + 1)) for m in n]
        phase = 2 * np.pi * (k[0] * x[0] + k[1] * x[1] + k[2] * x[2] + rng.random())
        out += rng.normal() * np.cos(phase)
    return out


@pytest.mark.parametrize("n", [(6, 5, 8), (7, 4, 5), (1, 2, 3), (8, 8, 8)])
@pytest.mark.parametrize("m", [(12, 10, 16), (13, 11, 17), (9, 5, 8), (8, 9, 9)])
def test_band_limited_fields_are_exact(n, m):
    m = tuple(max(a, b) for a, b in zip(n, m, strict=True))
    fine = coarse.interpolate(waves(n, n), m)
    np.testing.assert_allclose(fine, waves(m, n), atol=1e-12)


@pytest.mark.parametrize("n, m", [((4, 6, 8), (8, 12, 16)), ((4, 5, 6), (12, 15, 18)), ((6, 6, 6), (6, 12, 6))])
def test_any_field_keeps_its_values_and_mean(n, m):
    """Also with the highest frequency of an even size, in each axis and in their products."""
    values = np.random.default_rng(1).normal(size=n)
    fine = coarse.interpolate(values, m)
    np.testing.assert_allclose(fine[tuple(slice(None, None, b // a) for a, b in zip(n, m, strict=True))], values)
    assert fine.mean() == pytest.approx(values.mean(), abs=1e-12)
    # the mirror image of the field is interpolated to the mirror image: no direction is preferred
    mirror = coarse.interpolate(np.roll(values[::-1, ::-1, ::-1], 1, (0, 1, 2)), m)
    np.testing.assert_allclose(np.roll(fine[::-1, ::-1, ::-1], 1, (0, 1, 2)), mirror, atol=1e-12)


def test_highest_frequency_is_a_cosine():
    """(-1)^i on an even grid is cos(pi n x), not a complex wave."""
    for axis in range(3):
        n, m = [1, 1, 1], [1, 1, 1]
        n[axis], m[axis] = 6, 15
        fine = coarse.interpolate(np.resize([1.0, -1.0], 6).reshape(n), tuple(m))
        np.testing.assert_allclose(fine.ravel(), np.cos(6 * np.pi * np.arange(15) / 15), atol=1e-12)


def test_interpolation_in_blocks(monkeypatch):
    values = np.random.default_rng(2).normal(size=(5, 6, 7)).astype(np.float32)
    whole = coarse.interpolate(values, (10, 12, 21))
    monkeypatch.setattr(coarse, "BLOCK", 500)
    np.testing.assert_array_equal(coarse.interpolate(values, (10, 12, 21)), whole)
    assert whole.dtype == np.float32
    with pytest.raises(ValueError, match="coarser"):
        coarse.interpolate(values, (4, 12, 21))


def test_shapes(said):
    grid = Grid((20, 23, 36), SKEWED)
    s = structure(1)
    assert coarse.coarse_grid(s, grid, 2).shape == (10, 12, 18)
    assert coarse.coarse_grid(s, grid, 3).shape == (7, 8, 12)
    assert all(smooth_size(n) == n for f in (2, 3, 4) for n in coarse.coarse_grid(s, grid, f).shape)
    assert coarse.coarse_grid(s, grid, 1).shape == grid.shape
    assert said() == ""
    slab = s.with_(pbc=[True, True, False])
    for _ in range(2):
        assert coarse.coarse_grid(slab, grid, 2).shape == (10, 12, 36)
    assert said() == "--coarse: factor 1 along c, not periodic"
    assert coarse.coarse_grid(s, Grid((8, 8, 8), 2 * SKEWED), 2).shape == (8, 8, 8)
    assert "does not span the periodic cell" in said()
    step = coarse.spacing(coarse.coarse_grid(slab, grid, 2), grid)
    assert step == pytest.approx(max(np.linalg.norm(SKEWED[0]) / 10, np.linalg.norm(SKEWED[1]) / 12))


def test_window(monkeypatch):
    """Against all pairs by brute force, with images, in a skewed cell with an origin; smooth."""
    s, radii = structure(3), {"Si": 1.3, "O": 2.6}
    grid = Grid((9, 8, 10), s.cell, (0.3, -0.2, 0.1))
    shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3) @ s.cell
    d = np.linalg.norm(grid.points()[:, None, None] - s.positions[:, None] - shifts, axis=-1)
    scale = np.array([radii[x] for x in s.symbols])[:, None]
    u = np.clip((d / scale - coarse.PLATEAU) / (1 - coarse.PLATEAU), 0, 1)
    expected = (u**3 * (10 - 15 * u + 6 * u**2)).prod((1, 2))
    np.testing.assert_allclose(coarse.window(s, grid, radii), expected, atol=1e-6)
    monkeypatch.setattr(coarse, "BLOCK", 1)
    np.testing.assert_allclose(coarse.window(s, grid, radii), expected, atol=1e-6)
    assert (coarse.window(s, grid, {"Si": 0.0}) == 1).all()
    # the second derivative is continuous at both ends of the blend
    line = Grid((1, 1, 4000), np.diag([9.0, 9.0, 4.0]))
    one = s.with_(numbers=[14], positions=[[0, 0, 0]], cell=line.cell)
    bend = np.diff(coarse.window(one, line, {"Si": 1.5}).astype(float)[::40], 2)
    assert np.abs(np.diff(bend)).max() < 0.3 * np.abs(bend).max()


def test_window_does_not_wrap_where_nothing_is_periodic():
    s = structure(3, pbc=False).with_(numbers=[8], positions=[[0, 0, 0.05]])
    grid = Grid((8, 8, 8), np.eye(3) * 8)
    u = coarse.window(s, grid, {"O": 1.5}).reshape(grid.shape)
    assert u[0, 0, 0] < 1 and u[0, 0, 1] < 1 and u[0, 0, 7] == 1 and u[7, 0, 0] == 1


def test_vacuum_stays_empty():
    """Ringing of a sharp field does not reach empty cells; the sum is kept."""
    values = np.zeros((12, 6, 6), dtype=np.float32)
    values[2:4, 2, 3] = 1.0, -0.4
    grid, few = Grid((36, 18, 12), np.diag([12.0, 6, 6])), Grid((12, 6, 6), np.diag([12.0, 6, 6]))
    assert np.abs(coarse.interpolate(values, grid.shape)[18:30]).max() > 1e-3
    fine = coarse.assemble(values.ravel(), None, few, grid).reshape(grid.shape)
    assert not fine[15:33].any()
    assert fine.sum(dtype=float) * grid.dv == pytest.approx(values.sum(dtype=float) * few.dv, rel=1e-6)
    constant = np.full((4, 4, 4), 0.3)
    np.testing.assert_allclose(coarse.interpolate(constant, (8, 8, 8)), 0.3)


class Smooth:
    """In place of a network: a band-limited residual, and a bump at the nuclei where asked for."""

    def __init__(self, predictor, cell, bump=0.0):
        self.__dict__.update(model=predictor.model, meta={}, tile=200, evaluations=0)
        self.inverse, self.bump, self.own = np.linalg.inv(cell), bump, predictor

    def encode(self, s):
        return self.own.encode(s), s

    def residual(self, encoded, points):
        self.evaluations += len(points)
        x = 2 * np.pi * points @ self.inverse
        out = 0.2 + 0.1 * np.cos(x[:, 0]) + 0.05 * np.sin(2 * x[:, 1] - x[:, 2])
        s = encoded[1]
        f = (points[:, None] - s.positions) @ self.inverse
        d2 = (((f - np.rint(f)) @ np.linalg.inv(self.inverse)) ** 2).sum(-1)
        return (out + self.bump * np.exp(-30 * d2).sum(1))[None]

    def baseline(self, encoded, points):
        return self.own.baseline(encoded[0], points)


def assembled(predictor, s, grid, *args, **options):
    rho, base = np.empty((2, grid.n_points))
    for index, r, b in coarse.tiles(predictor, s, grid, *args, parts=True, **options):
        rho[index], base[index] = r[0], b[0]
    return rho, base


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_smooth_residual_is_exact(model, factor):
    """Any skew; the baseline is that of the fine grid; far fewer evaluations."""
    s = structure(1)
    grid, smooth = Grid((24, 20, 18), s.cell), Smooth(model, s.cell)
    rho, base = assembled(smooth, s, grid, factor, radii={"Si": 0.0, "O": 0.0})
    encoded = smooth.encode(s)
    np.testing.assert_allclose(base, model.baseline(encoded[0], grid.points())[0], atol=1e-6)
    expected = smooth.residual(encoded, grid.points())[0]
    np.testing.assert_allclose(rho - base, expected, atol=1e-6)
    assert smooth.evaluations - grid.n_points == coarse.coarse_grid(s, grid, factor).n_points


def test_cores_on_the_fine_grid(model):
    """A bump too sharp for the coarse grid: the window around it takes it out, and the count is that of both parts."""
    s = structure(1)
    grid, sharp = Grid((30, 28, 32), s.cell), Smooth(model, s.cell, bump=3.0)
    few = coarse.coarse_grid(s, grid, 3)
    full = sharp.residual(sharp.encode(s), grid.points())[0]
    error = {}
    for radius in (0.0, 1.0):
        radii = {"Si": radius, "O": radius}
        rho, base = assembled(sharp, s, grid, 3, radii=radii)
        error[radius] = np.abs(rho - base - full).max()
        values = sharp.residual(sharp.encode(s), few.points())[0] * coarse.window(s, few, radii)
        near = full * (1 - coarse.window(s, grid, radii))
        count = values.sum() * few.dv + near.sum() * grid.dv
        assert (rho - base).sum() * grid.dv == pytest.approx(count, rel=1e-6)
    assert error[0.0] > 2 and error[1.0] < 0.05 * error[0.0]


def test_python(model):
    s = structure(1)
    full = model.predict(s, shape=(24, 24, 24), dtype=np.float64)
    before = model.evaluations
    some = model.predict(s, shape=(24, 24, 24), coarse=2, dtype=np.float64)
    assert model.evaluations - before < 0.75 * full.n_points
    assert np.abs(some.values - full.values).sum() < 0.02 * np.abs(full.values).sum()
    assert some.electrons() == pytest.approx(full.electrons(), rel=2e-3)
    again = Predictor(model.model, tile=77).predict(s, shape=(24, 24, 24), coarse=2, dtype=np.float64)
    np.testing.assert_allclose(again.values, some.values, atol=1e-5 * full.values.max())
    molecule = s.with_(pbc=[False] * 3)
    whole = model.predict(molecule, shape=(6, 6, 6))
    np.testing.assert_array_equal(model.predict(molecule, shape=(6, 6, 6), coarse=3).values, whole.values)
    with pytest.raises(InputError, match="coarse and symmetry need a grid"):
        model.predict(s, points=np.zeros((1, 3)), coarse=2)
    with pytest.raises(InputError, match="--coarse 5: 1, 2, 3, 4 or auto expected"):
        model.predict(s, shape=(4, 4, 4), coarse=5)


def test_memory(model, monkeypatch):
    """At most three fine arrays at any time: output, residual, window."""
    import tracemalloc

    monkeypatch.setattr(coarse, "BLOCK", 1 << 14)
    s = structure(1)
    grid, quick = Grid((108, 108, 108), s.cell), Smooth(model, s.cell)
    quick.tile = 4096
    quick.baseline = lambda encoded, points: np.full((1, len(points)), 0.5, dtype=np.float32)

    def half(encoded, points):
        quick.evaluations += len(points)
        return quick.baseline(encoded, points)

    quick.residual = half
    out = np.empty(grid.n_points, dtype=np.float32)
    tracemalloc.start()
    for index, rho, _ in coarse.tiles(quick, s, grid, 3, radii={"Si": 0.3, "O": 0.3}):
        out[index] = rho[0]
    peak = tracemalloc.get_traced_memory()[1] + out.nbytes
    tracemalloc.stop()
    assert peak < 3 * out.nbytes + 2e6
    assert out.mean() == pytest.approx(1, abs=1e-4)


def test_no_baseline(here):
    bare = make_model(model_config({"baseline": {"type": "none"}}))
    with pytest.raises(InputError, match="--coarse 2: the model has no baseline"):
        Predictor(bare).predict(structure(1), shape=(4, 4, 4), coarse=2)
    save_frozen(bare, "bare.pth", {})
    for call in (
        lambda: run("bare.pth", ["none.vasp"], shape=(4, 4, 4), output="rho.cube", coarse=2),
        lambda: evaluate(["bare.pth"], ["none.cube"], coarse=[1, 2]),
    ):
        with pytest.raises(InputError, match="the model has no baseline"):
            call()


def test_verdict(own, said):
    """Factors are measured, what auto takes is stored, and taken."""
    write(density(0, shape=(24, 20, 24)), "rho.cube")
    s = structure(0)
    with pytest.raises(InputError, match="--coarse auto: not tested for this model; run: dcharge test .* --store"):
        dcharge.load(own).predict(s, shape=(24, 20, 24), coarse="auto")
    report = evaluate([own], ["rho.cube"], coarse=[1, 2, 3], store=True, json_file="report.json")
    found = json.loads(open("report.json").read())["coarse"]
    assert found == json.loads(json.dumps(report["coarse"]))
    assert [r["factor"] for r in found["rows"]] == [1, 2, 3] and found["rows"][0]["rise_percent"] == 0
    full, two, _ = found["rows"]
    assert full["evaluations"] == full["n_points"] == 24 * 20 * 24 > two["evaluations"] >= 12 * 10 * 12
    assert two["spacing"] == pytest.approx(np.linalg.norm(s.cell / [[12], [10], [12]], axis=1).max(), rel=1e-5)
    assert "<- auto" in said() and "near nuclei" in said()
    _, meta = load_frozen(own)
    assert meta["coarse"]["auto"] == found["auto"] and meta["checkpoint"] == "tiny"
    assert {"systems", "created", "rows", "spacing"} <= set(meta["coarse"])

    # what was measured is what predict does
    model = dcharge.load(own)
    rho = model.predict(s, shape=(24, 20, 24), coarse=2)
    reference = dcharge.read("rho.cube").total
    assert 100 * np.abs(rho.total - reference).sum() / reference.sum() == pytest.approx(two["nmae_percent"], rel=1e-3)


def test_auto_goes_by_the_spacing():
    s = structure(1)
    rows = [
        {"factor": 1, "spacing": 0.0, "radii": {}},
        {"factor": 2, "spacing": 0.4, "radii": {"Si": 0.0, "O": 0.5}},
        {"factor": 3, "spacing": 0.6, "radii": {"Si": 0.7, "O": 1.1}},
    ]
    meta = {"coarse": {"auto": 2, "spacing": 0.4, "rows": rows}}
    lengths = np.linalg.norm(s.cell, axis=1)
    for n, expected in ((8, 1), (16, 1), (32, 2), (48, 3), (64, 4)):
        grid = Grid(tuple(np.ceil(lengths / lengths.max() * n).astype(int)), s.cell)
        assert coarse.choose(meta, s, grid, "auto") == expected, n
        assert coarse.choose(meta, s, grid, 3) == 3
    none = {"coarse": {"auto": 1, "spacing": 0.0, "rows": rows[:1]}}
    assert coarse.choose(none, s, Grid((64, 64, 64), s.cell), "auto") == 1
    assert coarse.radii_for(meta, s, 0.3) == coarse.radii_for(meta, s, 0.41) == {"Si": 0.0, "O": 0.5}
    assert coarse.radii_for(meta, s, 0.5) == coarse.radii_for(meta, s, 0.9) == {"Si": 0.7, "O": 1.1}
    assert coarse.radii_for({}, s, 0.5) == {"Si": coarse.RADIUS, "O": coarse.RADIUS}


def test_study_refuses_free_points(own):
    rho = density(1, shape=(4, 4, 4))
    write(PointDensity(rho.structure, rho.points(), rho.values.reshape(1, -1)), "points")
    with pytest.raises(InputError, match="--coarse needs a density on a grid, these are free points"):
        evaluate([own], ["points"], coarse=[1, 2])
    with pytest.raises(InputError, match="--store: tell what to store"):
        evaluate([own], ["points"], store=True)


def test_study_of_factor_one(model):
    report = {"pooled": {"nmae_percent": 2.0, "n_points": 10}, "frames": [{"seconds": 1.0}]}
    found = study(model, [], [1], compare, report)
    assert found["auto"] == 1 and found["spacing"] == 0 and len(table(found)) == 2


def test_command(own, here, said):
    structure(1).to_ase().write("POSCAR", format="vasp", direct=False)
    command = ["predict", "POSCAR", "-m", own, "--grid", "16", "16", "16", "-o"]
    assert main([*command, "a.h5", "--coarse", "2"]) in (0, None)
    assert main([*command, "b.h5"]) in (0, None)
    a, b = dcharge.read("a.h5"), dcharge.read("b.h5")
    assert np.abs(a.values - b.values).sum() < 0.05 * np.abs(b.values).sum()
    assert main([*command, "c.h5", "--coarse", "auto"]) == 1
    assert not (here / "c.h5").exists()
    for bad in ("0", "5", "two", "1.5"):
        assert main([*command, "c.h5", "--coarse", bad]) == 2
