"""What the measurements share: a silicon cell, a model of the paper's sizes, timing, the last line."""

from __future__ import annotations

import json
import statistics
import time

import numpy as np

RCUT = 6.5  # Angstrom, the paper's cutoff for silicon
LATTICE = 5.469  # Angstrom
DIAMOND = np.array(
    [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]], dtype=np.float64
)


def silicon(repeat: int = 2, rattle: float = 0.07, seed: int = 0):
    """Rattled diamond silicon, 8 repeat^3 atoms, as a Structure."""
    from dcharge import Structure

    shifts = np.stack(np.meshgrid(*[np.arange(repeat)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = ((DIAMOND / 4.0)[None] + shifts[:, None]).reshape(-1, 3) * LATTICE
    positions = positions + np.random.default_rng(seed).normal(0.0, rattle, positions.shape)
    return Structure(np.full(len(positions), 14), positions, np.eye(3) * LATTICE * repeat, True)


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
    # a smooth positive density: the nearer the closest atom, the more
    distance = torch.cdist(points, batch.atoms).amin(1, keepdim=True)
    target = 0.5 * torch.exp(-distance)
    frame, weight = torch.zeros(len(points), dtype=torch.int64), torch.ones(len(points), dtype=torch.float64)
    model.calibrate(batch, points, frame, target, weight)
    return model.eval().requires_grad_(False)


def seconds(call) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(calls: dict, repeats: int) -> dict[str, float]:
    """Median wall time of every call; each round runs all of them, so that a busy moment hits all alike."""
    times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: statistics.median(t) for name, t in times.items()}


def report(rows: dict[str, dict]) -> None:
    """Print rows for people and, as the last line, for `python -m benchmarks`.

    rows  {name: {figure: number, "unit": what "value" counts, "ratio": number, "of": peer of the ratio,
          "target": text, "met": bool}}; every key is optional.
    """
    from .table import lines

    print("\n".join(lines(rows)))
    print(json.dumps(rows), flush=True)
