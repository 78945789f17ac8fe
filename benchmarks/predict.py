"""Full prediction at the paper's sizes on 64 silicon atoms, beside naive torch and beside what its parts cost.

    python -m benchmarks.predict [--size 100] [--points 16384] [--repeats 5] [--threads 1 2] [--quick]

dcharge predicts a whole size^3 grid; naive torch `points` of its points, spread over the grid; rounds alternate,
medians. The counted limit is the fitting net alone (672 kflop per point at the paper's sizes) at the rate of this
machine's float32 matrix product, measured in the same rounds, and all the rest for nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from .cases import deep_charge, interleaved, report, silicon
from .naive import CHUNK, Naive, paper_model, some_tiles

TARGET_RATIO, TARGET_RATE = 10.0, 0.3e6  # over naive torch; points/s on two cores


def fitting_flop(model) -> int:
    """Floating point operations of the fitting net per point, counted from its weights."""
    return 2 * sum(layer.weight.numel() for layer in [*model.fitting, model.output])


class Matrices:
    """Float32 matrix products: the fitting net's first layer on a tile of points, and a square one."""

    def __init__(self, model, rows: int, n_square: int = 1536):
        n_out, n_in = model.fitting[0].weight.shape
        self.pairs = {"layer": self._pair(rows, n_in, n_out), "square": self._pair(n_square, n_square, n_square)}

    @staticmethod
    def _pair(m: int, k: int, n: int):
        return torch.randn(m, k), torch.randn(n, k), 2 * m * k * n

    def calls(self, flop: float) -> dict:
        """Calls of about `flop` operations each, and what they do exactly."""
        out, self.flop = {}, {}
        for name, (x, w, each) in self.pairs.items():
            times = max(1, round(flop / each))
            self.flop[name] = times * each
            out[name] = lambda x=x, w=w, times=times: [torch.nn.functional.linear(x, w) for _ in range(times)]
        return out


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


def measure(threads: int, size: int, n_naive: int, repeats: int) -> dict[str, dict]:
    """Rows of one number of threads."""
    from dcharge import Grid
    from dcharge.predict import Predictor

    torch.set_num_threads(threads)
    structure = silicon()
    grid = Grid((size,) * 3, structure.cell)
    predictor = Predictor(deep_charge(structure))
    naive, tiles = Naive(paper_model(structure), structure), some_tiles(grid, n_naive, CHUNK)
    stages = Stages(predictor, structure, grid, min(grid.n_points, 8 * predictor.tile))
    matrices, flop = Matrices(predictor.model, predictor.tile), fitting_flop(predictor.model)
    products = matrices.calls(0.2 * flop * grid.n_points)
    calls = {
        "dcharge": lambda: predictor.predict(structure, grid=grid),
        "naive": lambda: naive.predict(grid, tiles),
        "parts": stages,
        **products,
    }
    predictor.predict(structure, shape=(16, 16, 16)), naive.predict(grid, tiles[:1])
    stages()
    stages.rounds.clear()
    took = interleaved(calls, repeats)

    n, n_slow = grid.n_points, sum(map(len, tiles))
    rate, slow = n / took["dcharge"], n_slow / took["naive"]
    gemm = max(matrices.flop[name] / took[name] for name in products)
    limit = gemm / flop
    label = f"{threads} thread" + "s" * (threads > 1)
    target = {"target": f"{TARGET_RATE / 1e6:g} M points/s", "met": rate >= TARGET_RATE} if threads == 2 else {}
    rows = {
        f"{label}: dcharge": {"value": rate, "unit": "points/s", "seconds": took["dcharge"], "n_points": n, **target},
        f"{label}: naive torch": {"value": slow, "unit": "points/s", "seconds": took["naive"], "n_points": n_slow},
        f"{label}: dcharge over naive": {
            "ratio": rate / slow, "of": "x naive torch", "target": f">= {TARGET_RATIO:g} x",
            "met": rate >= TARGET_RATIO * slow,
        },
        f"{label}: float32 matrix product": {"value": gemm / 1e9, "unit": "GF/s"}
        | {f"gf_per_s_{name}": matrices.flop[name] / took[name] / 1e9 for name in products},
        f"{label}: counted limit": {
            "value": limit, "unit": "points/s", "ratio": rate / limit, "of": "of it reached", "flop_per_point": flop
        },
    }  # fmt: skip
    whole = took["dcharge"] / n  # seconds per point
    for name in stages.NAMES:
        each = stages.seconds(name)
        rows[f"{label}: {name}"] = {"value": 1 / each, "unit": "points/s", "ratio": each / whole, "of": "of the time"}
    rest = whole - sum(map(stages.seconds, stages.NAMES))
    rows[f"{label}: the rest"] = {
        "value": 1e9 * rest, "unit": "ns/point", "ratio": rest / whole, "of": "of the time",
        "note": "points, baseline, assembly; negative where the product beats its parts timed alone",
    }  # fmt: skip
    return rows


def main() -> None:
    """Measure every number of threads and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100, help="grid points along each edge (default: 100)")
    parser.add_argument("--points", type=int, default=16384, help="points for naive torch (default: 16384)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.size, args.points, args.repeats = 24, 1024, 1
    rows = {}
    for threads in args.threads:
        rows |= measure(threads, args.size, args.points, args.repeats)
    report(rows)


if __name__ == "__main__":
    main()
