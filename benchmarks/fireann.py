"""FIREANN at the sizes of its paper: whole predictions beside naive torch and beside the counted limit; training steps.

    python -m benchmarks.fireann [--size 80] [--points 4096] [--repeats 3] [--threads 1 2] [--quick]

Molecule (nine heavy atoms with hydrogen) and water with the nets for QM9, gold with those for the gold electrode.
dcharge predicts a whole size^3 grid, baseline included; "without baseline" is a model that has none. Naive torch
evaluates the definition: all orbitals of all pairs, contracted features, layers one by one, `points` of the grid's
points in chunks. The limit counts the operations of the fused form of the net's part per point (orbitals, Gram
matrices, layers) at the peak rate of a core, measured in the same run.
A training step draws as many points as four frames of a molecule give by 256.
Sampling (LIFS) screens the candidates of a frame; features of one rank less than their number, so that all are tried.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from .cases import FCC, SYSTEMS, _crystal, interleaved, keep_memory, made_up_density, rate, report, threads_label
from .naive import CHUNK, some_tiles

LEAST = 1e6  # points/s on two cores, molecule
QM9 = {"rcut": 4.0, "n_waves": 8, "l_max": 2, "n_iterations": 2}
GOLD = {"rcut": 6.0, "n_waves": 12, "l_max": 2, "n_iterations": 6}
EDGE = 12.0  # Angstrom, of the molecule's box
EXP, PAIR, BEND = 9, 30, 15  # multiply-adds counted for an exponential with its argument, for a pair, an activation


def molecule(seed: int = 0):
    """C-C-O-C-N-C-C-O-C with hydrogen, a zigzag chain bent at random, in a box: 25 atoms."""
    from dcharge import Structure

    rng, heavy = np.random.default_rng(seed), [6, 6, 8, 6, 7, 6, 6, 8, 6]
    positions, numbers, at = [], [], np.zeros(3)
    for i, z in enumerate(heavy):
        positions.append(at)
        numbers.append(z)
        for k in range({6: 2, 7: 1, 8: 0}[z]):
            up = np.array([0.0, 0.6, 0.9 if k else -0.9])
            positions.append(at + up * [1, 1 if i % 2 else -1, 1])
            numbers.append(1)
        step = np.array([0.85, 0.85 if i % 2 == 0 else -0.85, 0.0]) + rng.normal(0.0, 0.15, 3)
        at = at + 1.5 * step / np.linalg.norm(step)
    positions = np.array(positions)
    positions += EDGE / 2 - 0.5 * (positions.min(0) + positions.max(0))
    return Structure(np.array(numbers), positions, np.eye(3) * EDGE, False)


def gold():
    """Rattled fcc gold, 108 atoms."""
    return _crystal(FCC, 79, 4.08, 3, 0.07, 0)


CASES = {  # structure, descriptor, neurons of orbital nets and of the net of the points
    "molecule, QM9 sizes": (molecule, QM9, [16, 16], [32, 32]),
    "water, QM9 sizes": (SYSTEMS["water"], QM9, [16, 16], [32, 32]),
    "gold, sizes for the electrode": (gold, GOLD, [64, 64], [128, 128]),
}


def model_input(structure, case, **changes) -> dict:
    """The `model` section."""
    _, descriptor, orbital, fitting = CASES[case]
    given = {"type": "fireann", "type_map": sorted(set(structure.symbols)), "descriptor": dict(descriptor)}
    given |= {"orbital_net": {"neuron": orbital}, "fitting_net": {"neuron": fitting}}
    return given | changes


def built(structure, case, **changes):
    """A model with random weights, calibrated on made-up targets."""
    from dcharge.batch import Batch
    from dcharge.config import normalize_model
    from dcharge.models import make_model

    model = make_model(normalize_model(model_input(structure, case, **changes)), 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    points = torch.rand((2048, 3), generator=generator, dtype=torch.float64) @ torch.as_tensor(structure.cell)
    target = torch.as_tensor(made_up_density(structure, points.numpy()))[:, None]
    frame, weight = torch.zeros(len(points), dtype=torch.int64), torch.ones(len(points), dtype=torch.float64)
    batch = Batch.collate([structure], model.type_map)
    model.calibrate(batch, points, frame, target, weight)
    return model.eval().requires_grad_(False)


class Naive:
    """The net's part as it is defined: every pair's orbitals, contracted sums, features, layers; plain torch."""

    def __init__(self, model, structure):
        from dcharge.batch import Batch
        from dcharge.ops.bases import monomial_weights

        self.model, self.batch = model, Batch.collate([structure], model.type_map)
        with torch.inference_mode():
            self.code = model.encode(self.batch)
        self.weight = torch.tensor(monomial_weights(model.l_max), dtype=model.dtype)[:, None]

    def chunk(self, points: torch.Tensor) -> torch.Tensor:
        """Density [n, 1] at points [n, 3]."""
        from dcharge.ops.orbitals import orbital_sums_reference

        model, code, state = self.model, self.code, self.code.states[0]
        options = (model.reach, model.orbital["soft"], model.l_max, model.orbital["direction"] == "unit")
        frame = torch.zeros(len(points), dtype=torch.int64)
        sums = orbital_sums_reference(
            points, frame, *self.batch.geometry, state.coefficients, code.center, code.exponent, None, *options
        )
        near = sums[:, 0].any(1, keepdim=True)
        rho = self.network(sums / model.sum_scale[-1][model.degrees] + state.constant) - self.network(state.constant)
        return torch.where(near, rho * model.output_scale, 0.0)

    def network(self, sums: torch.Tensor) -> torch.Tensor:
        """Output of normalised sums [n, n_comp, n_waves]."""
        model = self.model
        contracted = torch.einsum("nkm,kmf->nkf", sums, model.contraction[model.degrees])
        rho = (self.weight * contracted.square()).sum(1)
        return model.fitting((rho - model.feature_center[-1]) / model.feature_scale[-1])

    @torch.inference_mode()
    def predict(self, grid, tiles) -> torch.Tensor:
        """Density [n] of the given tiles."""
        return torch.cat([self.chunk(torch.as_tensor(grid.points(index))) for index in tiles])[:, 0]


def counted_flop(model, structure, neighbours: float) -> float:
    """Operations per point of the fused net's part: orbitals of all pairs, Gram matrices, layers, activations."""
    n_comp, waves = len(model.degrees), model.n_waves
    pairs = neighbours * (PAIR + n_comp + waves * (EXP + n_comp))
    gram = n_comp * waves * (waves + 1) / 2
    widths = model.config["fitting_net"]["neuron"]
    sizes = [model.pairs.shape[1] * (model.l_max + 1), *widths, widths[0], 1]
    layers = sum(a * b for a, b in zip([sizes[0], *widths, widths[0]], [*widths, widths[0], 1], strict=True))
    return 2 * (pairs + gram + layers + BEND * (sum(widths) + widths[0]))


