"""CGCNN: the published network written out edge by edge, its statistics in training, species, cutoff, limits."""

import numpy as np
import pytest
import tiny
import torch
from ase.data import chemical_symbols
from tiny import merged, stirred, structure

from dcharge.batch import Batch
from dcharge.config import normalize_model
from dcharge.derivatives import density_derivatives
from dcharge.errors import InputError
from dcharge.models import make_model
from dcharge.models.elements import BLOCKS, element_row
from dcharge.ops.library import compiled_for
from dcharge.structure import Structure

DEFAULT = {"type": "cgcnn", "type_map": ["Si", "O"], "precision": "float64", "baseline": {"type": "none"}}


def full(changes=()):
    """A `model` section at the default sizes."""
    return normalize_model(merged(DEFAULT, dict(changes)))


def published(model, batch, points, point_frame, training=False):
    """The published network from the weights of `model`, point by point and edge by edge: [n] standardised values,
    and what every batch norm normalises, if training: [(mean, unbiased variance), ...]."""
    w = {k: v.detach() for k, v in model.state_dict().items()}
    rows = torch.cat([w["rows"], w["probe"]])
    n_gaussians = w["convolutions.0.full.weight"].shape[1] - 2 * model.n_features
    centers = 0.2 * torch.arange(n_gaussians, dtype=torch.float64)
    species, edges, node_point = [], [], []  # of all graphs: nodes one after the other
    for p, r in enumerate(points):
        f, place, kind = int(point_frame[p]), [torch.zeros(3, dtype=torch.float64)], [len(rows) - 1]
        for a in torch.nonzero(batch.atom_frame == f)[:, 0].tolist():
            for shift in torch.cartesian_prod(*[torch.arange(-3, 4) if x else torch.zeros(1) for x in batch.pbc[f]]):
                vector = batch.atoms[a] + shift.double() @ batch.cell[f] - r
                if vector.norm() < model.rcut + 1e-4:
                    place.append(vector)
                    kind.append(int(batch.atom_type[a]))
        place, first = torch.stack(place), len(species)
        for i in range(len(place)):
            d = (place - place[i]).norm(dim=1)
            others = sorted((float(d[j]), j) for j in range(len(place)) if j != i)
            last = others[11][0] + 1e-4 if len(others) > 12 else np.inf
            edges += [(first + i, first + j, x) for x, j in others if x <= last]
        species += kind
        node_point += [p] * len(kind)
    i, j = (torch.tensor([e[k] for e in edges]) for k in (0, 1))
    d = torch.tensor([e[2] for e in edges], dtype=torch.float64)
    g = torch.exp(-(((d[:, None] - centers) / 0.2) ** 2))
    seen, statistics = torch.nn.functional.softplus, []

    def norm(x, name):
        mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        if training:
            mean, variance = x.mean(0), x.var(0, correction=0)
            statistics.append((mean, x.var(0)))
        return (x - mean) / torch.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = rows[torch.tensor(species)] @ w["embedding.weight"].T + w["embedding.bias"]
    states = [x]
    for t in range(model.n_layers):
        c = f"convolutions.{t}"
        u = torch.cat([x[i], x[j], g], 1) @ w[f"{c}.full.weight"].T + w[f"{c}.full.bias"]
        gate, core = norm(u, f"{c}.norm_edges").chunk(2, 1)
        total = torch.zeros_like(x).index_add(0, i, torch.sigmoid(gate) * seen(core))
        x = seen(x + norm(total, f"{c}.norm_nodes"))
        states.append(x)
    if model.config["pool"] == "all_layers":
        x = torch.stack(states).mean(0)
    node_point = torch.tensor(node_point)
    y = torch.stack([x[node_point == p].mean(0) for p in range(len(points))])
    for k in range(len(model.hidden)):
        y = seen(y) @ w[f"hidden.{k}.weight"].T + w[f"hidden.{k}.bias"]
    return (seen(y) @ w["output.weight"].T + w["output.bias"])[:, 0], statistics


def case(n=9, **changes):
    """A model with weights and statistics moved at random, a batch of a crystal and a molecule, points of both."""
    model = stirred(make_model(full(changes), 3), 4, 0.05)
    g = torch.Generator().manual_seed(0)
    for name, b in model.named_buffers():
        if name.endswith("running_mean"):
            b.add_(0.2 * torch.randn(b.shape, generator=g, dtype=torch.float64))
        if name.endswith("running_var"):
            b.mul_(0.5 + torch.rand(b.shape, generator=g, dtype=torch.float64))
    frames = [structure(1), structure(2, cell=np.zeros((3, 3)), pbc=False)]
    batch = Batch.collate(frames, model.type_map)
    points = torch.rand((n, 3), generator=g, dtype=torch.float64) * 5
    points[0], points[1] = batch.atoms[0], 60.0  # on a nucleus; without atoms
    frame = torch.arange(n) % 2
    return model, batch, points, frame


