"""Gradient and Hessian of the density with respect to the point: against finite differences and a closed form."""

import numpy as np
import pytest
import torch
from tiny import calibrated, model_config, predicted, stirred, structure

import dcharge.derivatives
from dcharge.derivatives import Derivatives, PredictedDensities, density_derivatives, in_float64
from dcharge.ensemble import Ensemble
from dcharge.errors import InputError
from dcharge.models import make_model
from dcharge.predict import Predictor
from dcharge.structure import Structure

FIELD = np.array([0.6, -1.1, 0.9])
CASES = {
    "deep_charge": {},
    "per_l": {"descriptor": {"l_max": 2, "gram": "per_l"}},
    "exact": {"embedding": "exact", "standardize": False},
    "fireann": {"type": "fireann"},
    "painn": {"type": "painn"},
    "schnet": {"type": "schnet"},
    "fireann_equi": {"type": "fireann", "variant": "equi"},
    "fireann_field": {"type": "fireann", "field": True, "baseline": {"type": "none"}},
    "fireann_response": {"type": "fireann", "field": True, "target": "response", "baseline": {"type": "none"}},
}


def made(name, precision="float64"):
    return stirred(calibrated(model_config(CASES[name], {"precision": precision})), 3, 0.1).eval()


@pytest.fixture(params=CASES)
def model(request):
    return made(request.param)


def frame(model):
    s = structure(1)
    return s.with_(field=FIELD) if model.sees_field else s


def places(s):
    """Points anywhere, one on a nucleus, one near it."""
    rng = np.random.default_rng(2)
    return np.concatenate([rng.uniform(-3, 8, (7, 3)), s.positions[:1], s.positions[1:2] + 1e-3])


def test_finite_differences(model):
    s = frame(model)
    points = places(s)
    # at a nucleus third derivatives may jump, so that differences of the gradient converge slowly there
    h = np.array([1e-3] * 7 + [1e-6] * 2)[:, None]
    rho, gradient, hessian = density_derivatives(model, s, points)
    assert rho.dtype == gradient.dtype == hessian.dtype == np.float64
    assert gradient.shape == (9, 3) and hessian.shape == (9, 3, 3)
    np.testing.assert_allclose(rho, predicted(model, s, points)[:, 0], rtol=0, atol=1e-10 * np.abs(rho).max())
    np.testing.assert_array_equal(hessian, hessian.swapaxes(1, 2))
    for a in range(3):
        step = np.eye(3)[a] * h
        # central differences of fourth order
        at = [density_derivatives(model, s, points + k * step, order=1) for k in (-2, -1, 1, 2)]
        for k, found in ((0, gradient[:, a]), (1, hessian[:, a])):
            f = [x[k] for x in at]
            expected = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h.reshape(-1, *[1] * k))
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max() + 1e-9)
    assert np.abs(hessian).max() > 1e-3  # otherwise this would say nothing


def plummer(s, a, soft, points):
    """Of sum_j a / sqrt(|r - R_j|^2 + soft^2): values, gradient, Hessian."""
    d = points[:, None] - s.positions
    r = np.sqrt((d**2).sum(-1) + soft**2)
    outer = d[..., :, None] * d[..., None, :]
    hessian = 3 * outer / r[..., None, None] ** 5 - np.eye(3) / r[..., None, None] ** 3
    return (a / r).sum(1), (-a[:, None] * d / r[..., None] ** 3).sum(1), (a[:, None, None] * hessian).sum(1)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_closed_form(precision):
    """The first function of the baseline alone is 1/r~ within rcut_smth. Single precision is that of the weights."""
    config = model_config({"precision": precision, "descriptor": {"rcut_smth": 3.9, "soft": 0.6}})
    model = make_model(config)
    with torch.no_grad():
        for p in model.output.parameters():
            p.zero_()
        model.baseline.coefficients.zero_()
        model.baseline.coefficients[:, 0] = torch.tensor([0.5, 2.0])
    s = Structure([14, 8], [[0.0, 0, 0], [1.1, 0.3, -0.4]], np.eye(3) * 9, False)
    points = np.concatenate([np.random.default_rng(0).uniform(-1.2, 1.2, (20, 3)), s.positions])
    found = density_derivatives(model, s, points)
    for a, b in zip(found, plummer(s, np.array([0.5, 2.0]), 0.6, points), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


def test_a_predictor_and_single_precision(monkeypatch):
    """A float32 model is used in float64, and left as it is."""
    model = made("deep_charge", "float32")
    s = structure(1)
    found = density_derivatives(Predictor(model), s, places(s))
    exact = predicted(in_float64(model), s, places(s))[:, 0]
    np.testing.assert_allclose(found[0], exact, rtol=0, atol=1e-12 * np.abs(exact).max())
    assert next(model.parameters()).dtype == torch.float32 and next(model.parameters()).requires_grad


@pytest.mark.parametrize("name", ["deep_charge", "fireann"])
def test_blocks(name, monkeypatch):
    """Blocks are cut where they hold too many pairs, or points; the results do not depend on it."""
    model, s = made(name), structure(1)
    points = np.random.default_rng(0).uniform(-3, 8, (60, 3))
    whole = density_derivatives(model, s, points)
    monkeypatch.setattr(dcharge.derivatives, "PAIRS", 100)
    monkeypatch.setattr(dcharge.derivatives, "POINTS", 25)
    derivatives, sizes = Derivatives(model), []
    one = derivatives._block
    monkeypatch.setattr(derivatives, "_block", lambda cache, p: sizes.append(len(p)) or one(cache, p))
    for a, b in zip(derivatives(s, points), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max())
    assert sum(sizes) == 60 and max(sizes) < 25 and min(sizes) >= 1


def test_far_away():
    """Without neighbours: zero, and so are the derivatives."""
    model = made("deep_charge")
    s = Structure([14], [[0.0, 0, 0]], np.eye(3) * 40, False)
    found = density_derivatives(model, s, [[20.0, 0, 0], [0.5, 0, 0]])
    for x in found:
        assert not x[0].any() and x[1].any()
    alone = density_derivatives(model, s, [[20.0, 0, 0]])
    assert [x.shape for x in alone] == [(1,), (1, 3), (1, 3, 3)] and not any(x.any() for x in alone)
    assert [x.shape for x in density_derivatives(model, s, np.zeros((0, 3)))] == [(0,), (0, 3), (0, 3, 3)]


def test_many_atoms():
    """Where a tile looks only at the atoms near it."""
    model = made("deep_charge")
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(13)] * 3, indexing="ij"), -1).reshape(-1, 3) * 2.5
    s = Structure([14] * len(grid), grid + rng.uniform(-0.2, 0.2, grid.shape), np.eye(3) * 32.5, True)
    points = rng.uniform(0, 3, (4, 3))
    near = np.linalg.norm(grid[:, None] - points - np.rint((grid[:, None] - points) / 32.5) * 32.5, axis=-1).min(1) < 9
    few = Structure([14] * near.sum(), s.positions[near], np.eye(3) * 32.5, True)
    for a, b in zip(density_derivatives(model, s, points), density_derivatives(model, few, points), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max())


