"""FIREANN against a naive joint graph of atoms and points in numpy; its feature map, field, response and sizes."""

import math

import numpy as np
import pytest
import torch
from tiny import TYPE_MAP, gaussians, image_shifts, normalize_model, predicted, stirred, structure

from dcharge.batch import Batch
from dcharge.errors import InputError
from dcharge.models import make_model

SMALL = {
    "type": "fireann",
    "type_map": TYPE_MAP,
    "precision": "float64",
    "descriptor": {"rcut": 3.2, "n_waves": 3},
    "orbital_net": {"neuron": [5, 4]},
    "fitting_net": {"neuron": [6, 6]},
}
PUBLISHED = {"standardize": False, "baseline": {"type": "none"}}
POINTS = np.random.default_rng(3).uniform(-1, 6, (5, 3))


def built(*changes, seed=2, frames=None):
    """A small model, constants set from an analytic density, then stirred."""
    config = dict(SMALL)
    for change in changes:
        for k, v in change.items():
            config[k] = {**config[k], **v} if isinstance(v, dict) and k in config else v
    model = make_model(normalize_model(config), seed)
    frames = frames or [structure(7)]
    points = np.random.default_rng(0).uniform(0, 5, (200, 3))
    frame = torch.arange(200) % len(frames)
    target = np.array([gaussians(frames[f], p[None])[0] for f, p in zip(frame.tolist(), points, strict=True)])
    one = torch.ones(200, dtype=torch.float64)
    batch = Batch.collate(frames, model.type_map)
    model.calibrate(batch, torch.tensor(points), frame, torch.tensor(target)[:, None], one)
    return stirred(model)


class Joint:
    """The model written for one graph that holds atoms and points alike, with explicit features; numpy, loops, no fold.

    Products are ordered (1, 3, 9 components), features are squares of contracted sums, points are centres without
    influence on others.
    """

    def __init__(self, model):
        self.model, self.d = model, model.config["descriptor"]
        self.p = {k: v.detach().numpy() for k, v in model.state_dict().items()}

    def orbitals(self, v, z):
        """phi [1 + 3 + 9, n_waves] of the vector from a centre to an atom of type z, and f_c."""
        r, soft = np.linalg.norm(v), self.d["soft"]
        smooth = math.sqrt(r * r + soft * soft)
        if self.d["direction"] == "unit":
            v = v / smooth
        alpha = -np.log1p(np.exp(self.p["steepness"][z]))
        radial = np.exp(alpha * (smooth - self.p["center"][z]) ** 2)
        cut = (0.5 * (1 + math.cos(math.pi * r / self.d["rcut"]))) ** 2
        return cut * np.outer(self.ordered(v), radial), cut

    def ordered(self, v):
        """All ordered products of components up to degree l_max."""
        levels = [np.ones(1)]
        for _ in range(self.d["l_max"]):
            levels.append(np.outer(levels[-1], v).ravel())
        self.degree = np.repeat(np.arange(len(levels)), [len(x) for x in levels])
        return np.concatenate(levels)

    def net(self, x, prefix, species=None):
        """FIREANN's net, layer by layer; of the stacked ones that of a species."""

        def weight(name):
            value = self.p[f"{prefix}.{name}.weight"]
            return value if species is None else value[species]

        def vector(name):
            value = self.p[f"{prefix}.{name}"]
            return value if species is None else value[species, 0]

        def linear(name, x):
            return weight(name) @ x + vector(f"{name}.bias")

        def act(name, x):
            alpha, beta = vector(f"{name}.alpha"), vector(f"{name}.beta")
            if self.kind(prefix) == "silu_like":
                return alpha * (beta * x) * 0.5 * (1 + np.tanh(0.5 * beta * x))
            return alpha * x / np.sqrt(1 + (beta * x) ** 2)

        def norm(name, x):
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
            return vector(f"{name}.weight") * x + vector(f"{name}.bias")

        x = start = linear("first", x)
        step = 3 if self.section(prefix)["layer_norm"] else 2
        for k in range(len(self.section(prefix)["neuron"])):
            x = act(f"block.{k * step}", x)
            if step == 3:
                x = norm(f"block.{k * step + 1}", x)
            x = linear(f"block.{k * step + step - 1}", x)
        return linear("output", act("last_activation", start + x))

    def section(self, prefix):
        return self.model.config["fitting_net" if prefix == "fitting" else "orbital_net"]

    def kind(self, prefix):
        return self.section(prefix)["activation_function"]

    def __call__(self, s, points, field=None):
        """Network's output (without scale and baseline) at points, less that without neighbours."""
        model, n, n_types = self.model, len(s), len(self.model.type_map)
        kinds = [*s.types(model.type_map), *[n_types] * len(points), n_types]
        far = s.positions.mean(0) + 1e3  # a centre without neighbours
        centres = np.concatenate([s.positions, points, far[None]])
        edges = []
        for i, centre in enumerate(centres):
            for j in range(n):
                for shift in image_shifts(s, 3) if i < len(centres) - 1 else [np.zeros(3)]:
                    v = s.positions[j] + shift - centre
                    if np.linalg.norm(v) < self.d["rcut"] and not (i == j and not shift.any()):
                        edges.append((i, j, *self.orbitals(v, kinds[j])))
        outside = np.zeros((len(self.ordered(np.zeros(3))), model.n_waves))
        if model.sees_field:
            outside = np.outer(self.ordered(field / self.p["field_scale"]), self.p["field_coefficient"])
        c = np.array([self.p["coefficient"][z] for z in kinds[:n]])
        phi = [e[2].copy() for e in edges]
        for t in range(model.n_iterations + 1):
            sums = np.zeros((len(centres), *outside.shape))
            for (i, j, _, _), orbital in zip(edges, phi, strict=True):
                sums[i] += c[j] * orbital
            # kinds of centre: species in this iteration; points, which matter in the last one only
            rows = [z + t * n_types if z < n_types and t < model.n_iterations else -1 for z in kinds]
            for i, z in enumerate(rows):
                sums[i] = sums[i] / self.p["sum_scale"][z][self.degree]
                if model.standardize:
                    sums[i, 0] += self.p["shift"][z] - self.p["sum_center"][z] / self.p["sum_scale"][z, 0]
                sums[i] += outside
            rho = np.zeros((len(centres), model.n_features))
            for degree in range(self.d["l_max"] + 1):
                contracted = sums[:, self.degree == degree] @ self.p["contraction"][degree]
                rho += (contracted**2).sum(1)
            rho = (rho - self.p["feature_center"][rows]) / self.p["feature_scale"][rows]
            if t == model.n_iterations:
                break
            change = np.array([self.net(rho[j], f"orbital_nets.{t}", kinds[j]) for j in range(n)])
            c = c + (3.0 * np.tanh(change / 3.0) if model.standardize else change)
            if model.equi:
                phi = [orbital + cut * sums[j] for (_, j, _, cut), orbital in zip(edges, phi, strict=True)]
        out = np.array([self.net(rho[i], "fitting")[0] for i in range(n, len(centres))])
        return out[:-1] - out[-1]


