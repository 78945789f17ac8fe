"""Rates of radial_moments and se_e2_a on silicon beside the counted limit of this machine.

Silicon, cutoff 6.5 Angstrom, 32 Chebyshev functions, l_max 1, a tile of a regular grid, float32. The limit counts
n (5 K + 32) multiply-adds per point (n atoms within the cutoff; 4 K sums, K steps of the recurrence, 32 for the pair)
at the peak rate that one core reaches in the same run. se_e2_a (M = 80, 16 axis columns) adds 4 K M multiply-adds
for A = P.C and 4 * 16 M for the Gram matrix.

    python benchmarks/moments.py [--threads 1 2] [--output moments.json]
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk

from dcharge import ops
from dcharge.grid import Grid
from dcharge.ops import library

ROOT = Path(__file__).resolve().parent.parent
FLAGS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx2", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
}
RCUT, K, M, AXIS, N_POINTS, EDGE = 6.5, 32, 80, 16, 4096, 8


def peak_fma(isa: str) -> float | None:
    """1e9 float32 multiply-adds per second of one core, or None where nothing compiles here."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        source = ROOT / "benchmarks/peak_fma.cpp"
        command = ["c++", "-std=c++17", "-O3", f"-DDCHARGE_ISA={isa}", f"-I{ROOT / 'csrc'}", *FLAGS[isa]]
        try:
            subprocess.run([*command, str(source), "-o", str(program)], check=True, capture_output=True)
            return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()[0])
        except (OSError, subprocess.CalledProcessError):
            return None


def cpu_name() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def seconds(call, budget: float = 1.0) -> float:
    """Median seconds of a call, after a first one, within a time budget."""
    call()
    times, end = [], time.perf_counter() + budget
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def calls():
    """name: (call, multiply-adds per point) on a tile of the grid of a 64-atom silicon cell."""
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    grid = Grid.from_spacing(atoms.cell.array, 0.12)
    points = torch.from_numpy(grid.points(next(grid.tiles(N_POINTS, EDGE))))
    zeros = torch.zeros(len(atoms), dtype=torch.int64)
    geometry = (
        *(points, torch.zeros(len(points), dtype=torch.int64), torch.from_numpy(atoms.positions), zeros, zeros),
        *(torch.from_numpy(atoms.cell.array)[None], torch.ones(1, 3, dtype=torch.bool)),
    )
    options = dict(rcut=RCUT, rcut_smth=0.5, soft=0.5)
    coefficients, offset = torch.randn(1, 2, K, M), torch.randn(M)
    n_pairs = len(atoms) / atoms.get_volume() * 4 / 3 * np.pi * RCUT**3
    moments = n_pairs * (5 * K + 32)
    return len(points), {
        "radial_moments": (
            lambda: ops.radial_moments(*geometry, **options, n_radial=K, l_max=1, n_types=1),
            moments,
        ),
        "se_e2_a": (
            lambda: ops.se_e2_a(*geometry, coefficients, offset, **options, axis_neuron=AXIS),
            moments + 4 * K * M + 4 * M * AXIS,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, help="write the JSON here too")
    arguments = parser.parse_args()
    rows = []
    n_points, table = calls()
    for isa in FLAGS:
        if not library.select_isa(isa):
            continue
        peak = peak_fma(isa)
        for name, (call, count) in table.items():
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                rate = n_points / seconds(call)
                limit = None if peak is None else 1e9 * peak / count
                rows.append(
                    {
                        "op": name,
                        "isa": isa,
                        "threads": threads,
                        "points_per_s": round(rate),
                        "points_per_s_per_core": round(rate / threads),
                        "peak_gfma_per_core": peak,
                        "limit_points_per_s_per_core": limit and round(limit),
                        "share_of_limit": limit and round(rate / threads / limit, 3),
                    }
                )
                print(f"{name:15s} {isa:9s} {threads} threads: {rate / 1e6:6.2f} M points/s", file=sys.stderr)
    report = {"benchmark": "moments", "cpu": cpu_name(), "torch": torch.__version__, "rows": rows}
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