def neighbours_of(structure, grid, rcut: float, n: int = 2000) -> float:
    """Mean number of atoms within rcut of a grid point."""
    from dcharge.ops import neighbors

    index = np.random.default_rng(0).choice(grid.n_points, min(n, grid.n_points), replace=False)
    places = [torch.as_tensor(x) for x in (structure.positions, structure.cell, structure.pbc)]
    return neighbors(*places, rcut, torch.as_tensor(grid.points(index)))[0].shape[1] / len(index)


def measure(case: str, threads: int, size: int, n_naive: int, repeats: int, peak: float | None) -> dict[str, dict]:
    """Rows of one system and number of threads. peak: multiply-adds per second of one core, if known."""
    from dcharge import Grid
    from dcharge.predict import Predictor

    torch.set_num_threads(threads)
    structure = CASES[case][0]()
    grid = Grid((size,) * 3, structure.cell)
    bare = built(structure, case, baseline={"type": "none"})
    ways = {"dcharge": Predictor(built(structure, case)), "dcharge, without baseline": Predictor(bare)}
    naive, tiles = Naive(bare, structure), some_tiles(grid, n_naive, CHUNK)
    calls = {name: lambda p=p: p.predict(structure, grid=grid) for name, p in ways.items()}
    calls["naive torch, without baseline"] = lambda: naive.predict(grid, tiles)
    for p in ways.values():
        p.predict(structure, shape=(16, 16, 16))
    naive.predict(grid, tiles[:1])
    took = interleaved(calls, repeats)
    label, n = f"{case}, {threads_label(threads)}", dict.fromkeys(ways, grid.n_points)
    n["naive torch, without baseline"] = sum(map(len, tiles))
    rows = {f"{label}: {name}": rate(count, took[name]) for name, count in n.items()}
    slow = rows[f"{label}: naive torch, without baseline"]["value"]
    for name in ways:
        row = rows[f"{label}: {name}"]
        row |= {"ratio": row["value"] / slow, "of": "x naive torch"}
    if threads == 2 and case.startswith("molecule"):
        row = rows[f"{label}: dcharge"]
        row |= {"target": f">= {LEAST / 1e6:g} M points/s", "met": row["value"] >= LEAST}
    if peak is not None:
        flop = counted_flop(bare, structure, neighbours_of(structure, grid, bare.reach))
        limit = 2 * peak * threads / flop
        rows[f"{label}: limit of the peak rate, without baseline"] = {
            "value": limit, "unit": "points/s", "ratio": rows[f"{label}: dcharge, without baseline"]["value"] / limit,
            "of": "of it reached", "flop_per_point": flop,
        }  # fmt: skip
    return rows


