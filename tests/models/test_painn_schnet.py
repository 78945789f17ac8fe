"""DeepDFT's families: sizes of the public code, tables against exact filters, blocks, the paper's message.

The public code itself is in tests/foreign/test_deepdft.py.
"""

import numpy as np
import pytest
import torch
from tiny import model_config, predicted, stirred, structure

from dcharge.batch import Batch
from dcharge.errors import InputError
from dcharge.models import make_model, point_states, schnet
from dcharge.models.radial import even_trigonometry, gaussians, sinc_basis
from dcharge.predict import Predictor
from dcharge.structure import Structure

FAMILIES = ("painn", "schnet")
PUBLISHED = {"soft": 0.0, "cutoff_function": "published", "vacuum": "paper", "baseline": {"type": "none"}}


def whole(family, *changes):
    """Normalised section with the family's own defaults."""
    from dcharge.config import normalize_model

    given = {"type": family, "type_map": ["Si", "O"]}
    for change in changes:
        given |= change
    return normalize_model(given)


@pytest.mark.parametrize(
    "family, changes, count",
    [("painn", {}, 1_487_233), ("painn", {"n_radial": 20}, 1_464_193), ("schnet", {}, 2_071_681)],
)
def test_sizes_of_the_public_code(family, changes, count):
    for extra in ({}, PUBLISHED):
        model = make_model(whole(family, changes, extra))
        assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("published", [False, True], ids=["default", "published"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_tabulated_filters(family, precision, published):
    """At the published sizes: the table is within 1e-5 of the exact filters, density and features alike."""
    changes = {"precision": precision, "baseline": {"type": "none"}, "vacuum": "paper"}
    changes |= PUBLISHED if published else {}
    filters, size = ("tabulated", "exact"), 0.02 if family == "painn" else 0.05
    models = [stirred(make_model(whole(family, changes, {"filters": kind})), 1, size) for kind in filters]
    frames = [structure(1), structure(2, pbc=(True, True, False))]
    points = np.random.default_rng(0).uniform(-1, 6, (60, 3))
    points[0], points[1] = frames[0].positions[0], frames[1].positions[1] + [1e-3, 0, 0]
    which = np.arange(60) % 2
    a, b = (predicted(model, frames, points, which) for model in models)
    assert np.ptp(b) > 1e-3 and np.abs(a - b).max() < 1e-5 * np.abs(b).max()
    if precision == "float64":
        assert np.abs(a - b).max() > 1e-13  # they are two paths
    batch = Batch.collate(frames, models[0].type_map)
    with torch.no_grad():
        a, b = (m.features(m.encode(batch), torch.tensor(points), torch.tensor(which)) for m in models)
    assert (a - b).abs().max() < 1e-5 * b.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_weights(family):
    """Training with the table gives the gradients of training with exact filters; every weight has one."""
    gradients, frames = [], [structure(1), structure(3)]
    batch = Batch.collate(frames, ["Si", "O"])
    points, frame = torch.tensor(np.random.default_rng(1).uniform(0, 5, (30, 3))), torch.arange(30) % 2
    for filters in ("tabulated", "exact"):
        model = stirred(
            make_model(model_config({"type": family, "filters": filters, "precision": "float64", "vacuum": "paper"}), 3)
        )
        loss = model.decode(model.encode(batch), points, frame).square().sum()
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    unused = ["probe_layers.0.gate.first.weight"] if family == "schnet" else []  # the first state is zero
    for name in sorted(set(gradients[1]) - set(unused)):
        a, b = (g[name] for g in gradients)
        assert b.abs().max() > 0, name
        assert (a - b).abs().max() < 1e-5 * b.abs().max(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_small_blocks_change_nothing(family, monkeypatch):
    from dcharge.models import deepdft, painn

    model = stirred(make_model(model_config({"type": family, "filters": "exact", "precision": "float64"}), 3))
    frames, points = [structure(1), structure(3, pbc=False)], np.random.default_rng(1).uniform(-9, 9, (50, 3))
    which = np.random.default_rng(2).integers(0, 2, 50)
    expected = predicted(model, frames, points, which)
    monkeypatch.setattr(deepdft, "PAIRS", 7)
    monkeypatch.setattr(painn, "BLOCK", 3)
    monkeypatch.setattr(painn, "POINTS", 11)
    np.testing.assert_allclose(predicted(model, frames, points, which), expected, rtol=0, atol=1e-12)
    assert (expected == 0).any() and (expected != 0).any()


@pytest.mark.parametrize("vacuum", ["paper", "zero"])
def test_points_without_neighbours(vacuum):
    """Among others they have the density, and give the gradients, that they have alone."""
    model = stirred(make_model(model_config({"type": "schnet", "precision": "float64", "vacuum": vacuum}), 3))
    batch = Batch.collate([structure(1, pbc=False)], model.type_map)
    near, far = torch.tensor([[0.3, 1.0, 2.0], [2.0, 0.1, 1.2]]).double(), torch.tensor([[90.0, 0, 0]] * 3).double()

    def evaluated(*points):
        points = torch.cat(points)
        rho = model.decode(model.encode(batch), points, torch.zeros(len(points), dtype=torch.int64))
        return rho.detach(), torch.autograd.grad(rho.square().sum(), list(model.parameters()), allow_unused=True)

    (a, d_a), (b, d_b) = evaluated(near), evaluated(far)
    both, d_both = evaluated(far[:1], near[:1], far[1:2], near[1:], far[2:])
    torch.testing.assert_close(both[[1, 3, 0, 2, 4]], torch.cat([a, b]), rtol=0, atol=1e-13)
    assert a.any() and bool(b.any()) == (vacuum == "paper")
    for x, y, z in zip(d_both, d_a, d_b, strict=True):
        if x is not None:
            expected = sum(g for g in (y, z) if g is not None)
            torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-12)


def test_no_denormal_gaussians():
    """They slow matrix products down."""
    g = gaussians(torch.linspace(0, 4.0, 500, dtype=torch.float64), 4.0, 0.1).float()
    assert not ((g > 0) & (g < torch.finfo(torch.float32).tiny)).any() and (g == 0).any() and (g > 1e-19).any()


def states_and_gradients(model, state, messages):
    """state(messages) [n, n_features], and gradients of its sum with fixed factors by messages and weights, by name."""
    model.zero_grad()
    messages = messages.detach().requires_grad_()
    states = state(messages)
    states.mul(
        torch.randn(states.shape, generator=torch.Generator().manual_seed(4), dtype=states.dtype)
    ).sum().backward()
    weights = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"states": states.detach(), "messages": messages.grad, **weights}


@pytest.mark.parametrize("published", [False, True], ids=["default", "published"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_states_by_blocks(n_layers, published, monkeypatch):
    """States of the points and their written-out adjoint against plain autograd, and against differences."""
    monkeypatch.setattr(point_states, "BLOCK", 4)
    changes = {"type": "painn", "precision": "float64", "n_layers": n_layers, **(PUBLISHED if published else {})}
    model = stirred(make_model(model_config(changes)), 3)
    messages = torch.randn((11, n_layers, 4, 6), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    messages[3], messages[4, :, 1:] = 0.0, 0.0  # without neighbours, and with vectors that cancel
    for rows in (None, torch.tensor([10, 9, 0, 1, 3, 4, 5, 8, 7])):
        found = states_and_gradients(model, lambda m, rows=rows: model.block_states(m, rows), messages)
        chosen = slice(None) if rows is None else rows
        expected = states_and_gradients(model, lambda m, chosen=chosen: model.final_state(m[chosen]), messages)
        assert found.keys() == expected.keys() and len(found) == 2 + 10 * n_layers
        for name, value in expected.items():
            assert value.abs().max() > 0, name
            assert (found[name] - value).abs().max() < 1e-13 * value.abs().max(), name
    few = messages[4:9].clone().requires_grad_()
    few.data[0, :, 1:] += 0.1  # |V v| has a kink at zero
    inputs = few, *model.probe_layers.parameters()
    assert torch.autograd.gradcheck(lambda m, *_: model.block_states(m, None), inputs, fast_mode=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(model.block_states(few, None).sum(), few, create_graph=True)


@pytest.mark.parametrize("vacuum", ["paper", "zero"])
def test_points_without_neighbours_share_a_state(vacuum):
    """Their state and its part of the gradients are those of every point calculated by itself."""
    model = stirred(make_model(model_config({"type": "painn", "precision": "float64", "vacuum": vacuum})), 3)
    batch = Batch.collate([structure(3, pbc=False)], model.type_map)
    points = torch.tensor(np.random.default_rng(1).uniform(-9, 9, (40, 3)))
    frame = torch.zeros(40, dtype=torch.int64)
    code = model.encode(batch)
    messages = model.point_messages(code, points, frame)

    def shared(m):
        model.point_messages = lambda *_: m
        states, near = model.probe_states(code, points, frame)
        assert 0 < near.sum() < 40 and torch.equal(near[:, 0], m[:, 0, 0].ne(0).any(1))
        assert len(torch.unique(states[~near[:, 0]].detach(), dim=0)) == 1
        return states

    found, expected = (states_and_gradients(model, f, messages) for f in (shared, model.final_state))
    near = messages[:, 0, 0].ne(0).any(1)
    expected["messages"][~near] = 0.0  # nothing sends to these
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() < 1e-13 * value.abs().max(), name


def test_blocks():
    counts = torch.tensor([3, 0, 9, 2, 2, 0, 0, 1])
    for most in (1, 4, 5, 100):
        found = list(schnet.blocks(counts, most))
        assert found[0][0] == 0 and found[-1][1] == len(counts)
        for (start, stop, pairs), (following, *_) in zip(found, [*found[1:], (len(counts),)], strict=True):
            assert stop == following and stop - start <= most
            inside = int(counts[start:stop].sum())
            assert pairs.stop - pairs.start == inside and (inside <= most or stop == start + 1)
    assert list(schnet.blocks(counts[:0], 5)) == []


@pytest.mark.parametrize("filters", ["tabulated", "exact"])
@pytest.mark.parametrize("family", FAMILIES)
def test_large_structures(family, filters):
    """A tile of points looks at the atoms near it alone."""
    small = Structure([14, 8], [[0.2, 0.1, 0.3], [1.9, 1.2, 2.0]], np.diag([3.6, 3.8, 4.1]), True)
    shifts = np.array([(i, j, k) for i in range(11) for j in range(11) for k in range(10)])
    positions = (small.positions + (shifts @ small.cell)[:, None]).reshape(-1, 3)
    large = Structure(np.tile(small.numbers, len(shifts)), positions, small.cell * [[11], [11], [10]], True)
    model = stirred(make_model(model_config({"type": family, "filters": filters, "precision": "float64"}), 3))
    points = np.random.default_rng(1).uniform(0, 5, (30, 3))
    batch = Batch.collate([large], model.type_map)
    assert len(batch.near_index(torch.tensor(points), model.reach)) < len(large)
    np.testing.assert_allclose(predicted(model, large, points), predicted(model, small, points), rtol=0, atol=1e-11)


def test_paper_message():
    """The paper's message is the public code's with the sender's state taken out: equal where all states are 1."""
    models = [
        make_model(model_config({"type": "painn", "paper_message": paper, "n_layers": 1})) for paper in (True, False)
    ]
    s, v = torch.ones((4, 6)), torch.randn((4, 3, 6))
    paper, public = (m.probe_layers[0].sender.factors(s, v) for m in models)
    assert torch.equal(paper, public)
    paper, public = (m.probe_layers[0].sender.factors(3 * s, v) for m in models)
    torch.testing.assert_close(public[:, 0], 3 * paper[:, 0])
    assert torch.equal(public[:, 1:], paper[:, 1:])


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_ignored(family):
    model = stirred(make_model(model_config({"type": family, "ignore_pbc": True}), 3))
    crystal, points = structure(1), np.random.default_rng(1).uniform(-1, 6, (30, 3))
    free = crystal.with_(pbc=[False] * 3)
    assert np.array_equal(predicted(model, crystal, points), predicted(model, free, points))
    seeing = make_model(model_config({"type": family}), 3)
    seeing.load_state_dict(model.state_dict())
    assert np.abs(predicted(seeing, crystal, points) - predicted(model, crystal, points)).max() > 1e-3


@pytest.mark.parametrize("options", [{"coarse": 2}, {"symmetry": True}])
@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_ignored_on_a_grid(family, options):
    """Neither interpolation nor symmetry may take the density of a model without images for a periodic one."""
    if "symmetry" in options:
        pytest.importorskip("spglib")
    predictor = Predictor(stirred(make_model(model_config({"type": family, "ignore_pbc": True}), 3)))
    crystal = Structure([14, 14], [[0.0, 0, 0], [1.35, 1.35, 1.35]], np.eye(3) * 5.4, True)
    plain = predictor.predict(crystal, shape=(8, 8, 8)).values
    np.testing.assert_allclose(predictor.predict(crystal, shape=(8, 8, 8), **options).values, plain, rtol=0, atol=1e-6)


def test_knots_follow_the_gaussians():
    model = make_model(model_config({"type": "schnet", "gaussian_step": 0.02}))
    assert len(model.knots) == round(25 * model.rcut / 0.02) + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_published_model_on_a_nucleus_and_in_vacuum(family):
    """Finite values and first derivatives, alone with one atom too, where vector states vanish by symmetry."""
    model = stirred(make_model(model_config({"type": family, "precision": "float64", **PUBLISHED}), 3))
    atom = Structure([14], [[0, 0, 0]], np.zeros((3, 3)), False)
    batch = Batch.collate([atom], model.type_map)
    points = torch.tensor([[0.0, 0, 0], [90.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64, requires_grad=True)
    rho = model.decode(model.encode(batch), points, torch.zeros(3, dtype=torch.int64))
    (slope,) = torch.autograd.grad(rho.sum(), points)
    assert torch.isfinite(rho).all() and torch.isfinite(slope).all()
    assert not slope[:2].any() and slope[2, 0] != 0 and rho[1] != 0


@pytest.mark.parametrize("filters", ["tabulated", "exact"])
def test_published_model_next_to_a_nucleus(filters):
    """What rounding leaves of the image of a nucleus chooses no direction, where another atom makes vector states."""
    changes = {"filters": filters, "precision": "float64"}
    model = stirred(make_model(whole("painn", changes, PUBLISHED)), 1, 0.02)
    s = structure(1)
    away = np.array([[0, 0, 0], [1e-9, 0, 0], [0, -1e-9, 0], [5e-10, 5e-10, -5e-10], [1e-4, 0, 0]])
    at, *near, beside = predicted(model, s, s.positions[1] + away)[:, 0]
    assert np.abs(np.array(near) - at).max() < 1e-7 * abs(at)
    assert abs(beside - at) > 1e-5 * abs(at)  # beside it there is a direction


def test_radial_functions():
    r = torch.tensor([1e-9, 1e-3, 0.09, 0.11, 1.0, 2.5, 3.999], dtype=torch.float64)
    k = torch.arange(1, 31, dtype=torch.float64)
    expected = torch.sin(k * torch.pi / 4 * r[:, None]) / r[:, None]
    torch.testing.assert_close(sinc_basis(r.square(), 4.0, 30), expected, rtol=0, atol=1e-11)
    assert torch.equal(sinc_basis(torch.zeros(1, dtype=torch.float64), 4.0, 3)[0], k[:3] * (torch.pi / 4.0))
    square = torch.tensor([0.0, 1e-2, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(even_trigonometry, square.detach().add(1e-3).requires_grad_())
    assert torch.autograd.gradgradcheck(even_trigonometry, square.detach().add(1e-3).requires_grad_())
    cosine, sinc = even_trigonometry(square)
    slope = torch.autograd.grad(cosine.sum() + sinc.sum(), square)[0]
    assert slope[0] == pytest.approx(-0.5 - 1 / 6)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"type": "painn", "target": "response"},
            "model/target: 'response' needs a family that sees the electric field",
        ),
        ({"type": "schnet", "gaussian_step": 5.0}, "model/gaussian_step: at most rcut (4) expected, 5 given"),
        ({"type": "schnet", "gaussian_step": 1e-6}, "at least rcut/1000 (0.004) expected, 1e-06 given"),
        ({"type": "painn", "soft": -1}, "model/soft: a number that is zero or positive expected"),
        ({"type": "painn", "filters": "exakt"}, "did you mean 'exact'?"),
        ({"type": "pain"}, "did you mean 'painn'?"),
    ],
)
def test_bad_keys(changes, message):
    with pytest.raises(InputError) as e:
        whole(changes.pop("type"), changes)
    assert message in str(e.value) and "\n" not in str(e.value)


def test_packed_weights_of_schnet():
    """Kept for all structures, made anew where a weight changes; a model made in inference mode works."""
    model = stirred(make_model(model_config({"type": "schnet"}), 3)).eval().requires_grad_(False)
    points = np.random.default_rng(0).uniform(0, 5, (20, 3))
    before = predicted(model, structure(1), points)
    kept = model.packed()
    assert model.packed() is kept
    with torch.no_grad():
        model.probe_layers[1].gate.second.weight.mul_(1.5)
    after = predicted(model, structure(1), points)
    assert model.packed() is not kept and np.abs(after - before).max() > 1e-4 * np.abs(before).max()
    model.requires_grad_(True)
    assert model.packed() is not model.packed()  # training may change them unseen
    with torch.inference_mode():
        again = make_model(model_config({"type": "schnet"}), 3).eval()
        again.load_state_dict(model.state_dict())
        np.testing.assert_allclose(predicted(again, structure(1), points), after, rtol=1e-6)
