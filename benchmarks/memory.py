"""Peak memory of predicting one grid, in a process of its own.

    python -m benchmarks.memory [--size 256] [--small 100] [--threads N] [--quick]

A child process predicts a size^3 grid (float32) on 64 silicon atoms and tells its peak resident memory. The row with
the target counts everything but the output array: Python, torch, the model, the tiles. Beside it: what prediction adds
to the memory in use just before it. The two smaller grids show that neither depends on the size of the grid.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from .cases import report

TARGET = 600.0  # MB above the output array
MB = 1e6


def peak() -> float:
    """Largest resident memory of this process so far, bytes.

    Linux counts in ru_maxrss also what a parent held before it started this program; VmHWM does not.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def forget_peak() -> None:
    """Let the peak begin anew at what is resident now (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def child(size: int, threads: int) -> None:
    """Predict and print the figures as one line of JSON."""
    import time

    import torch

    from dcharge.predict import Predictor

    from .cases import deep_charge, silicon

    torch.set_num_threads(threads)
    structure = silicon()
    predictor = Predictor(deep_charge(structure))
    forget_peak()
    before, start = peak(), time.perf_counter()
    density = predictor.predict(structure, shape=(size,) * 3)
    seconds, after = time.perf_counter() - start, peak()
    output = density.values.nbytes
    print(json.dumps({"before": before, "peak": after, "output": output, "seconds": seconds}), flush=True)


def measure(size: int, threads: int) -> dict:
    """Run `child` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", str(size), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"memory: predicting {size}^3 points failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure every size and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="grid points along each edge (default: 256)")
    parser.add_argument("--small", type=int, nargs="*", default=[100], help="smaller grids (default: 100)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="24^3 and 32^3 points, to see that it runs")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.threads)
        return
    sizes = [24, 32] if args.quick else [*args.small, args.size]
    args.threads = 1 if args.quick else args.threads
    rows, above = {}, {}
    for size in sizes:
        result = measure(size, args.threads)
        above[size] = (result["peak"] - result["output"]) / MB
        goal = {"target": f"< {TARGET:g} MB", "met": above[size] < TARGET} if size == sizes[-1] else {}
        rows[f"{size}^3: above the output array"] = {
            "value": above[size], "unit": "MB", "seconds": result["seconds"], "output_mb": result["output"] / MB, **goal
        }  # fmt: skip
        rows[f"{size}^3: added by prediction"] = {
            "value": (result["peak"] - result["output"] - result["before"]) / MB, "unit": "MB"
        }  # fmt: skip
    first, last = sizes[0], sizes[-1]
    rows[f"{last}^3 over {first}^3"] = {
        "ratio": above[last] / above[first],
        "of": f"x the memory, {(last / first) ** 3:.0f} x points",
    }
    report(rows)


if __name__ == "__main__":
    main()
