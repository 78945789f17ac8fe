"""What the measurements share: three systems, a model of the paper's sizes, timing, the last line."""

from __future__ import annotations

import ctypes
import json
import statistics
import time
from typing import NamedTuple

import numpy as np

RCUT = 6.5  # Angstrom, the paper's cutoff for silicon
LATTICE = 5.469  # Angstrom
DIAMOND = np.array(
    [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]], dtype=np.float64
)
FCC = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]], dtype=np.float64)


def _crystal(basis, number: int, lattice: float, repeat: int, rattle: float, seed: int):
    from dcharge import Structure

    shifts = np.stack(np.meshgrid(*[np.arange(repeat)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = ((basis / 4.0)[None] + shifts[:, None]).reshape(-1, 3) * lattice
    positions = positions + np.random.default_rng(seed).normal(0.0, rattle, positions.shape)
    return Structure(np.full(len(positions), number), positions, np.eye(3) * lattice * repeat, True)


def silicon(repeat: int = 2, rattle: float = 0.07, seed: int = 0):
    """Rattled diamond silicon, 8 repeat^3 atoms (0.049 atoms/Angstrom^3), as a Structure."""
    return _crystal(DIAMOND, 14, LATTICE, repeat, rattle, seed)


def aluminium(repeat: int = 3, rattle: float = 0.07, seed: int = 0):
    """Rattled fcc aluminium, 4 repeat^3 atoms (0.060 atoms/Angstrom^3), as a Structure."""
    return _crystal(FCC, 13, 4.05, repeat, rattle, seed)


def water(repeat: int = 4, seed: int = 0, apart: float = 1.7):
    """repeat^3 rigid water molecules at 1 g/cm^3 (0.100 atoms/Angstrom^3), as a Structure.

    Oxygens on a rattled lattice; orientations drawn until atoms of different molecules are `apart` Angstrom from each
    other, or the best of 200 draws.
    """
    from dcharge import Structure

    rng, step = np.random.default_rng(seed), 1 / 0.03333 ** (1 / 3)
    edge, half = step * repeat, np.deg2rad(104.5 / 2)
    molecule = np.array([[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]]) * 0.97
    centres = np.stack(np.meshgrid(*[np.arange(repeat)] * 3, indexing="ij"), -1).reshape(-1, 3) * step
    positions = np.empty((0, 3))
    for centre in centres + rng.normal(0.0, 0.12, centres.shape):
        best, found = -1.0, None
        for _ in range(200):
            axes, upper = np.linalg.qr(rng.normal(size=(3, 3)))
            trial = centre + molecule @ (axes * np.sign(np.diag(upper)))
            d = trial[:, None] - positions
            d = np.linalg.norm(d - edge * np.round(d / edge), axis=-1).min() if len(positions) else np.inf
            if d > best:
                best, found = d, trial
            if best > apart:
                break
        positions = np.concatenate([positions, found])
    return Structure(np.tile([8, 1, 1], repeat**3), positions, np.eye(3) * edge, True)


SYSTEMS = {"silicon": silicon, "aluminium": aluminium, "water": water}


def deep_charge(structure, seed: int = 1, **changes):
    """A Deep Charge model of the paper's sizes: random weights, calibrated on made-up targets.

    changes  keys of the `model` section, for example embedding="exact".
    """
    import torch

    from dcharge.batch import Batch
    from dcharge.config import normalize_model
    from dcharge.models import make_model

    given = {"type": "deep_charge", "type_map": sorted(set(structure.symbols)), "descriptor": {"rcut": RCUT}}
    given |= changes
    model = make_model(normalize_model(given), seed)
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand((2048, 3), generator=generator, dtype=torch.float64) @ torch.as_tensor(structure.cell)
    batch = Batch.collate([structure], model.type_map)
    target = torch.as_tensor(made_up_density(structure, points.numpy()))[:, None]
    frame, weight = torch.zeros(len(points), dtype=torch.int64), torch.ones(len(points), dtype=torch.float64)
    model.calibrate(batch, points, frame, target, weight)
    return model.eval().requires_grad_(False)


def made_up_density(structure, points: np.ndarray) -> np.ndarray:
    """A smooth positive density [n] at points [n, 3]: the nearer the closest atom, the more. e/Angstrom^3"""
    from scipy.spatial import cKDTree

    edges = np.diag(structure.cell)  # all systems here are boxes
    tree = cKDTree(structure.positions % edges, boxsize=edges)
    return 0.5 * np.exp(-tree.query(points % edges)[0])


class Timing(NamedTuple):
    """Seconds of one call: on the clock, and of this process on all processors (threads that wait for each other spin,
    which counts here too)."""

    wall: float
    cpu: float


def keep_memory() -> None:
    """Let glibc keep freed memory instead of giving it back to the system after every large tensor.

    Plain torch otherwise spends up to half of its time on page faults, or little, as the allocator's history has it:
    its rate differs twofold between runs. With this a yardstick runs at its best, and steadily.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(-4, 0)  # M_MMAP_MAX: nothing is mapped singly
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def timed(call) -> Timing:
    """Time one call. A call that returns a Timing has timed itself (another process)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    took = Timing(time.perf_counter() - wall, time.process_time() - cpu)
    return result if isinstance(result, Timing) else took


def interleaved(calls: dict, repeats: int) -> dict[str, Timing]:
    """Median times of every call; each round runs all of them, so that a busy moment hits all alike."""
    times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(timed(call))
    return {name: Timing(*map(statistics.median, zip(*t, strict=True))) for name, t in times.items()}


def rate(n_points: int, took: Timing) -> dict:
    """The figures of a row: points per second and per processor second."""
    return {
        "value": n_points / took.wall, "unit": "points/s", "per_cpu_s": n_points / took.cpu, "seconds": took.wall,
        "n_points": n_points,
    }  # fmt: skip


def threads_label(threads: int) -> str:
    """'1 thread', '2 threads'."""
    return f"{threads} thread" + "s" * (threads > 1)


def report(rows: dict[str, dict]) -> None:
    """Print rows for people and, as the last line, for `python -m benchmarks`.

    rows  {name: {figure: number, "unit": what "value" counts, "per_cpu_s": points per processor second,
          "ratio": number, "of": peer of the ratio, "target": text, "met": bool}}; every key is optional.
    """
    from .table import lines

    print("\n".join(lines(rows)))
    print(json.dumps(rows), flush=True)
