"""Whole predictions at the paper's sizes, beside naive torch, beside their own ops one by one, and beside limits.

    python -m benchmarks.predict [--size 64] [--points 8192] [--repeats 3] [--threads 1 2]
                                 [--systems silicon aluminium water] [--quick]

dcharge predicts a whole size^3 grid; naive torch `points` of its points, spread over the grid; rounds alternate,
medians. Two limits. *Peak*: all multiply-adds of a prediction (moments, P.C, Gram matrix, fitting net) at the peak rate
of a core, measured in the same run. *Matrix product*: the fitting net alone (624 kflop per point) at the rate of
torch's best matrix product, measured in the same rounds, and all the rest for nothing.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time

import torch

from .cases import SYSTEMS, deep_charge, interleaved, keep_memory, rate, report, threads_label
from .naive import CHUNK, Naive, paper_model, some_tiles

# on two AVX-512 cores: (least, goal) points/s, of silicon
TARGETS = {"dcharge": (0.30e6, 0.45e6), "dcharge, bf16": (0.7e6, None)}
TARGET_RATIO = 12.0  # over naive torch


def fitting_flop(model, folded: bool = True) -> int:
    """Floating point operations of the fitting net per point, counted from its weights.

    folded  the axis columns' own Gram matrix is symmetric: its entries above the diagonal need no products of their own
    """
    axis, n_out = model.axis[0], model.fitting[0].weight.shape[0]
    twice = axis * (axis - 1) // 2 * n_out if folded else 0
    return 2 * (sum(layer.weight.numel() for layer in [*model.fitting, model.output]) - twice)


def contraction_flop(model) -> int:
    """Operations of A = P.C and of the Gram matrix per point."""
    components, width = (model.l_max + 1) ** 2, model.embedding[0][-1].weight.shape[0]
    return 2 * components * (model.n_types * model.n_radial * width + width * model.axis[0])


def moments_flop(model, structure) -> float:
    """Operations of the moments per point, as benchmarks.moments counts them."""
    neighbours = len(structure) / structure.volume * 4 / 3 * math.pi * model.reach**3
    return 2 * neighbours * (5 * model.n_radial + 32)


class Matrices:
    """Matrix products: the fitting net's first layer on a tile of points, and a square one."""

    def __init__(self, model, rows: int, dtype=torch.float32, n_square: int = 1536):
        n_out, n_in = model.fitting[0].weight.shape
        self.pairs = {"layer": (rows, n_in, n_out), "square": (n_square,) * 3}
        self.dtype, self.flop = dtype, {}

    def calls(self, flop: float, suffix: str = "") -> dict:
        """Calls of about `flop` operations each; `self.flop` tells what they do exactly."""
        out = {}
        for name, (m, k, n) in self.pairs.items():
            x, w = torch.randn(m, k, dtype=self.dtype), torch.randn(n, k, dtype=self.dtype)
            times = max(1, round(flop / (2 * m * k * n)))
            self.flop[name + suffix] = times * 2 * m * k * n
            out[name + suffix] = lambda x=x, w=w, times=times: [torch.nn.functional.linear(x, w) for _ in range(times)]
        return out

    def best(self, took: dict) -> float:
        """Operations per second of the faster one."""
        return max(flop / took[name].wall for name, flop in self.flop.items())


class Stages:
    """The parts of a prediction, one after another on compact tiles of a grid; `seconds` tells what each took."""

    NAMES = ("moments", "P.C", "Gram", "fitting net")

    def __init__(self, predictor, structure, grid, n_points: int):
        from dcharge.batch import Batch

        self.model = predictor.model
        self.batch = Batch.collate([structure], self.model.type_map)
        tiles = some_tiles(grid, n_points, predictor.tile)
        self.n_points = sum(map(len, tiles))
        self.points = [torch.as_tensor(grid.points(index)) for index in tiles]
        self.rounds: list[dict[str, float]] = []

    @torch.inference_mode()
    def __call__(self) -> None:
        """One round over all tiles."""
        from dcharge.ops import contract, gram

        model, total = self.model, dict.fromkeys(self.NAMES, 0.0)
        c, offset = model.coefficients()
        for points in self.points:
            frame = torch.zeros(len(points), dtype=torch.int64)
            clock = [time.perf_counter()]
            moments = model.geometry(self.batch, points, frame)
            clock.append(time.perf_counter())
            a = contract(moments, c, offset)
            clock.append(time.perf_counter())
            d = gram(a, model.axis, model.gram_mode)
            clock.append(time.perf_counter())
            model.output(model.fitting(d))
            clock.append(time.perf_counter())
            for name, start, stop in zip(self.NAMES, clock[:-1], clock[1:], strict=True):
                total[name] += stop - start
        self.rounds.append(total)

    def seconds(self, name: str) -> float:
        """Median time of one part, per point."""
        return statistics.median(r[name] for r in self.rounds) / self.n_points


