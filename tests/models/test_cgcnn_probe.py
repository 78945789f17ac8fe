"""The model with atoms encoded once, written out pair by pair."""

import numpy as np
import pytest
import torch
from test_cgcnn import DEFAULT
from tiny import merged, stirred, structure

from dcharge.batch import Batch
from dcharge.config import normalize_model
from dcharge.models import make_model

CONFIG = merged(DEFAULT, {}) | {"type": "cgcnn_probe", "rcut": 3.0}
soft = torch.nn.functional.softplus


def written_out(model, batch, points, training):
    """Standardised values [n] of the points of one frame, and [(rows, mean, variance), ...] of what norms saw."""
    w, seen = {k: v.detach() for k, v in model.state_dict().items()}, []
    first = torch.cat([w["rows"], w["probe"]]) @ w["embedding.weight"].T + w["embedding.bias"]
    shifts = torch.cartesian_prod(*[torch.arange(-3, 4, dtype=torch.float64)] * 3) @ batch.cell[0]
    centers = 0.2 * torch.arange(31, dtype=torch.float64)

    def norm(x, name):
        mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        if training:
            mean, variance = x.mean(0), x.var(0, correction=0)
            seen.append((len(x), mean, variance))
        return (x - mean) / torch.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def convolved(t, x, senders, pairs):
        i, j, _ = (torch.tensor(p) for p in zip(*pairs, strict=True))
        d = torch.tensor([p[2] for p in pairs], dtype=torch.float64)
        g, c = torch.exp(-(((d[:, None] - centers) / 0.2) ** 2)), f"convolutions.{t}"
        u = torch.cat([x[i], senders[j], g], 1) @ w[f"{c}.full.weight"].T + w[f"{c}.full.bias"]
        gate, core = norm(u, f"{c}.norm_edges").chunk(2, 1)
        total = torch.zeros_like(x).index_add(0, i, torch.sigmoid(gate) * soft(core))
        return soft(x + norm(total, f"{c}.norm_nodes"))

    x, pairs = first[batch.atom_type], []
    for i, r in enumerate(batch.atoms):
        d = (batch.atoms[:, None] + shifts - r).norm(dim=2)
        found = sorted((float(d[j, s]), j) for j, s in torch.nonzero((d < 6.0002) & (d > 1e-6)).tolist())
        pairs += [(i, j, y) for y, j in found if y <= found[11][0] + 1e-4]
    for t in range(model.n_layers - 1):
        x = convolved(t, x, x, pairs)
    pairs = []
    for p, r in enumerate(points):
        d = (batch.atoms[:, None] + shifts - r).norm(dim=2)
        pairs += [(p, j, float(d[j, s])) for j, s in torch.nonzero(d < 3.0001).tolist()]
    y = convolved(model.n_layers - 1, first[-1:].expand(len(points), -1), x, pairs)
    for k in range(2):
        y = soft(y) @ w[f"hidden.{k}.weight"].T + w[f"hidden.{k}.bias"]
    return (soft(y) @ w["output.weight"].T + w["output.bias"])[:, 0], seen


@pytest.mark.parametrize("training", [False, True], ids=["prediction", "training"])
def test_formula(training, monkeypatch):
    """Norms see the edges and atoms of the structure, then the edges and probes of the batch."""
    monkeypatch.setattr("dcharge.models.crystal.KNOTS", 30 * 1024)
    model = stirred(make_model(normalize_model(CONFIG), 3), 4, 0.05).train(training)
    batch = Batch.collate([structure(1)], model.type_map)
    points = torch.tensor(np.random.default_rng(0).uniform(0, 5, (7, 3)))
    points[0] = batch.atoms[0]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    exact, seen = written_out(model, batch, points, training)
    rho = model.decode(model.encode(batch), points, torch.zeros(7, dtype=torch.int64))[:, 0].detach()
    assert float((rho - exact).abs().max() / exact.abs().max()) < 1e-9 and float(exact.std()) > 1e-4
    names = [f"convolutions.{t}.norm_{x}.running_var" for t in range(3) for x in ("edges", "nodes")]
    for name, (n, _, variance) in zip(names if training else [], seen, strict=True):
        wanted = 0.9 * before[name] + 0.1 * variance * (n / (n - 1))
        torch.testing.assert_close(model.state_dict()[name], wanted, rtol=1e-7, atol=1e-10)


def test_points_change_no_atom():
    """What `encode` gives does not depend on the points, and a point not on the others."""
    model = stirred(make_model(normalize_model(CONFIG), 3), 4, 0.05).eval()
    assert model.encodes_atoms and sum(p.numel() for p in model.parameters()) == 97_345 - 3 * 10 * 128  # rcut 3: 31
    batch = Batch.collate([structure(1)], model.type_map)
    with torch.no_grad():
        code = model.encode(batch)
        assert code.states.shape == (4, 64)
        points, zero = torch.rand(5, 3, dtype=torch.float64) * 4, torch.zeros(5, dtype=torch.int64)
        rho = model.decode(code, points, zero)
        torch.testing.assert_close(model.decode(code, points[2:3], zero[:1]), rho[2:3], rtol=1e-12, atol=0)
