"""What every family of models must fulfil. A new family adds its entries to FAMILIES."""

import numpy as np
import pytest
import tiny
import torch
from tiny import distances, gaussians, model_config, stirred, structure

from dcharge.batch import Batch
from dcharge.grid import Grid
from dcharge.models import make_model
from dcharge.predict import Predictor
from dcharge.structure import Structure

PAPER = {"vacuum": "paper", "standardize": False, "embedding": "exact", "baseline": {"type": "none"}}
PUBLISHED = {"standardize": False, "baseline": {"type": "none"}}
RESPONSE = {"field": True, "target": "response", "baseline": {"type": "none"}}
DEEPDFT = {"soft": 0.0, "cutoff_function": "published", "vacuum": "paper", "baseline": {"type": "none"}}
FIELD = np.array([0.6, -1.1, 0.9])
# family -> its variants: name -> changes of the model section
FAMILIES = {
    "deep_charge": {
        "default": {},
        "per_l": {"descriptor": {"l_max": 2, "gram": "per_l"}},
        "exact": {"embedding": "exact", "standardize": False},
        "paper": {**PAPER, "descriptor": {"soft": 0.0}},
        "deepmd": {**PAPER, "descriptor": {"soft": 0.0, "set_davg_zero": False}},
        "vacuum_paper": {"vacuum": "paper"},
        "no_baseline": {"baseline": {"type": "none"}},
        "float64": {"precision": "float64"},
    },
    "fireann": {
        "default": {},
        "equi": {"variant": "equi"},
        "unit": {"variant": "equi", "descriptor": {"direction": "unit"}},
        "published": {**PUBLISHED, "vacuum": "paper"},
        "tanh": {"fitting_net": {"activation_function": "tanh_like", "layer_norm": True}},
        "field": {"field": True, "baseline": {"type": "none"}},
        # float64: an untrained response is the small difference of large numbers (float32: test_fireann.py)
        "response": {**RESPONSE, "precision": "float64"},
        "response_equi": {**RESPONSE, "variant": "equi", "precision": "float64"},
        "float64": {"precision": "float64"},
    },
    "painn": {
        "default": {},
        "paper_message": {"paper_message": True, "vacuum": "paper"},
        "exact": {"filters": "exact", "baseline": {"type": "none"}},
        "published": DEEPDFT,
        "float64": {"precision": "float64"},
    },
    "schnet": {
        "default": {},
        "exact": {"filters": "exact", "baseline": {"type": "none"}},
        "published": DEEPDFT,
        "float64": {"precision": "float64"},
    },
    "cgcnn": {
        "default": {},
        "all_layers": {"pool": "all_layers", "baseline": {"type": "none"}},
        "vacuum_zero": {"vacuum": "zero", "probe": "learned"},
        "learned": {"species": "learned"},
        "float64": {"precision": "float64"},
    },
    "cgcnn_probe": {
        "default": {},
        "vacuum_zero": {"vacuum": "zero", "n_layers": 1},
        "float64": {"precision": "float64"},
    },
}
CASES = [(family, name) for family, variants in FAMILIES.items() for name in variants]
SMOOTH = [case for case in CASES if not case[0].startswith("cgcnn")]  # whose density has derivatives


def built(family, name, seed=5, calibrated=True, **changes):
    """A model of the case, its constants set from an analytic density."""
    model = make_model(model_config({"type": family}, FAMILIES[family][name], changes), seed)
    if calibrated:
        frames = [seen(model, structure(seed)) for seed in (10, 11)]
        points = np.random.default_rng(0).uniform(0, 5, (300, 3))
        frame = torch.arange(300) % 2
        target = np.array([gaussians(frames[f], p[None])[0] for f, p in zip(frame.tolist(), points, strict=True)])
        batch, target = Batch.collate(frames, model.type_map), torch.tensor(target)[:, None]
        model.calibrate(batch, torch.tensor(points), frame, target, torch.ones(300, dtype=torch.float64))
    if family != "deep_charge":
        stirred(model, seed, 0.1 if family == "fireann" else 0.3)
    return model.eval()


def seen(model, s):
    """The structure, in the tests' electric field if the model sees one and the structure has none."""
    return s.with_(field=FIELD) if model.sees_field and s.field is None else s