# of the public code (github.com/txie-93/cgcnn, f42ab23) for the graphs and weights of `formula_case`
PUBLIC = [0.1726664625316226, 0.17339753526418067, 0.1731672091326849, 0.17298449242923736]


def formula_case():
    """A small model whose weights are a formula, a crystal without equal distances, four points."""
    sizes = {"n_features": 6, "n_layers": 2, "fitting_net": {"neuron": [5, 5]}, "type_map": ["C", "Si", "O"]}
    model = make_model(full(sizes)).eval()
    for k, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        wave = torch.sin(1.3 * torch.arange(tensor.numel(), dtype=torch.float64) + k).reshape(tensor.shape)
        if name.endswith("running_var"):
            tensor.copy_(1 + 0.5 * wave)
        elif not name.startswith(("rows", "probe", "output_")):
            tensor.copy_(0.5 * wave)
    site = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    k = np.arange(27)
    positions = 2.2 * site + 0.3 * np.sin(np.stack([1.1 * k, 2.3 * k, 3.7 * k], 1))
    crystal = Structure(np.array([6, 14, 8])[k % 3], positions, 6.6 * np.eye(3), True)
    points = torch.tensor([[0.3, 1.0, 2.0], [3.1, 2.7, 5.0], [6.0, 0.1, 4.4], [2.0, 5.3, 1.7]], dtype=torch.float64)
    return model, Batch.collate([crystal], model.type_map), points, torch.zeros(4, dtype=torch.int64)