def training(case: str, threads: int, frames: int, steps: int, repeats: int) -> dict[str, dict]:
    """Steps per second of a training on made-up densities."""
    from dcharge import Density, Grid
    from dcharge.config import normalize
    from dcharge.io import write
    from dcharge.train import Trainer

    torch.set_num_threads(threads)
    structure = CASES[case][0]()
    with tempfile.TemporaryDirectory() as name:
        folder, systems = Path(name), []
        for i in range(2 * frames):
            rattled = structure.with_(
                positions=structure.positions + np.random.default_rng(i).normal(0, 0.03, (len(structure), 3))
            )
            grid = Grid((24,) * 3, structure.cell)
            rho = made_up_density(rattled, grid.points()).reshape(grid.shape)
            systems.append(str(folder / f"{i}.h5"))
            write(Density(rattled, grid, rho), systems[-1])
        config = {
            "model": model_input(structure, case),
            "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
            "training": {
                "numb_steps": 10**6,
                "device": "cpu",
                "ema": 0.99,
                "sampler": {"points_per_frame": 4000},
                "training_data": {"systems": systems, "batch_size": 256 * frames, "frames_per_batch": frames},
                "save_ckpt": str(folder / "model.ckpt"),
                "disp_file": str(folder / "lcurve.out"),
            },
        }
        trainer = Trainer(normalize(config))
    call = {"training step": lambda: [trainer.train_step() for _ in range(steps)]}
    interleaved(call, 1)
    took = interleaved(call, repeats)["training step"]
    row = rate(256 * frames * steps, took) | {"ratio": steps / took.wall, "of": "steps/s"}
    return {f"{case}, {threads_label(threads)}: training, {frames} frames of 256 points a step": row}


def lifs(threads: int, n_candidates: int, n_features: int, repeats: int) -> dict[str, dict]:
    """The row of sampling by independent features, without the features themselves (a prediction's time)."""
    from dcharge.independent import independent_rows

    torch.set_num_threads(threads)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n_candidates, n_features - 1)) @ rng.normal(size=(n_features - 1, n_features))
    took = interleaved({"LIFS": lambda: independent_rows(x, 1e-3)}, repeats)["LIFS"]
    label = f"LIFS, {threads_label(threads)}: {n_candidates:,} candidates of a frame, {n_features} features"
    row = rate(n_candidates, took) | {"target": "< 1 s", "met": took.wall < 1.0}
    return {label: row}


def main() -> None:
    """Measure every system and number of threads and print."""
    from dcharge.ops.library import isa

    from .moments import FLAGS, peak_fma

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=80, help="grid points along each edge (default: 80)")
    parser.add_argument("--points", type=int, default=4096, help="points for naive torch (default: 4096)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    keep_memory()
    steps = 20
    if args.quick:
        args.size, args.points, args.repeats, args.threads, steps = 16, 512, 1, [1], 2
    peak = peak_fma(isa()) if isa() in FLAGS else None
    rows = {}
    for case in CASES:
        for threads in args.threads:
            size = args.size if case is not list(CASES)[-1] else args.size // 2
            rows |= measure(case, threads, size, args.points, args.repeats, None if peak is None else 1e9 * peak)
    for case in list(CASES)[:1]:
        for threads in args.threads:
            rows |= training(case, threads, 4, steps, args.repeats)
    rows |= lifs(args.threads[-1], 500 if args.quick else 5000, 30 if args.quick else 234, args.repeats)
    report(rows)


if __name__ == "__main__":
    main()