def predicted(model, structures, points, point_frame=None):
    """tiny.predicted for structures as `seen`."""
    structures = [structures] if isinstance(structures, Structure) else structures
    return tiny.predicted(model, [seen(model, s) for s in structures], points, point_frame)


@pytest.fixture(params=CASES, ids="-".join, scope="module")
def model(request):
    return built(*request.param)


@pytest.fixture(params=SMOOTH, ids="-".join, scope="module")
def double(request):
    """The case in float64, for derivatives; their differences would see a table's interpolation."""
    exact = {"filters": "exact"} if request.param[0] in ("painn", "schnet") else {}
    return built(*request.param, precision="float64", **exact)


def sharp(model) -> bool:
    """DeepDFT as published has a kink on nuclei, and curvature (schnet: the value) jumps at the cutoff."""
    return model.config.get("cutoff_function") == "published"


@pytest.fixture
def frame():
    return structure(1)


def some_points(n=40, seed=0):
    return np.random.default_rng(seed).uniform(-2, 7, (n, 3))


def agree(model, a, b, scale=None):
    """The same density to the contract's tolerance, relative to the largest value."""
    limit = (1e-5 if model.dtype == torch.float32 else 1e-10) * (np.abs(b).max() if scale is None else scale)
    assert a.shape == b.shape and np.isfinite(a).all()
    np.testing.assert_allclose(a, b, rtol=0, atol=limit)


def test_shape_and_type(model, frame):
    rho = predicted(model, frame, some_points(7))
    assert rho.shape == (7, model.n_channels)
    assert rho.dtype == (np.float64 if model.dtype == torch.float64 else np.float32)
    assert np.ptp(rho) > 1e-3  # otherwise the tests of invariance would say nothing
    assert predicted(model, frame, np.zeros((0, 3))).shape == (0, model.n_channels)


def test_translation(model, frame):
    points, shift = some_points(), np.array([0.3, -7.1, 2.2])
    moved = frame.with_(positions=frame.positions + shift)
    agree(model, predicted(model, moved, points + shift), predicted(model, frame, points))


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "reflection"])
def test_rotation(model, frame, sign):
    q, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((3, 3)))
    q *= sign * np.sign(np.linalg.det(q))
    frame, points = seen(model, frame), some_points()
    field = None if frame.field is None else frame.field @ q
    turned = Structure(frame.numbers, frame.positions @ q, frame.cell @ q, frame.pbc, field)
    agree(model, predicted(model, turned, points @ q), predicted(model, frame, points))


def test_field(model, frame):
    """A field matters to a model that sees it, alone turned too; without field a response vanishes."""
    points, frame = some_points(), seen(model, frame)
    rho, free = predicted(model, frame, points), predicted(model, frame.with_(field=np.zeros(3)), points)
    turned = predicted(model, frame.with_(field=[0.5, 0.4, 0.2]), points)
    if not model.sees_field:
        assert np.array_equal(rho, free) and np.array_equal(rho, turned)
        return
    assert min(np.abs(rho - free).max(), np.abs(rho - turned).max()) > 1e-4 * np.abs(rho).max()
    if model.config["target"] == "response":
        assert not free.any()


def test_permutation(model, frame):
    order, points = [2, 0, 3, 1], some_points()
    mixed = frame.with_(numbers=frame.numbers[order], positions=frame.positions[order])
    agree(model, predicted(model, mixed, points), predicted(model, frame, points))
    agree(model, predicted(model, frame, points[::-1].copy())[::-1], predicted(model, frame, points))


def test_wrapping(model, frame):
    points, rng = some_points(), np.random.default_rng(2)
    wrapped = frame.with_(positions=frame.positions + rng.integers(-3, 4, (len(frame), 3)) @ frame.cell)
    moved = points + rng.integers(-3, 4, (len(points), 3)) @ frame.cell
    agree(model, predicted(model, wrapped, moved), predicted(model, frame, points))


def test_tile_size(model, frame):
    grid, frame = Grid((9, 5, 6), frame.cell), seen(model, frame)
    whole = Predictor(model).at(frame, grid.points())
    for tile in (1, 7, 100):
        some = Predictor(model, tile=tile).predict(frame, grid=grid).values.reshape(1, -1)
        agree(model, some.astype(np.float64), whole.astype(np.float32).astype(np.float64))


