"""Tiny systems and inputs that the tests share: an analytic density in files of dcharge, and what a run wrote."""

import copy
import itertools

import numpy as np
import torch

from dcharge.batch import Batch
from dcharge.config import normalize, normalize_model
from dcharge.density import Density
from dcharge.grid import Grid
from dcharge.models import make_model
from dcharge.structure import Structure, complete_cell

# species -> electrons and width (Angstrom) of its Gaussian
ATOMS = {14: (4.0, 0.9), 8: (6.0, 0.7)}
TYPE_MAP = ["Si", "O"]
SKEWED = np.array([[4.6, 0.0, 0.0], [1.1, 4.2, 0.0], [-0.7, 0.6, 5.0]])
MODEL = {
    "type": "deep_charge",
    "type_map": TYPE_MAP,
    "descriptor": {"type": "se_e2_a", "rcut": 4.0, "neuron": [4, 8], "axis_neuron": 3, "n_radial": 12},
    "fitting_net": {"neuron": [10, 10]},
}
FIREANN = {
    "type": "fireann",
    "type_map": TYPE_MAP,
    "descriptor": {"type": "ead", "rcut": 4.0, "n_waves": 4},
    "orbital_net": {"neuron": [6, 6]},
    "fitting_net": {"neuron": [8, 8]},
}
# cells and clusters of the tests are made for what a point sees through the atoms: 3 times 3.5 Angstrom
PAINN = {"type": "painn", "type_map": TYPE_MAP, "rcut": 3.5, "n_features": 6, "n_layers": 2, "n_radial": 5}
SCHNET = {"type": "schnet", "type_map": TYPE_MAP, "rcut": 3.5, "n_features": 6, "n_layers": 2, "gaussian_step": 0.4}
CGCNN = {"type": "cgcnn", "type_map": TYPE_MAP, "rcut": 3.5, "n_features": 6, "n_layers": 2, "gaussian_step": 0.5}
CGCNN_PROBE = {**CGCNN, "type": "cgcnn_probe"}
MODELS = {
    "deep_charge": MODEL,
    "fireann": FIREANN,
    "painn": PAINN,
    "schnet": SCHNET,
    "cgcnn": CGCNN,
    "cgcnn_probe": CGCNN_PROBE,
}
INPUT = {
    "model": MODEL,
    "learning_rate": {"type": "exp", "start_lr": 5e-3, "stop_lr": 1e-4, "decay_steps": 5},
    "training": {
        "numb_steps": 20,
        "seed": 3,
        "sampler": {"points_per_frame": 300},
        "training_data": {"systems": [], "batch_size": 64},
        "disp_freq": 5,
        "save_freq": 10,
        "device": "cpu",
    },
}


def merged(base: dict, *changes: dict) -> dict:
    """A copy of nested mappings with changes put in; a mapping with another `type` replaces the old one."""
    out = copy.deepcopy(base)
    for change in changes:
        for k, v in change.items():
            deeper = isinstance(v, dict) and isinstance(out.get(k), dict)
            same_type = deeper and v.get("type", out[k].get("type")) == out[k].get("type")
            out[k] = merged(out[k], v) if same_type else copy.deepcopy(v)
    return out


NO_BASELINE = {"model": {"baseline": {"type": "none"}}}
# a short training on real silicon, tests/data/si8.cube.gz
SILICON = {
    "_comment": "keys that begin with _ are comments",
    "model": merged(MODEL, {"type_map": ["Si"], "descriptor": {"rcut": 5.0}}),
    "training": {
        "numb_steps": 40,
        "training_data": {"systems": ["si8.cube.gz"], "batch_size": 256},
        "validation_data": {"fraction": 0.1},
        "sampler": {"points_per_frame": 1500},
        "disp_freq": 10,
        "save_freq": 20,
    },
}


def model_config(*changes: dict) -> dict:
    """Normalised `model` section of a tiny model; the family is the last `type` in the changes, or Deep Charge."""
    family = [change["type"] for change in changes if "type" in change][-1:] or ["deep_charge"]
    return normalize_model(merged(MODELS[family[0]], *changes))


def input_config(systems, *changes: dict) -> dict:
    """Normalised input of a tiny training run on `systems`."""
    data = {"training": {"training_data": {"systems": [str(s) for s in systems]}}}
    return normalize(merged(INPUT, data, *changes))


