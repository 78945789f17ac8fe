"""Deep Charge against the formulas of the paper, written naively in numpy; its standardisation and parameter count."""

import math

import numpy as np
import pytest
import torch
from tiny import SKEWED, density, gaussians, image_shifts, model_config, predicted, structure

from dcharge.batch import Batch
from dcharge.models import make_model
from dcharge.models.deep_charge import chebyshev_nodes
from dcharge.ops import contract

PLAIN = {"standardize": False, "baseline": {"type": "none"}}


def layers(network):
    """[(W, b, dt)] of a torch network in numpy."""
    return [
        (x.weight.detach().numpy(), x.bias.detach().numpy(), None if x.dt is None else x.dt.detach().numpy())
        for x in network
    ]


def feed(x, network):
    """DeePMD-kit's residual network on one vector: y = tanh(W x + b) dt, plus x or [x, x]."""
    for w, b, dt in layers(network):
        y = np.tanh(w @ x + b) * (1 if dt is None else dt)
        if len(y) == len(x):
            y = y + x
        elif len(y) == 2 * len(x):
            y = y + np.concatenate([x, x])
        x = y
    return x


def naive(model, s, point):
    """Density of the paper's model at one point, with loops over neighbours.

    Lv et al., PRB 108, 235159; DeePMD-kit's normalisation: R/dstd (davg = 0), (sum_j ...)/N with constant N.
    """
    d = model.config["descriptor"]
    rcut, smooth, soft = d["rcut"], d["rcut_smth"], d["soft"]
    constant = {k: v.numpy() for k, v in model.state_dict().items() if "scale" in k or "mean" in k or k == "norm"}
    a = np.zeros((4, d["neuron"][-1]))
    mean, left = float(constant.get("pair_mean", 0.0)), np.zeros(model.n_types)
    if "pair_mean" in constant:
        left = model.slots.numpy().astype(float)
    for atom, z in zip(s.positions, s.types(model.type_map), strict=True):
        for shift in image_shifts(s, 3):
            vector = atom + shift - point
            r = np.linalg.norm(vector)
            if r >= rcut:
                continue
            u = (r - smooth) / (rcut - smooth)
            w = 1.0 if u < 0 else u**3 * (-6 * u**2 + 15 * u - 10) + 1
            softened = math.sqrt(r * r + soft * soft) + d["env_protection"]
            row = w / softened * np.array([1.0, *(vector / softened)])
            row = (row - [mean, 0, 0, 0]) / constant["pair_scale"][[0, 1, 1, 1]]
            a += np.outer(row, feed(row[:1], model.embedding[z]))
            left[z] -= 1
    for z, n in enumerate(left):  # empty rows
        row = np.array([-mean / constant["pair_scale"][0], 0, 0, 0])
        a += n * np.outer(row, feed(row[:1], model.embedding[z]))
    a *= float(constant["norm"])  # one over the constant number of neighbours
    matrix = a.T @ a[:, : d["axis_neuron"]]

    def net(flat):
        weight, bias = model.output.weight.detach().numpy(), model.output.bias.detach().numpy()
        return (weight @ feed(flat, model.fitting) + bias)[0]

    if model.zero_vacuum:
        return float(constant["output_scale"]) * (net(matrix.ravel()) - net(0 * matrix.ravel()))
    return float(constant["output_scale"]) * net(matrix.ravel()) + float(constant["output_mean"])


def calibrated(*changes, seed=2):
    """A float64 model on its frame, constants set from the analytic density."""
    s = structure(7)
    model = make_model(model_config({"precision": "float64"}, *changes), seed)
    points = np.random.default_rng(0).uniform(0, 5, (200, 3))
    target, one = torch.tensor(gaussians(s, points))[:, None], torch.ones(200, dtype=torch.float64)
    batch = Batch.collate([s], model.type_map)
    model.calibrate(batch, torch.tensor(points), torch.zeros(200, dtype=torch.int64), target, one)
    return model, s


POINTS = np.random.default_rng(3).uniform(-1, 6, (6, 3))