def test_several_frames(model):
    frames = [structure(1), structure(2, numbers=(8,), pbc=(True, True, False)), structure(3, pbc=False)]
    points, which = some_points(30), np.arange(30) % 3
    together = predicted(model, frames, points, which)
    for k, one in enumerate(frames):
        agree(model, together[which == k], predicted(model, one, points[which == k]), scale=np.abs(together).max())


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 3)])
def test_supercell(model, frame, repeats):
    shifts = np.array([(i, j, k) for i in range(repeats[0]) for j in range(repeats[1]) for k in range(repeats[2])])
    n = len(shifts)
    positions = (frame.positions[None] + (shifts @ frame.cell)[:, None]).reshape(-1, 3)
    large = Structure(np.tile(frame.numbers, n), positions, frame.cell * np.array(repeats)[:, None], True)
    points = some_points()
    agree(model, predicted(model, large, points), predicted(model, frame, points))


def test_cell_smaller_than_cutoff(model):
    cell = np.diag([1.9, 2.1, 2.3])
    small = Structure([14], [[0.1, 0.2, 0.3]], cell, True)
    assert model.reach > 1.5 * cell.max()
    shifts = np.array([(i, j, k) for i in range(-6, 7) for j in range(-6, 7) for k in range(-6, 7)])
    cluster = Structure([14] * len(shifts), small.positions + shifts @ cell, np.zeros((3, 3)), False)
    points = np.random.default_rng(0).uniform(0, 2, (10, 3))
    agree(model, predicted(model, small, points), predicted(model, cluster, points))


def test_other_points_change_nothing(model, frame):
    points = some_points()
    rho = predicted(model, frame, points)
    agree(model, rho[:10], predicted(model, frame, points[:10]), scale=np.abs(rho).max())


def test_slab(model):
    """Axes that are not periodic have no images, whatever their cell vectors."""
    slab = structure(1, pbc=(True, True, False))
    points = some_points()
    rho = predicted(model, slab, points)
    for row in ([0.0, 0.0, 0.0], [3.0, 1.0, 99.0]):
        cell = slab.cell.copy()
        cell[2] = row
        agree(model, predicted(model, slab.with_(cell=cell), points), rho)
    images = [slab.positions + i * slab.cell[0] + j * slab.cell[1] for i in range(-4, 5) for j in range(-4, 5)]
    cluster = Structure(np.tile(slab.numbers, 81), np.concatenate(images), np.zeros((3, 3)), False)
    agree(model, predicted(model, cluster, points), rho)
    assert np.abs(predicted(model, slab.with_(pbc=[1, 1, 1]), points) - rho).max() > 1e-4


def test_vacuum(model):
    """Far from all atoms: exactly zero, or where the family keeps a constant exactly that."""
    cell = np.diag([4.0, 4.0, 40.0 + 4.0])
    slab = seen(model, Structure([14, 8], [[0, 0, 1.0], [2.0, 2.0, 2.5]], cell, True))
    grid = Grid((6, 6, 80), cell)
    far = distances(slab, grid.points()).min(1) > model.reach
    assert far.sum() > 1000
    rho = Predictor(model, tile=700).predict(slab, grid=grid, dtype=np.float64).values.reshape(-1)
    assert np.abs(rho[~far]).max() > 1e-3
    zero = model.config.get("vacuum", "zero") == "zero"
    constant = 0.0 if zero else predicted(model, slab, np.array([[0, 0, 20.0]]))[0, 0]
    agree(model, rho[far], np.full(far.sum(), constant), scale=abs(constant))
    nothing = Structure([], np.zeros((0, 3)), cell, True)
    agree(model, predicted(model, nothing, grid.points()[:5])[:, 0], np.full(5, constant), scale=abs(constant))


def derivatives(model, frame, point):
    """Density, gradient [3] and Hessian [3, 3] at a point."""
    batch = Batch.collate([seen(model, frame)], model.type_map)
    zero = torch.zeros(1, dtype=torch.int64)

    def rho(x):
        return model.decode(model.encode(batch), x[None], zero)[0, 0]

    x = torch.tensor(np.asarray(point, dtype=float), requires_grad=True)
    value = rho(x)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    second = [torch.autograd.grad(g, x, retain_graph=True)[0] for g in first] if first.requires_grad else [0 * x] * 3
    return value.item(), first.detach().numpy(), torch.stack(second).numpy()