def structure(seed=0, numbers=(14, 8, 8, 14), cell=SKEWED, pbc=True) -> Structure:
    """Atoms at random places, at least 1.2 Angstrom apart, some of them outside the cell."""
    rng = np.random.default_rng(seed)
    whole = np.eye(3) * 4 if abs(np.linalg.det(cell)) < 1e-9 else np.asarray(cell, dtype=float)
    for _ in range(1000):
        s = Structure(list(numbers), rng.uniform(-0.2, 1.2, (len(numbers), 3)) @ whole, cell, pbc)
        if len(numbers) < 2 or np.min(distances(s, s.positions) + 99 * np.eye(len(s))) > 1.2:
            return s
    raise AssertionError("no room for the atoms")


def image_shifts(s: Structure, n: int) -> np.ndarray:
    """All lattice translations [m, 3] (Angstrom) with indices from -n to n along periodic axes."""
    spans = [range(-n, n + 1) if p else (0,) for p in s.pbc]
    return np.array(list(itertools.product(*spans)), dtype=float) @ complete_cell(s.cell, s.pbc)


def distances(s: Structure, points, n: int = 3) -> np.ndarray:
    """Brute force: distance of every point to the nearest image of every atom -> [n_points, n_atoms]."""
    d = np.asarray(points)[:, None, None] - s.positions[:, None] - image_shifts(s, n)
    return np.linalg.norm(d, axis=-1).min(-1)


def gaussians(s: Structure, points, n: int = 2) -> np.ndarray:
    """Sum of one normalised Gaussian per atom image at points -> [n_points], e/Angstrom^3."""
    out = np.zeros(len(points))
    shifts = image_shifts(s, n)
    for z, r in zip(s.numbers, s.positions, strict=True):
        electrons, width = ATOMS[int(z)]
        d2 = ((np.asarray(points)[:, None] - r - shifts) ** 2).sum(-1)
        out += electrons * np.exp(-0.5 * d2 / width**2).sum(1) / (2 * np.pi * width**2) ** 1.5
    return out


def density(seed=0, shape=(12, 10, 12), **options) -> Density:
    """The analytic density of `structure(seed, **options)` on a grid."""
    s = structure(seed, **options)
    grid = Grid(shape, s.cell)
    return Density(s, grid, gaussians(s, grid.points()).reshape(shape))


def stirred(model, seed=1, size=0.3):
    """The model with all parameters moved at random: outputs that begin with zeros would test nothing."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype))
    return model


def calibrated(config, seed=1, **options):
    """An untrained model, its constants set from the analytic `density(0, **options)`."""
    model, rho = make_model(config, seed), density(0, **options)
    points, target = torch.tensor(rho.points()), torch.tensor(rho.total.reshape(-1, 1))
    one, zero = torch.ones(len(points), dtype=torch.float64), torch.zeros(len(points), dtype=torch.int64)
    model.calibrate(Batch.collate([rho.structure], model.type_map), points, zero, target, one)
    return model


def tiny_model(seed=1):
    """A tiny model of Si and O."""
    return calibrated(model_config(), seed)


def predicted(model, structures, points, point_frame=None) -> np.ndarray:
    """Density of a model at points [n, 3] of structures in one batch -> [n, n_channels]."""
    structures = [structures] if isinstance(structures, Structure) else structures
    batch = Batch.collate(structures, model.type_map)
    frame = np.zeros(len(points), dtype=np.int64) if point_frame is None else np.asarray(point_frame, dtype=np.int64)
    with torch.no_grad():
        rho = model.decode(
            model.encode(batch), torch.as_tensor(np.asarray(points, dtype=float)), torch.as_tensor(frame)
        )
    return rho.numpy()


def validated(cubes) -> dict:
    """Changes of an input: the second cube validates."""
    return {"training": {"validation_data": {"systems": [str(cubes[1])]}}}


def curve(path="lcurve.out"):
    """Columns of a learning curve without the time."""
    rows = np.genfromtxt(path, names=True)
    return {name: np.atleast_1d(rows[name]) for name in rows.dtype.names if name != "seconds"}


def same_tensors(a: dict, b: dict) -> bool:
    """Whether two mappings hold the same tensors, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
