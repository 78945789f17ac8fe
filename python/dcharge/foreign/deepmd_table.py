"""A DeePMD-kit model with its embedding net interpolated in the distance, for the fast kernels.

The sum over neighbours j of species t, n of them, and its empty rows (`sel` in all) is, for l = 0 with
F(s) = (s - davg)/dstd G((s - davg)/dstd): sum_j F(s_j) + (sel - n) F(0) = sum_j [F(s_j) - F(0)] + sel F(0). The bracket
vanishes at the cutoff, the rest is a constant. `ops.radial_moments` sums w(r)/r~ (1, vec/r~) T_b(x(r)), softened by
r~^2 = r^2 + soft^2, so that the table holds [F(s) - F(0)] r~/w for l = 0 and G/dstd r~^2/r^2 for l = 1: with one table
for each l nothing is approximated but the interpolation itself.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..errors import InputError
from ..models import make_model
from ..models.deep_charge import DeepCharge, chebyshev_nodes
from ..ops import neighbors, switch
from ..structure import Structure
from .deepmd import exact, fill_fitting, model_section
from .deepmd_file import ProbeModel

# Angstrom. From NEAR on the density is that of DeePMD-kit; closer to a nucleus, where 1/r diverges, r is continued
# smoothly. With both at 0.3 silicon and water at the paper's sizes need 32 to 40 functions for 1e-5; 48 with soft 0.2
NEAR = SOFT = 0.3
ORDER = 5
# largest difference, relative to the largest density: half of what is promised, for only a sample is measured
LIMIT = 5e-6
N_RADIAL = range(12, 129, 4)


def continued(r: Tensor) -> Tensor:
    """r [n] from NEAR on; below, the Taylor polynomial of sqrt(r^2) around NEAR, even in r and above zero at r = 0."""
    t, term, total = (r / NEAR) ** 2 - 1, torch.ones_like(r), torch.zeros_like(r)
    for k in range(ORDER + 1):
        total = total + term
        term = term * t * (0.5 - k) / (k + 1)
    return torch.where(r < NEAR, NEAR * total, r)


def tables(model: DeepCharge, n_radial: int) -> tuple[Tensor, Tensor]:
    """Coefficients [n_types, 2, n_radial, M] and offset [M], float64, of the exact `model`, times sum of sel."""
    d = model.config["descriptor"]
    r, transform = chebyshev_nodes(n_radial, d["rcut"], SOFT)
    distance = continued(r) + d["env_protection"]
    # at the cutoff both F(s) - F(0) and w vanish: their ratio is taken a little before
    s = (switch(r, d["rcut"], d["rcut_smth"]) / distance).clamp_min(1e-6)
    ratio = (torch.sqrt(r**2 + SOFT**2) / distance)[:, None]
    scale, empty = model.pair_scale, (-model.pair_mean / model.pair_scale[0]).reshape(1, 1)
    x = ((s - model.pair_mean) / scale[0])[:, None]
    values, offset = [], 0.0
    for net, slots in zip(model.embedding, model.slots, strict=True):
        g, nothing = net(x), empty * net(empty)
        values.append(
            torch.stack([transform @ ((x * g - nothing) / s[:, None] * ratio), transform @ (g / scale[1] * ratio**2)])
        )
        offset = offset + slots * nothing[0]
    return torch.stack(values), offset


@torch.no_grad()
def tabulated(source: ProbeModel, model: DeepCharge, n_radial: int, path) -> DeepCharge:
    """The interpolated model: no embedding net left, its values are in the table and in the shift."""
    width = source.descriptor["neuron"][-1]
    # one layer of zeros instead of the net: the table is all that is needed
    descriptor = {
        "soft": SOFT,
        "n_radial": n_radial,
        "neuron": [width],
        "activation_function": "tanh",
        "resnet_dt": False,
    }
    fast = make_model(model_section(source, path, descriptor=descriptor, embedding="interpolated", standardize=True))
    fill_fitting(fast, source)
    for parameter in fast.embedding.parameters():
        parameter.zero_()
    table, shift = tables(model, n_radial)
    fast.table.copy_(table)
    fast.shift.copy_(shift)
    fast.norm.fill_(1.0 / sum(source.slots))
    return fast.eval()


@torch.no_grad()
def interpolated(source: ProbeModel, structures: list[Structure], path) -> tuple[DeepCharge, dict]:
    """The interpolated model with the fewest functions of the distance whose density is the exact one within LIMIT.

    Measured at points of `structures` at least NEAR from every nucleus, of the largest density there.
    Returns the model and {"n_radial", "error", "points"}. Raises InputError with the error that 128 functions leave.
    """
    double = exact(replace(source, precision="float64"), path)
    rng = np.random.default_rng(0)
    batches = [Batch.collate([structure], source.type_map) for structure in structures]
    points = [torch.as_tensor(far_points(structure, rng)) for structure in structures]
    wanted = [density(double, batch, p) for batch, p in zip(batches, points, strict=True)]
    largest = max(float(rho.abs().max()) for rho in wanted)
    for n_radial in N_RADIAL:
        fast = tabulated(source, double, n_radial, path)
        found = [density(fast, batch, p) for batch, p in zip(batches, points, strict=True)]
        error = max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)) / largest
        if error < LIMIT:
            return fast, {"n_radial": n_radial, "error": error, "points": sum(map(len, points))}
    raise InputError(
        f"{path}: interpolated with {n_radial} functions the density still differs by {error:.1e} of its maximum "
        f"(below {LIMIT:g} wanted); convert without --interpolate"
    )


def density(model: DeepCharge, batch: Batch, points: Tensor) -> Tensor:
    """rho [n, 1] float64 at points [n, 3] of the one frame of `batch`."""
    code = model.encode(batch)
    parts = [model.decode(code, p, torch.zeros(len(p), dtype=torch.int64)) for p in points.split(512)]
    return torch.cat(parts).double()


def far_points(structure: Structure, rng, n: int = 2048) -> np.ndarray:
    """Points [m, 3] (Angstrom) at least NEAR from every nucleus: half anywhere, half within 1 Angstrom of a nucleus."""
    direction = rng.normal(size=(n // 2, 3))
    direction *= rng.uniform(NEAR, 1.0, (n // 2, 1)) / np.linalg.norm(direction, axis=1, keepdims=True)
    close = structure.positions[rng.integers(len(structure), size=n // 2)] + direction
    low, high = structure.positions.min(0) - 2.0, structure.positions.max(0) + 2.0
    points = torch.as_tensor(np.concatenate([rng.uniform(low, high, (n // 2, 3)), close]))
    batch = Batch.collate([structure], sorted(set(structure.symbols)))
    index, _ = neighbors(batch.atoms, batch.cell[0], batch.pbc[0], NEAR, targets=points)
    far = torch.ones(len(points), dtype=torch.bool)
    far[index[0]] = False
    return points[far].numpy()


def made_up(source: ProbeModel, rng) -> Structure:
    """Random atoms in a periodic cube, as dense as half of `sel` says, no two closer than bonded ones."""
    from ase.data import atomic_numbers, covalent_radii

    volume = 4.0 / 3.0 * math.pi * source.descriptor["rcut"] ** 3
    numbers = np.array([atomic_numbers[s] for s in source.type_map])
    edge = (64 / max(1.0, 0.5 * sum(source.slots)) * volume) ** (1 / 3)
    counts = np.maximum(1, np.round(64 * np.array(source.slots) / sum(source.slots))).astype(int)
    chosen, positions = [], np.zeros((0, 3))
    for z in rng.permutation(np.repeat(numbers, counts)):
        for _ in range(300):
            place = rng.uniform(0, edge, 3)
            vector = positions - place
            r = np.linalg.norm(vector - edge * np.round(vector / edge), axis=1)
            if (r >= covalent_radii[chosen] + covalent_radii[z]).all():
                chosen.append(int(z))
                positions = np.vstack([positions, place])
                break
    return Structure(chosen, positions, np.eye(3) * edge, True)
