"""Time per point and memory from 8 to 100 000 atoms: silicon at one grid spacing, the same number of points evaluated.

    python -m benchmarks.scaling [--repeat 1 2 5 11 23] [--spacing 0.25] [--points 32768] [--rounds 7] [--threads 1]
                                 [--quick]

Supercells of rattled silicon (8 repeat^3 atoms), the paper's sizes. Of each grid tiles of about `points` points, evenly
spread over it, are predicted; rounds go through all sizes, medians. *Set up* is what is done once per structure:
atoms to tensors, sorting them into boxes, the model's `encode`. *Memory* is the largest resident memory of a process
of its own (Python and torch are most of it) that sets the structure up and predicts those tiles, without an output
array.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from .cases import deep_charge, interleaved, rate, report, silicon, threads_label, timed
from .memory import MB, peak
from .naive import some_tiles

MOST = 0.10  # the time per point may differ by this much from that of the reference size
REFERENCE = 64  # atoms


class Case:
    """One supercell, its grid, the tiles predicted."""

    def __init__(self, model, repeat: int, spacing: float, n_points: int):
        from dcharge import Grid
        from dcharge.predict import Predictor

        self.structure = silicon(repeat)
        self.predictor = Predictor(model)
        grid = Grid.from_spacing(self.structure.cell, spacing)
        self.n_points, self.shape = grid.n_points, grid.shape
        self.points = [grid.points(index) for index in some_tiles(grid, n_points, self.predictor.tile)]
        self.n_evaluated = sum(map(len, self.points))
        self.encoded = None

    def set_up(self) -> None:
        """What is done once per structure; the first tile sorts the atoms into boxes."""
        self.encoded = self.predictor.encode(self.structure)
        self.predictor.residual(self.encoded, self.points[0][:1])

    def __call__(self) -> None:
        """Predict all tiles."""
        for points in self.points:
            self.predictor._decode(*self.encoded, points, False)


def child(args) -> None:
    """Largest resident memory of one size, bytes, as JSON."""
    import torch

    torch.set_num_threads(args.threads)
    model = deep_charge(silicon(1))
    case = Case(model, args.child, args.spacing, args.points)
    case.set_up(), case()
    print(json.dumps(peak()), flush=True)


def memory(repeat: int, args) -> float:
    """Largest resident memory (MB) of a process that predicts one size."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--child", str(repeat), "--threads", str(args.threads)]
    command += ["--spacing", str(args.spacing), "--points", str(args.points)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"scaling: {8 * repeat**3} atoms failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1]) / MB


def measure(args) -> dict[str, dict]:
    """All rows."""
    model, cases, once = deep_charge(silicon(1)), {}, {}
    for repeat in args.repeat:
        cases[repeat] = Case(model, repeat, args.spacing, args.points)
        once[repeat] = timed(cases[repeat].set_up).wall
        cases[repeat]()
    took = interleaved(cases, args.rounds)
    per_point = {repeat: took[repeat].wall / case.n_evaluated for repeat, case in cases.items()}
    reference = min(cases, key=lambda repeat: abs(8 * repeat**3 - REFERENCE))
    rows, label = {}, threads_label(args.threads)
    for repeat, case in cases.items():
        name = f"{8 * repeat**3:,} atoms, grid {'x'.join(map(str, case.shape))}, {label}"
        ratio = per_point[repeat] / per_point[reference]
        rows[f"{name}: predict"] = rate(case.n_evaluated, took[repeat]) | {
            "ratio": ratio, "of": f"x the time per point of {8 * reference**3} atoms",
            "target": f"within {100 * MOST:.0f} %", "met": abs(ratio - 1) <= MOST, "grid_points": case.n_points,
        }  # fmt: skip
        rows[f"{name}: set up"] = {"value": 1e3 * once[repeat], "unit": "ms"}
        rows[f"{name}: memory"] = {"value": memory(repeat, args), "unit": "MB"}
    return rows


def main() -> None:
    """Measure every size and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeat", type=int, nargs="+", default=[1, 2, 5, 11, 23], help="cells of 8 atoms along an edge"
    )
    parser.add_argument("--spacing", type=float, default=0.25, help="of the grid, Angstrom (default: 0.25)")
    parser.add_argument("--points", type=int, default=32768, help="points evaluated (default: 32768)")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--threads", type=int, default=1, help="number of threads (default: 1)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.points, args.rounds = [1, 7], 4096, 1
    torch.set_num_threads(args.threads)
    if args.child:
        child(args)
    else:
        report(measure(args))


if __name__ == "__main__":
    main()