def test_public_code():
    model, batch, points, frame = formula_case()
    with torch.no_grad():
        rho = model.decode(model.encode(batch), points, frame)[:, 0].numpy()
    assert np.ptp(PUBLIC) > 7e-4
    np.testing.assert_allclose(rho, PUBLIC, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pool", ["last", "all_layers"])
def test_published_network(pool):
    model, batch, points, frame = case(pool=pool)
    model.eval()
    exact, _ = published(model, batch, points, frame)
    with torch.no_grad():
        rho = model.decode(model.encode(batch), points, frame)[:, 0]
    # the table of Gaussians is interpolated; all else is an identity
    assert float((rho - exact).abs().max() / exact.abs().max()) < 2e-6
    assert float(exact.std()) > 1e-3


def test_table_is_the_only_difference(monkeypatch):
    """With 30 times the knots the difference falls by 30^4, to the rounding."""
    monkeypatch.setattr("dcharge.models.crystal.KNOTS", 30 * 1024)
    model, batch, points, frame = case()
    model.eval()
    exact, _ = published(model, batch, points, frame)
    with torch.no_grad():
        rho = model.decode(model.encode(batch), points, frame)[:, 0]
    assert float((rho - exact).abs().max() / exact.abs().max()) < 1e-10


def test_statistics_of_a_batch(monkeypatch):
    """Training normalises over all edges and nodes of the batch, and notes mean and unbiased variance with 0.1."""
    monkeypatch.setattr("dcharge.models.crystal.KNOTS", 30 * 1024)
    model, batch, points, frame = case()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    exact, statistics = published(model, batch, points, frame, training=True)
    rho = model.train().decode(model.encode(batch), points, frame)[:, 0]
    assert float((rho.detach() - exact).abs().max() / exact.abs().max()) < 1e-9
    names = [f"convolutions.{t}.norm_{x}" for t in range(model.n_layers) for x in ("edges", "nodes")]
    for name, (mean, variance) in zip(names, statistics, strict=True):
        for key, value in (("running_mean", mean), ("running_var", variance)):
            after = model.state_dict()[f"{name}.{key}"]
            torch.testing.assert_close(after, 0.9 * before[f"{name}.{key}"] + 0.1 * value, rtol=1e-8, atol=1e-10)


def test_gradients_of_a_step():
    """Parameters' gradients through the statistics, against differences."""
    model, batch, points, frame = case(5, n_features=4, n_layers=2, fitting_net={"neuron": [5]}, gaussian_step=1.0)
    target = torch.randn(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss():
        return (model.decode(model.encode(batch), points, frame) - target).square().sum()

    gradients = torch.autograd.grad(loss(), list(model.parameters()))
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        flat, h = p.data.view(-1), 1e-5
        for k in {0, p.numel() // 2, p.numel() - 1}:
            values = []
            for sign in (1, -1):
                flat[k] += sign * h
                values.append(float(loss().detach()))
                flat[k] -= sign * h
            exact = (values[0] - values[1]) / (2 * h)
            assert float(gradient.reshape(-1)[k]) == pytest.approx(exact, rel=1e-4, abs=1e-6)


def test_validation_leaves_the_statistics():
    model, batch, points, frame = case()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    with torch.no_grad():
        rho = model.decode(model.encode(batch), points, frame)
    assert tiny.same_tensors(before, model.state_dict())
    model.eval()
    # where gradients are recorded the ops answer one by one, else all layers in one pass
    torch.testing.assert_close(rho, model.decode(model.encode(batch), points, frame).detach(), rtol=1e-11, atol=1e-11)


def test_parameters():
    """97 345 at the default sizes, as the public code with two hidden layers."""
    assert sum(p.numel() for p in make_model(full()).parameters()) == 97_345
    learned = make_model(full({"probe": "learned"}))
    assert sum(p.numel() for p in learned.parameters()) == 97_345 + 92


def test_learns(said):
    """A short training on an analytic density lowers the error that prediction has, not only that of the steps."""
    sizes = {"precision": "float32", "n_features": 16, "n_layers": 2, "fitting_net": {"neuron": [16]}}
    model, rho = make_model(full(sizes), 1), tiny.density(0, shape=(6, 6, 6))
    points, target = torch.tensor(rho.points()), torch.tensor(rho.total.reshape(-1, 1))
    batch, zero = Batch.collate([rho.structure], model.type_map), torch.zeros(len(points), dtype=torch.int64)
    model.calibrate(batch, points, zero, target, torch.ones(len(points), dtype=torch.float64))
    assert float(model.output_mean) == pytest.approx(float(target.mean()), rel=1e-6)
    assert float(model.output_scale) == pytest.approx(float(target.std(correction=0)), rel=1e-6)
    assert f"deviation {float(target.std(correction=0)):.4g} e/A^3" in said()

    def error():
        with torch.no_grad():
            return float((model.decode(model.encode(batch), points, zero) - target).square().mean() / target.var())

    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 5e-3 if step < 60 else 5e-4  # at the end the noted statistics catch up
        part = torch.arange(step % 2, len(points), 2)
        optimizer.zero_grad()
        predicted = model.decode(model.encode(batch), points[part], zero[part])
        (predicted - target[part]).square().mean().div(target.var()).backward()
        optimizer.step()
    assert error() < 0.2


def test_a_step_without_edges():
    """All points in vacuum: no statistics, but a loss and its gradient."""
    model, batch, points, frame = case()
    rho = model.train().decode(model.encode(batch), points[1:2] + torch.zeros(3, 1), frame[:3] * 0 + 1)
    rho.sum().backward()
    assert torch.isfinite(rho).all() and float(rho.detach().std()) < 1e-12
    assert float(model.output.bias.grad) == 3.0


@pytest.mark.parametrize("vacuum", ["paper", "zero"])
def test_no_atoms(vacuum):
    model, batch, points, frame = case(vacuum=vacuum)
    model.eval()
    points = torch.tensor([[60.0, 0, 0], [0, -70.0, 0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    rho = model.decode(model.encode(batch), points, torch.ones(3, dtype=torch.int64))[:, 0]
    assert rho[0] == rho[1] and rho[2] != rho[0] and (float(rho[0].detach()) == 0.0) == (vacuum == "zero")


def test_tied_neighbours():
    """A perfect crystal turned and shifted, points on sites of high symmetry: the same density."""
    a, q = 3.9, torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)).double())[0].numpy()
    cell = a / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    sites = np.array([[0, 0, 0], [a / 2, 0, 0], [a / 4] * 3, [a / 2, a / 4, 0]])
    model = stirred(make_model(full(), 3), 4, 0.05).eval()
    first = tiny.predicted(model, Structure([14], np.zeros((1, 3)), cell, True), sites)
    shift = np.array([0.37, -1.2, 0.11])
    turned = tiny.predicted(model, Structure([14], shift[None], cell @ q, True), sites @ q + shift)
    np.testing.assert_allclose(turned, first, rtol=0, atol=1e-10 * np.abs(first).max())
    assert np.ptp(first) > 1e-3


@pytest.mark.parametrize("kind", ["cgcnn", "cgcnn_probe"])
@pytest.mark.parametrize("a", [4.0, 8.0])
def test_atoms_at_the_cutoff(kind, a):
    """Neighbours at exactly rcut of sites and middles: the same density turned, moved and in tiles of any size."""
    model = stirred(make_model(full({"type": kind}), 3), 4, 0.05).eval()
    whole = np.random.default_rng(0).integers(-3, 4, (100, 3))
    sites, results = np.array([[0, 0, 0], [4.0, 0, 0], [4, 4, 0], [4, 4, 4]])[: 1 if a == 4.0 else 4], []
    points = a * whole + sites[np.arange(100) % len(sites)]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        q = np.linalg.qr(rng.normal(size=(3, 3)))[0] if seed else np.eye(3)
        shift = rng.normal(size=3)
        crystal, turned = Structure([14], shift[None], a * q, True), points @ q + shift
        for tile in (1, 7, 100):
            parts = [tiny.predicted(model, crystal, turned[i : i + tile]) for i in range(0, 100, tile)]
            results.append(np.concatenate(parts)[:, 0])
    results, size = np.array(results), len(sites)
    for k in range(size):  # all points of one kind, in all ways
        assert np.ptp(results[:, k::size]) < 1e-6 * np.abs(results).max()
    assert a == 4.0 or abs(results[0, 0] - results[0, 1]) > 1e-4


def test_code_without_gradients():
    """Encoded without gradients and decoded with them: those of what `decode` takes itself, and the same density."""
    model, batch, points, frame = case(species="learned")
    model.eval()
    with torch.no_grad():
        code = model.encode(batch)
        rho = model.decode(code, points, frame)
    assert code.network is not None or not compiled_for(torch.device("cpu"))
    found = model.decode(code, points, frame)
    torch.testing.assert_close(found.detach(), rho, rtol=1e-11, atol=1e-11)
    found.sum().backward()
    assert float(model.states.grad.abs().max()) > 0 and float(model.output.weight.grad.abs().max()) > 0


def test_element_rows():
    """Known places: carbon and gold; one bin of every property, or none; never another number."""
    first = dict(zip([b[0] for b in BLOCKS], np.cumsum([0, *[b[1] for b in BLOCKS]])[:-1].tolist(), strict=True))

    def bins(symbol):
        row = element_row(symbol)
        ends = [*list(first.values())[1:], len(row)]
        return {k: np.flatnonzero(row[a:b]).tolist() for (k, a), b in zip(first.items(), ends, strict=True)}

    assert len(element_row("C")) == 92
    # 14th group, 2nd period, 2.55, 0.76 Angstrom, 4 electrons, ln 11.26 = 2.42, 1.26 eV, p, ln 5.46 = 1.70
    assert [x[0] for x in bins("C").values()] == [14, 1, 5, 2, 3, 5, 6, 1, 0]
    assert [x[0] for x in bins("Au").values()] == [11, 5, 5, 4, 10, 4, 7, 2, 2]
    assert bins("He")["electron affinity"] == [] and bins("Nd")["group"] == [0] and bins("Lu")["group"] == [3]
    for symbol in chemical_symbols[1:101]:
        assert set(element_row(symbol)) <= {0.0, 1.0}
        assert all(len(x) <= 1 for x in bins(symbol).values()) and bins(symbol)["period"]


def test_species():
    """The probe has helium's numbers; learned ones need no table."""
    model = make_model(full())
    assert np.array_equal(model.probe[0].numpy(), element_row("He"))
    learned = make_model(full({"species": "learned", "type_map": ["He", "Lr"]}))
    assert learned.states.shape == (3, 64) and not hasattr(learned, "embedding")
    for change, text in (
        ({"type_map": ["He", "Si"]}, "model/probe: a point would have the numbers of the atoms He"),
        ({"type_map": ["Lr"]}, "no data on Lr; model/species 'learned'"),
        ({"type_map": ["Ho", "Er"]}, "two species have the same element data"),
        ({"target": "response"}, "cgcnn learns 'density' only"),
        ({"gaussian_step": 5.0}, r"model/gaussian_step: at most rcut \(4\)"),
        ({"gaussian_step": 0.001}, r"model/gaussian_step: at least rcut/500"),
        ({"pool": "first"}, "one of last, all_layers"),
    ):
        with pytest.raises(InputError, match=text):
            make_model(full(change))


def test_no_derivatives():
    model, batch, points, frame = case()
    with pytest.raises(InputError, match="family cgcnn is not smooth"):
        density_derivatives(model, structure(1), points.numpy())
    with pytest.raises(InputError, match="no derivatives by positions"):
        model.decode(model.encode(batch), points.requires_grad_(), frame)
