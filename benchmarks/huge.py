"""A 100 000-atom cell predicted by one command: time and largest resident memory of `dcharge predict`.

    python -m benchmarks.huge [--repeat 23] [--spacing 0.25] [--output rho.h5] [--threads N] [--quick]

Rattled silicon, 8 repeat^3 atoms, written as POSCAR; a frozen model of the paper's sizes; the density goes to a file
in a temporary folder (.h5 is streamed: half a gigabyte on the disk; a cube keeps its values in memory until it is
written). Minutes: not among the measurements that run by default.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .cases import deep_charge, report, silicon, threads_label
from .memory import MB

LIMIT = 3000.0  # MB


def resident(process: int) -> float:
    """Largest resident memory of a running process so far, bytes; 0 where it cannot be read."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as lines:
            return next((1024.0 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), 0.0)
    except OSError:
        return 0.0


def measure(repeat: int, spacing: float, output: str, threads: int) -> dict[str, dict]:
    """Predict in a process of its own."""
    from dcharge import Grid
    from dcharge.freeze import save_frozen

    structure = silicon(repeat)
    grid = Grid.from_spacing(structure.cell, spacing)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_frozen(deep_charge(silicon(1)), place / "frozen.pth", {"checkpoint": "random weights"})
        structure.to_ase().write(place / "POSCAR", format="vasp")
        command = [sys.executable, "-m", "dcharge", "predict", "POSCAR", "--spacing", str(spacing), "-o", output]
        start, largest = time.perf_counter(), 0.0
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with open(place / "log", "w") as log:
            process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env=environment)
            while process.poll() is None:
                largest = max(largest, resident(process.pid))
                time.sleep(0.1)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"dcharge predict: {(place / 'log').read_text().strip()[-500:]}")
        size = (place / output).stat().st_size
    shape = "x".join(map(str, grid.shape))
    name = f"{len(structure):,} atoms, grid {shape}, {threads_label(threads)}, {Path(output).suffix}"
    return {
        f"{name}: dcharge predict": {
            "value": grid.n_points / seconds, "unit": "points/s", "seconds": seconds, "n_points": grid.n_points
        },
        f"{name}: largest resident memory": {
            "value": largest / MB, "unit": "MB", "target": f"< {LIMIT:g} MB", "met": largest / MB < LIMIT,
        },
        f"{name}: file": {"value": size / MB, "unit": "MB"},
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=23, help="cells of 8 atoms along an edge (default: 23)")
    parser.add_argument("--spacing", type=float, default=0.25, help="of the grid, Angstrom (default: 0.25)")
    parser.add_argument("--output", default="rho.h5", help="file name, which says the format (default: rho.h5)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=cores, help="default: all cores that this process may use")
    parser.add_argument("--quick", action="store_true", help="216 atoms, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.spacing, args.threads = 3, 0.8, 1
    report(measure(args.repeat, args.spacing, args.output, args.threads))


if __name__ == "__main__":
    main()