CASES = {
    "v1": {},
    "equi": {"variant": "equi"},
    "unit": {"variant": "equi", "descriptor": {"direction": "unit"}},
    "published": PUBLISHED,
    "published_equi": {**PUBLISHED, "variant": "equi"},
    "one": {"descriptor": {"n_iterations": 1, "l_max": 1, "n_features": 7}},
    "none": {"variant": "equi", "descriptor": {"n_iterations": 0}},
    "tanh": {"fitting_net": {"activation_function": "tanh_like", "layer_norm": True, "neuron": [6, 5, 7]}},
    "norm": {"orbital_net": {"layer_norm": True}},
    "field": {"field": True},
    "field_equi": {"field": True, "variant": "equi"},
}


@pytest.mark.parametrize("pbc", [True, (True, False, True)], ids=["crystal", "slab"])
@pytest.mark.parametrize("name", CASES)
def test_decoder_is_the_joint_graph(name, pbc):
    field = np.array([0.3, -0.7, 0.2]) if "field" in name else None
    s = structure(7, pbc=pbc).with_(field=field)
    model = built({"baseline": {"type": "none"}}, CASES[name], frames=[s])
    expected = Joint(model)(s, POINTS, field) * model.output_scale.item()
    scale = np.abs(expected).max()
    assert np.ptp(expected) > 0.01 * scale > 0
    np.testing.assert_allclose(predicted(model, s, POINTS)[:, 0], expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("variant", ["v1", "equi"])
def test_response_is_the_difference_of_two_densities(variant):
    field = np.array([0.3, -0.7, 0.2])
    s = structure(7).with_(field=field)
    model = built({"field": True, "target": "response", "baseline": {"type": "none"}, "variant": variant}, frames=[s])
    joint = Joint(model)
    with_field, without = (joint(s, POINTS, e) * model.output_scale.item() for e in (field, np.zeros(3)))
    expected, atol = with_field - without, 1e-13 * np.abs(with_field).max()  # both are rounded
    assert atol < 1e-9 * np.abs(expected).max()
    np.testing.assert_allclose(predicted(model, s, POINTS)[:, 0], expected, rtol=0, atol=atol)
    assert not predicted(model, s.with_(field=np.zeros(3)), POINTS).any()
    # in one batch with a frame that has a field
    both = predicted(model, [s, structure(7)], np.concatenate([POINTS, POINTS]), [0] * 5 + [1] * 5)
    assert not both[5:].any() and np.abs(both[:5]).min() > 0
    np.testing.assert_allclose(both[:5, 0], expected, rtol=0, atol=atol)


def test_derivative_with_respect_to_the_field_where_there_is_none():
    """The response is zero at zero field, its slope is not: autograd against central differences."""
    s = structure(7).with_(field=np.zeros(3))
    model = built(
        {"field": True, "target": "response", "baseline": {"type": "none"}}, frames=[s.with_(field=[0.3, -0.7, 0.2])]
    )
    batch, points = Batch.collate([s], model.type_map), torch.tensor(POINTS)
    batch.field.requires_grad_()
    rho = model.decode(model.encode(batch), points, torch.zeros(len(points), dtype=torch.int64))
    assert not rho.any()
    (slope,) = torch.autograd.grad(rho.sum(), batch.field)
    step = 1e-4
    for axis in range(3):
        ends = [predicted(model, s.with_(field=sign * step * np.eye(3)[axis]), POINTS).sum() for sign in (1, -1)]
        assert slope[0, axis].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)
    assert slope.abs().min() > 0