def test_gradient(double, frame):
    point, h = np.array([1.0, 2.0, 0.5]), 1e-4
    _, first, second = derivatives(double, frame, point)
    ends = predicted(double, frame, np.concatenate([point + h * np.eye(3), point - h * np.eye(3)]))[:, 0]
    np.testing.assert_allclose(first, (ends[:3] - ends[3:]) / (2 * h), rtol=1e-5, atol=1e-6)
    ends = [derivatives(double, frame, point + s * h * e)[1] for s in (1, -1) for e in np.eye(3)]
    np.testing.assert_allclose(second, (np.array(ends[:3]) - np.array(ends[3:])) / (2 * h), rtol=1e-4, atol=1e-5)


def test_on_a_nucleus(double, frame):
    """Finite, and density, gradient and Hessian are the limits from every side."""
    nucleus, h = frame.positions[1], 1e-6
    there = derivatives(double, frame, nucleus)
    assert all(np.isfinite(x).all() for x in there)
    if sharp(double):
        return
    scale = max(np.abs(there[2]).max(), np.abs(there[1]).max(), abs(there[0]))
    directions = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, -1], [0.6, 0.0, 0.8], [0.0, -0.6, 0.8]]
    for direction in np.array(directions):
        for a, b in zip(derivatives(double, frame, nucleus + h * direction), there, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * scale)


def test_without_neighbours(double):
    molecule = structure(1, pbc=False)
    value, first, second = derivatives(double, molecule, [60.0, 0.0, 0.0])
    assert np.isfinite(value) and not first.any() and not second.any()


def test_continuous_at_the_cutoff(double):
    atom, reach, d = Structure([14], np.zeros((1, 3)), np.zeros((3, 3)), False), double.reach, 1e-3
    direction = np.array([0.48, 0.6, 0.64])
    for r in (reach - d, reach, reach + d):
        value, first, second = derivatives(double, atom, r * direction)
        outside = derivatives(double, atom, (reach + 1) * direction)[0]
        if sharp(double):
            assert abs(value - outside) < (1e-5 if double.config["type"] == "painn" else 1e-2)
            continue
        # the quintic switch leaves a third power of the distance to the cutoff
        assert abs(value - outside) < 1e-6 and np.abs(first).max() < 1e-4 and np.abs(second).max() < 0.1


def test_features(model, frame):
    points = some_points(9)
    batch = Batch.collate([seen(model, frame)], model.type_map)
    features = model.features(model.encode(batch), torch.tensor(points), torch.zeros(9, dtype=torch.int64))
    assert features.shape[0] == 9 and features.ndim == 2 and features.dtype == torch.float64
    assert torch.isfinite(features).all() and features.std(0).max() > 0
    shifted = batch.atoms + 1.0
    moved = Batch(shifted, *batch.geometry[1:], batch.field)
    again = model.features(model.encode(moved), torch.tensor(points + 1.0), torch.zeros(9, dtype=torch.int64))
    agree(model, again.detach().numpy(), features.detach().numpy())


def test_given_geometry_changes_nothing(model, frame):
    points, zero = torch.tensor(some_points(9)), torch.zeros(9, dtype=torch.int64)
    batch = Batch.collate([seen(model, frame)], model.type_map)
    cache, geometry = model.encode(batch), model.geometry(batch, points, zero)
    with torch.no_grad():
        assert torch.equal(model.decode(cache, points, zero, geometry), model.decode(cache, points, zero))
        parts = model.residual(cache, points, zero, geometry) + model.baseline_density(batch, points, zero, geometry)
    agree(model, parts.numpy(), predicted(model, frame, points.numpy()))


@pytest.mark.parametrize("family,name", CASES)
def test_state_and_seed(family, name, frame):
    model, other = built(family, name), built(family, name, seed=6, calibrated=False)
    points = some_points()
    assert not np.array_equal(predicted(other, frame, points), predicted(model, frame, points))
    assert not other.load_state_dict(model.state_dict()).missing_keys
    assert np.array_equal(predicted(other, frame, points), predicted(model, frame, points))
    for k, tensor in built(family, name).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[k]), k