PAPER = {"vacuum": "paper", "standardize": False, "embedding": "exact", "baseline": {"type": "none"}}


@pytest.mark.parametrize(
    "change, message",
    [
        ({**PAPER, "descriptor": {"soft": 0.0}}, "model/descriptor/soft 0, its density has cusps at the nuclei"),
        ({"type": "painn", "soft": 0.0}, "model/soft 0, its density has cusps"),
        ({"type": "schnet", "cutoff_function": "published"}, "model/cutoff_function published"),
        ({"type": "cgcnn"}, "family cgcnn is not smooth"),
        ({"fitting_net": {"activation_function": "relu"}}, "model/fitting_net/activation_function relu has a kink"),
    ],
)
def test_not_smooth(change, message):
    with pytest.raises(InputError, match=message):
        density_derivatives(make_model(model_config(change)), structure(1), np.zeros((1, 3)))


def test_bad_input():
    model = make_model(model_config())
    with pytest.raises(InputError, match="order 3"):
        density_derivatives(model, structure(1), np.zeros((1, 3)), order=3)
    with pytest.raises(InputError, match="one model expected, an ensemble given"):
        density_derivatives(Ensemble([Predictor(model), Predictor(model)], "ab"), structure(1), np.zeros((1, 3)))
    with pytest.raises(InputError, match="species C not in type_map"):
        density_derivatives(model, Structure([6], [[0, 0, 0]], np.eye(3) * 4, True), np.zeros((1, 3)))
    model.baseline.coefficients.fill_(float("nan"))
    with pytest.raises(InputError, match="not a finite number"):
        density_derivatives(model, structure(1), np.zeros((1, 3)))


def test_on_a_grid(here, monkeypatch):
    """What `dcharge analyze -m` takes its fields from."""
    model, s = made("deep_charge"), structure(1)
    s.to_ase().write("POSCAR", format="vasp", direct=False)
    source = PredictedDensities(Predictor(model, tile=50), shape=(4, 5, 6))
    source.prepare(smooth=True)
    (found,) = source.frames("POSCAR")
    rho = found.read()
    seen, encoded, one = np.zeros(rho.n_points, dtype=int), [], Derivatives.encode
    monkeypatch.setattr(Derivatives, "encode", lambda self, s: encoded.append(s) or one(self, s))
    for index, values, gradient, hessian in source.derivatives(rho):
        seen[index] += 1
        np.testing.assert_allclose(values, rho.total.ravel()[index], atol=1e-9)
        expected = density_derivatives(model, rho.structure, rho.points(index))
        np.testing.assert_allclose(gradient, expected[1], atol=1e-9)
        np.testing.assert_allclose(hessian, expected[2], atol=1e-9)
    assert (seen == 1).all()
    assert len(encoded) - rho.n_points // 50 - 1 <= 1  # one call per tile of ours, and once for all of its own


def test_cusps_are_told_where_fields_are_asked_for(here, said):
    """A model without second derivatives on nuclei has them everywhere else."""
    model, s = calibrated(model_config({"type": "painn", "soft": 0.0, "cutoff_function": "published"})), structure(1)
    s.to_ase().write("POSCAR", format="vasp", direct=False)
    source = PredictedDensities(Predictor(model), shape=(3, 4, 3))
    with pytest.raises(InputError, match="model/soft 0, its density has cusps at the nuclei, and no second"):
        source.prepare(smooth=True)
    source.prepare(smooth=False)
    rho = source.frames("POSCAR")[0].read()
    ((_, values, gradient, _),) = source.derivatives(rho)
    np.testing.assert_allclose(values, rho.total.ravel(), atol=1e-5)
    assert "model/soft 0, its density has cusps at the nuclei: derivatives there are" in said()
    points, h = rho.points(), 1e-4
    for a in range(3):
        step = np.eye(3)[a] * h
        up, down = (predicted(in_float64(model), rho.structure, points + k * step)[:, 0] for k in (1, -1))
        np.testing.assert_allclose(gradient[:, a], (up - down) / (2 * h), rtol=0, atol=1e-3 * np.abs(gradient).max())