def test_response_in_single_precision():
    """Near the training data the rounding of the two densities is below a thousandth of the response."""
    s = structure(7).with_(field=[0.3, -0.7, 0.2])
    options = {"field": True, "target": "response", "baseline": {"type": "none"}}
    double, single = (built(options, {"precision": p}, frames=[s]) for p in ("float64", "float32"))
    single.load_state_dict(double.state_dict())
    expected = predicted(double, s, POINTS)
    np.testing.assert_allclose(predicted(single, s, POINTS), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_features_are_products_times_the_map():
    """rho = g M for the unique products g; the first layer holds M."""
    model, s = built(), structure(7)
    code = model.encode(Batch.collate([s], TYPE_MAP))
    zero = torch.zeros(len(POINTS), dtype=torch.int64)
    (sums,), _ = model.point_sums(code, torch.tensor(POINTS), zero)
    rho = 0
    degrees = np.array([0, 1, 1, 1] + [2] * 6)
    weight = torch.tensor([1.0] * 7 + [2.0] * 3, dtype=torch.float64)
    for degree in range(3):
        part = torch.einsum("nkm,mf->nkf", sums[:, degrees == degree], model.contraction[degree])
        rho = rho + (weight[degrees == degree][:, None] * part.square()).sum(1)
    g = model.features(code, torch.tensor(POINTS), zero)
    scale = rho.abs().max().item()
    assert g.shape == (5, 18)
    np.testing.assert_allclose((g @ model.map_matrix()).detach(), rho.detach(), rtol=0, atol=1e-12 * scale)
    explicit = model.fitting((rho - model.feature_center[-1]) / model.feature_scale[-1])
    folded = model.network(code, g)
    np.testing.assert_allclose(folded.detach(), explicit.detach(), rtol=0, atol=1e-12 * explicit.abs().max().item())


def test_contraction_has_full_rank():
    """QM9's size: 108 independent features; one matrix for all l would give 36."""
    model = make_model(normalize_model({"type": "fireann", "type_map": ["H"], "precision": "float64"}), 1)
    matrix = model.map_matrix()
    assert matrix.shape == (108, 108) and torch.linalg.matrix_rank(matrix) == 108
    with torch.no_grad():
        model.contraction[1:] = model.contraction[0]
    assert torch.linalg.matrix_rank(model.map_matrix()) == 36


def test_untrained_network_gives_the_baseline():
    """Outputs begin with zeros: the density is the baseline's, orbitals those of bare species."""
    model = make_model(normalize_model(SMALL), 2)
    batch, s = Batch.collate([structure(7)], TYPE_MAP), structure(7)
    points = torch.tensor(np.random.default_rng(0).uniform(0, 5, (200, 3)))
    zero, one = torch.zeros(200, dtype=torch.int64), torch.ones(200, dtype=torch.float64)
    model.calibrate(batch, points, zero, torch.tensor(gaussians(s, points.numpy()))[:, None], one)
    base = model.baseline_density(batch, points, zero, None)
    assert torch.equal(model.decode(model.encode(batch), points, zero), base) and base.abs().max() > 0.1
    assert torch.equal(model.encode(batch).states[0].coefficients, model.coefficient[batch.atom_type])


def test_calibration_standardises():
    """Features at the training points have mean 0 and deviation 1 before training."""
    model = make_model(normalize_model(SMALL), 2)
    s, zero, one = structure(7), torch.zeros(200, dtype=torch.int64), torch.ones(200, dtype=torch.float64)
    batch, points = Batch.collate([s], TYPE_MAP), torch.tensor(np.random.default_rng(0).uniform(0, 5, (200, 3)))
    model.calibrate(batch, points, zero, torch.tensor(gaussians(s, points.numpy()))[:, None], one)
    code = model.encode(batch)
    rho = model.features(code, points, zero) @ model.map_matrix()
    rho = (rho - model.feature_center[-1]) / model.feature_scale[-1]
    np.testing.assert_allclose(rho.mean(0).detach(), 0, atol=1e-10)
    np.testing.assert_allclose(rho.square().mean(0).detach(), 1, atol=1e-10)
    (sums,), _ = model.point_sums(code, points, zero)
    np.testing.assert_allclose((sums[:, 0] - model.shift[-1]).square().mean(0).detach(), 1, atol=1e-10)


@pytest.mark.parametrize("standardize", [True, False])
def test_number_of_parameters(standardize):
    """Orbitals, contraction, one net per species and iteration, the net of the points."""
    model = make_model(normalize_model({**SMALL, "standardize": standardize, "field": True}))

    def net(n_in, widths, n_out):
        sizes = [*widths, widths[0]]
        linear = (n_in + 1) * widths[0] + sum((a + 1) * b for a, b in zip(sizes, sizes[1:], strict=False))
        return linear + 2 * (sum(widths) + widths[0]) + (widths[0] + 1) * n_out

    orbitals, contraction, field, shift = 3 * 2 * 3, 3 * 3 * 18, 3, (2 * 2 + 1) * 3 if standardize else 0
    nets = 2 * 2 * net(18, [5, 4], 3) + net(18, [6, 6], 1)
    assert sum(p.numel() for p in model.parameters()) == orbitals + contraction + field + shift + nets


def test_paper_size():
    """QM9 (H, C, N, O, F): 2 x 5 orbital nets of 2520, the net of the points 5825, D 2592, orbitals 3 x 5 x 8."""
    model = make_model(normalize_model({"type": "fireann", "type_map": ["H", "C", "N", "O", "F"], **PUBLISHED}))
    assert sum(p.numel() for p in model.parameters()) == 33737


def test_recursion_does_not_run_away():
    """Atoms much closer than in training: coefficients stay within reach, in every iteration."""
    model = built({"descriptor": {"n_iterations": 6}})
    close = structure(7).with_(positions=0.6 * structure(7).positions)
    coefficients = model.encode(Batch.collate([close], TYPE_MAP)).states[0].coefficients
    assert (coefficients - model.coefficient[close.types(TYPE_MAP)]).abs().max() < 6 * 3.0


def test_exponents_stay_negative():
    model = stirred(make_model(normalize_model(SMALL)), size=50.0)
    assert (model.exponent <= 0).all() and torch.isfinite(model.exponent).all()
    fresh = make_model(normalize_model(SMALL))
    assert (fresh.exponent < 0).all() and ((fresh.center >= 0) & (fresh.center <= 3.2)).all()
    fresh = make_model(normalize_model({**SMALL, **PUBLISHED}))
    assert ((fresh.exponent <= -0.2) & (fresh.exponent >= -1.2)).all()
    assert ((fresh.center >= 0) & (fresh.center <= 3.2)).all()


def test_species_without_training_data():
    """A species of the type map that the training data lack leaves finite constants."""
    for changes in ({}, PUBLISHED):
        model = built(changes, frames=[structure(7, numbers=(14, 14))])
        assert all(torch.isfinite(t).all() for t in model.state_dict().values())
        assert np.isfinite(predicted(model, structure(7), POINTS)).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": "response"}, "model/field: must be true for target 'response'"),
        ({"target": "response", "field": True, "vacuum": "paper"}, "model/vacuum: must be 'zero'"),
        ({"descriptor": {"direction": "unit", "soft": 0.0}}, "model/descriptor/soft: must be positive"),
        ({"descriptor": {"l_max": 4}}, "model/descriptor/l_max: an integer from 0 to 3"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(InputError, match=message):
        normalize_model({"type": "fireann", "type_map": ["H"], "baseline": {"type": "none"}, **changes})