def predictors(model) -> dict:
    """The ways to predict with a model: float32, and bf16 operands of matrix products."""
    from dcharge.predict import Predictor

    return {"dcharge": Predictor(model), "dcharge, bf16": Predictor(copy.deepcopy(model), precision="bf16")}


def target(name: str, system: str, threads: int, value: float) -> dict:
    """Target and verdict of a row, where it has one."""
    if name not in TARGETS or system != "silicon" or threads != 2:
        return {}
    least, goal = TARGETS[name]
    words = f">= {least / 1e6:.2f} M points/s" + (f", goal {goal / 1e6:.2f} M" if goal else "")
    return {"target": words, "met": value >= least, "goal_met": None if goal is None else value >= goal}


def measure(system: str, threads: int, size: int, n_naive: int, repeats: int, peak: float | None) -> dict[str, dict]:
    """Rows of one system and number of threads. peak: multiply-adds per second of one core, if known."""
    from dcharge import Grid

    torch.set_num_threads(threads)
    structure = SYSTEMS[system]()
    grid = Grid((size,) * 3, structure.cell)
    ways = predictors(deep_charge(structure))
    first = ways["dcharge"]
    naive, tiles = Naive(paper_model(structure), structure), some_tiles(grid, n_naive, CHUNK)
    stages = Stages(first, structure, grid, min(grid.n_points, 16 * first.tile))
    products = Matrices(first.model, first.tile)
    flop = fitting_flop(first.model)
    calls = {name: lambda p=p: p.predict(structure, grid=grid) for name, p in ways.items()}
    calls |= {"naive torch": lambda: naive.predict(grid, tiles), "dcharge, op by op": stages}
    calls |= products.calls(0.1 * flop * grid.n_points)
    half = Matrices(first.model, first.tile, torch.bfloat16)
    calls |= half.calls(0.1 * flop * grid.n_points, " bf16")
    for p in ways.values():
        p.predict(structure, shape=(16, 16, 16))
    naive.predict(grid, tiles[:1])
    stages()
    stages.rounds.clear()
    took = interleaved(calls, repeats)

    label = f"{system}, {threads_label(threads)}"
    n = {name: grid.n_points for name in ways}
    n |= {"dcharge, op by op": stages.n_points, "naive torch": sum(map(len, tiles))}
    rows = {f"{label}: {name}": rate(count, took[name]) for name, count in n.items()}
    slow = rows[f"{label}: naive torch"]["value"]
    gemm = {"dcharge": products.best(took), "dcharge, bf16": half.best(took)}
    for name in ways:
        row = rows[f"{label}: {name}"]
        row |= {"ratio": row["value"] / slow, "of": "x naive torch"} | target(name, system, threads, row["value"])
    fast = rows[f"{label}: dcharge"]
    if system == "silicon":
        rows[f"{label}: dcharge over naive torch"] = {
            "ratio": fast["ratio"], "of": "x naive torch", "target": f">= {TARGET_RATIO:g} x",
            "met": fast["ratio"] >= TARGET_RATIO,
        }  # fmt: skip
    for name, speed in gemm.items():
        kind = "float32" if name == "dcharge" else "bf16"
        reached = rows[f"{label}: {name}"]["value"] / (speed / flop)
        rows[f"{label}: limit of torch's {kind} matrix product"] = {
            "value": speed / flop, "unit": "points/s", "ratio": reached, "of": "of it reached", "flop_per_point": flop,
            "gf_per_s": speed / 1e9,
        }  # fmt: skip
    if peak is not None:
        total = flop + contraction_flop(first.model) + moments_flop(first.model, structure)
        limit = 2 * peak * threads / total
        rows[f"{label}: limit of the peak rate, float32"] = {
            "value": limit, "unit": "points/s", "ratio": fast["value"] / limit, "of": "of it reached",
            "flop_per_point": total, "gf_per_s": 2 * peak * threads / 1e9,
        }  # fmt: skip
    whole = 1 / rows[f"{label}: dcharge, op by op"]["value"]  # seconds per point
    for name in stages.NAMES:
        each = stages.seconds(name)
        rows[f"{label}: op {name}"] = {
            "value": 1 / each, "unit": "points/s", "ratio": each / whole, "of": "of the time op by op"
        }  # fmt: skip
    return rows


def main() -> None:
    """Measure every system and number of threads and print."""
    from dcharge.ops.library import isa

    from .moments import FLAGS, peak_fma

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="grid points along each edge (default: 64)")
    parser.add_argument("--points", type=int, default=8192, help="points for naive torch (default: 8192)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="which ones (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    keep_memory()
    if args.quick:
        args.size, args.points, args.repeats, args.threads = 20, 512, 1, [1]
    peak = peak_fma(isa()) if isa() in FLAGS else None
    rows = {}
    for system in args.systems:
        for threads in args.threads:
            rows |= measure(system, threads, args.size, args.points, args.repeats, None if peak is None else 1e9 * peak)
    report(rows)


if __name__ == "__main__":
    main()