@pytest.mark.parametrize("soft", [0.0, 0.5])
@pytest.mark.parametrize("vacuum", ["paper", "zero"])
@pytest.mark.parametrize("rcut_smth", [0.0, 2.5])
def test_exact_embedding_is_the_paper(soft, vacuum, rcut_smth):
    descriptor = {"soft": soft, "rcut_smth": rcut_smth}
    model, s = calibrated(PLAIN, {"embedding": "exact", "vacuum": vacuum, "descriptor": descriptor})
    expected = np.array([naive(model, s, p) for p in POINTS])
    assert np.ptp(expected) > 0.05 * np.abs(expected).max()
    np.testing.assert_allclose(predicted(model, s, POINTS)[:, 0], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_protection_is_that_of_deepmd():
    """env_protection: 1/(r + protection), in the calibration too, and a value on a nucleus."""
    model, s = calibrated(PLAIN, {"embedding": "exact", "descriptor": {"soft": 0.0, "env_protection": 0.3}})
    plain, _ = calibrated(PLAIN, {"embedding": "exact", "descriptor": {"soft": 0.0}})
    assert (model.pair_scale < plain.pair_scale).all()
    points = np.concatenate([POINTS, s.positions[1] + [[1e-9, 0, 0]]])
    expected = np.array([naive(model, s, p) for p in points])
    np.testing.assert_allclose(predicted(model, s, points)[:, 0], expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_mean_and_empty_rows_are_those_of_deepmd():
    """set_davg_zero false: sel, davg and dstd over all rows, the empty ones among them, and their sum."""
    changes = {"embedding": "exact", "vacuum": "paper", "descriptor": {"soft": 0.0, "set_davg_zero": False}}
    model, s = calibrated(PLAIN, changes)
    points = np.random.default_rng(0).uniform(0, 5, (200, 3))
    rows = []
    for z in range(2):
        atoms = s.positions[s.types(model.type_map) == z]
        r = np.linalg.norm(points[:, None, None] - atoms[:, None] - image_shifts(s, 3), axis=-1).reshape(200, -1)
        u = np.clip(r / 4.0, 0, 1)
        rows.append(np.where(r < 4.0, (u**3 * (-6 * u**2 + 15 * u - 10) + 1) / r, 0))
    slots = [int((x > 0).sum(1).max()) for x in rows]
    assert model.slots.tolist() == slots and float(model.norm) == 1 / sum(slots)
    every = np.concatenate([np.sort(x, 1)[:, -n:] for x, n in zip(rows, slots, strict=True)], 1)
    np.testing.assert_allclose(float(model.pair_mean), every.mean(), rtol=1e-9)
    expected = [every.std(), np.sqrt((every**2).mean() / 3)]
    np.testing.assert_allclose(model.pair_scale.numpy(), expected, rtol=1e-9)
    naively = np.array([naive(model, s, p) for p in POINTS])
    assert np.ptp(naively) > 0.02 * np.abs(naively).max()
    np.testing.assert_allclose(predicted(model, s, POINTS)[:, 0], naively, rtol=0, atol=1e-10 * np.abs(naively).max())


@pytest.mark.parametrize("rcut_smth", [0.0, 2.5])
def test_interpolated_embedding_is_the_exact_one(rcut_smth):
    descriptor = {"rcut_smth": rcut_smth, "n_radial": 128}
    exact, s = calibrated(PLAIN, {"embedding": "exact", "descriptor": descriptor})
    fast, _ = calibrated(PLAIN, {"descriptor": descriptor}, seed=9)
    for network in ("embedding", "fitting", "output"):
        getattr(fast, network).load_state_dict(getattr(exact, network).state_dict())
    expected = np.array([naive(exact, s, p) for p in POINTS])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(predicted(fast, s, POINTS)[:, 0], expected, rtol=0, atol=1e-5 * scale)
    coarse, _ = calibrated(PLAIN, {"descriptor": {**descriptor, "n_radial": 4}})
    coarse.embedding.load_state_dict(exact.embedding.state_dict())
    assert np.abs(predicted(coarse, s, POINTS)[:, 0] - expected).max() > 1e-4 * scale


def test_nodes_interpolate_polynomials():
    """The transform of T_b at the nodes is the unit vector b; the nodes lie between nucleus and cutoff."""
    r, transform = chebyshev_nodes(9, rcut=5.0, soft=0.5)
    assert (r >= 0).all() and (r <= 5.0).all()
    inverse = 1 / torch.sqrt(r**2 + 0.25)
    low, high = 1 / math.hypot(5.0, 0.5), 2.0
    x = 2 * (inverse - low) / (high - low) - 1
    values = torch.stack([torch.cos(b * torch.acos(x.clamp(-1, 1))) for b in range(9)])
    np.testing.assert_allclose((transform @ values.T).numpy(), np.eye(9), atol=1e-12)


@pytest.mark.parametrize("standardize", [True, False])
def test_number_of_parameters(standardize):
    """Per species: embedding 1 -> neuron (and a table, standardised); once: fitting net with dt, output (and shift)."""
    model = make_model(model_config({"standardize": standardize, "fitting_net": {"neuron": [10, 10, 20]}}))
    embedding = (1 * 4 + 4) + (4 * 8 + 8)
    fitting = (24 * 10 + 10) + (10 * 10 + 10 + 10) + (10 * 20 + 20 + 20) + (20 + 1)
    table = 2 * 2 * 12 * 8 + 8 if standardize else 0
    assert sum(p.numel() for p in model.parameters()) == 2 * embedding + fitting + table


def test_paper_size():
    """The paper's nets: 4,160 per species and 337,201 in the fitting net."""
    plain = {"embedding": "exact", "standardize": False, "baseline": {"type": "none"}}
    paper = {"descriptor": {"neuron": [20, 40, 80], "axis_neuron": 16}, "fitting_net": {"neuron": [200, 200, 200]}}
    model = make_model(model_config(plain, paper))
    assert sum(p.numel() for p in model.parameters()) == 2 * 4160 + 337201


def test_calibration_standardises():
    """Standardised l = 0 moments of the training points have mean 0 and deviation 1; features have deviation 1."""
    model, s = calibrated()
    batch, zero = Batch.collate([s], model.type_map), torch.zeros(200, dtype=torch.int64)
    points = torch.tensor(np.random.default_rng(0).uniform(0, 5, (200, 3)))
    moments = model.geometry(batch, points, zero)
    p = (moments[:, :, 0] - model.center) / model.scale[:, 0]
    np.testing.assert_allclose(p.mean(0).numpy(), 0, atol=1e-10)
    np.testing.assert_allclose(p.square().mean(0).numpy(), 1, atol=1e-10)
    vectors = moments[:, :, 1:4] / model.scale[:, None, 1]
    np.testing.assert_allclose(vectors.square().mean((0, 2)).numpy(), 1, atol=1e-10)
    assert model.descriptor(model.encode(batch), points, zero, moments).std().item() == pytest.approx(1.0)


def test_folded_coefficients_are_the_standardised_moments():
    """P.C + offset is what the sum over standardised moments gives."""
    model, s = calibrated()
    batch, zero = Batch.collate([s], model.type_map), torch.zeros(6, dtype=torch.int64)
    moments = model.geometry(batch, torch.tensor(POINTS), zero)
    nodes = model.node_s / model.pair_scale[0]
    c = torch.stack([model.transform @ net(nodes) for net in model.embedding])
    expected = model.shift + torch.einsum(
        "ntb,tbm->nm", (moments[:, :, 0] - model.center) / model.scale[:, 0], c + model.table[:, 0]
    )
    scale = expected.abs().max().item()
    folded = contract(moments, *model.coefficients())[:, 0] / model.norm
    np.testing.assert_allclose(folded.detach().numpy(), expected.detach().numpy(), rtol=0, atol=1e-9 * scale)


def test_species_without_training_points():
    """A species of the type map that the training data lack leaves finite constants."""
    s = structure(7, numbers=(14, 14))
    for changes in ({}, {"embedding": "exact", "standardize": False}):
        model = make_model(model_config(changes), 1)
        points = torch.tensor(np.random.default_rng(0).uniform(0, 5, (50, 3)))
        zero, one = torch.zeros(50, dtype=torch.int64), torch.ones(50, dtype=torch.float64)
        target = torch.tensor(gaussians(s, points.numpy()))[:, None]
        model.calibrate(Batch.collate([s], model.type_map), points, zero, target, one)
        assert all(torch.isfinite(t).all() for t in model.state_dict().values())
        assert not model.baseline.coefficients[1].any()
        assert np.isfinite(predicted(model, structure(7), POINTS)).all()


@pytest.mark.parametrize("change", [{}, {"vacuum": "paper"}, {"standardize": False},
                                    {"descriptor": {"l_max": 3, "gram": "per_l", "axis_neuron": [5, 4, 3, 2]}},
                                    {"fitting_net": {"neuron": [12, 24, 24]}}])  # fmt: skip
def test_prediction_takes_another_path_to_the_same_density(change):
    """Without gradients everything behind the moments is one kernel; points without neighbours are left out of it."""
    model = make_model(model_config({"precision": "float64"}, change), 3)
    s = structure(1, pbc=False, cell=SKEWED)
    points = np.concatenate([density(0).points()[::7], [[40.0, 0, 0], [0, 50.0, 1]], s.positions])
    batch, points = Batch.collate([s], model.type_map), torch.tensor(points)
    frame = torch.zeros(len(points), dtype=torch.int64)
    model.output_scale.fill_(0.3)
    trained = model.decode(model.encode(batch), points, frame).detach()
    with torch.no_grad():
        cache = model.encode(batch)
        found = model.decode(cache, points, frame)
        assert cache.network is not None
    assert (found - trained).abs().max() < 1e-12 * trained.abs().max()
    if model.zero_vacuum:
        assert found[-6:-4].abs().max() == 0.0
    slopes = []
    for encoded in (cache, model.encode(batch)):  # gradients of points are right whichever way the atoms were encoded
        x = points.clone().requires_grad_()
        slopes.append(torch.autograd.grad(model.decode(encoded, x, frame).sum(), x)[0])
    assert (slopes[0] - slopes[1]).abs().max() < 1e-12 * slopes[1].abs().max()
