"""Rates of radial_moments and se_e2_a on silicon beside the counted limit of this machine.

Silicon, cutoff 6.5 Angstrom, 32 Chebyshev functions, l_max 1, a tile of a regular grid, float32. The limit counts
n (5 K + 32) multiply-adds per point (n atoms within the cutoff; 4 K sums, K steps of the recurrence, 32 for the pair)
at the peak rate that one core reaches in the same run. se_e2_a (M = 80, 16 axis columns) adds 4 K M multiply-adds
for A = P.C and 4 * 16 M for the Gram matrix.

    python -m benchmarks.moments [--threads 1 2] [--quick]
"""

from __future__ import annotations

import argparse
import math
import subprocess
import tempfile
from pathlib import Path

import torch

from dcharge import ops
from dcharge.grid import Grid
from dcharge.ops import library

from .cases import RCUT, interleaved, rate, report, silicon, threads_label

ROOT = Path(__file__).resolve().parent.parent
FLAGS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx2", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
}
TARGETS = {"avx512": 1.5e6, "avx2": 0.5e6}  # points/s per core
K, M, AXIS = 32, 80, 16


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


def calls(n_points: int) -> tuple[int, dict]:
    """Points of the tile and, per op, (call, multiply-adds per point)."""
    structure = silicon(rattle=0.0)
    grid = Grid.from_spacing(structure.cell, 0.12)
    points = torch.from_numpy(grid.points(next(grid.tiles(n_points))))
    atoms, zeros = torch.from_numpy(structure.positions), torch.zeros(len(structure), dtype=torch.int64)
    frame, cell = torch.zeros(len(points), dtype=torch.int64), torch.from_numpy(structure.cell)[None]
    geometry = (points, frame, atoms, zeros, zeros, cell, torch.ones(1, 3, dtype=torch.bool))
    options = dict(rcut=RCUT, rcut_smth=0.5, soft=0.5)
    coefficients, offset = torch.randn(1, 2, K, M), torch.randn(M)
    moments = len(structure) / structure.volume * 4 / 3 * math.pi * RCUT**3 * (5 * K + 32)

    def radial_moments():
        ops.radial_moments(*geometry, **options, n_radial=K, l_max=1, n_types=1)

    def se_e2_a():
        ops.se_e2_a(*geometry, coefficients, offset, **options, axis_neuron=AXIS)

    rest = 4 * K * M + 4 * M * AXIS
    return len(points), {"radial_moments": (radial_moments, moments), "se_e2_a": (se_e2_a, moments + rest)}


def main() -> None:
    """Measure every op, instruction set and number of threads, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--points", type=int, default=16384, help="points per call (default: 16384)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds (default: 15)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.points, args.repeats, args.threads = 2048, 1, [1]
    n_points, table = calls(args.points)
    rows = {}
    for isa in FLAGS:
        if not library.select_isa(isa):
            continue
        peak = peak_fma(isa)
        for threads in args.threads:
            torch.set_num_threads(threads)
            took = interleaved({name: call for name, (call, _) in table.items()}, args.repeats)
            for name, (_, count) in table.items():
                row = rate(n_points, took[name]) | {"per_core": n_points / took[name].wall / threads}
                if peak is not None:
                    limit = 1e9 * peak / count * threads
                    row |= {
                        "ratio": row["value"] / limit,
                        "of": "of the counted limit",
                        "limit": limit,
                        "peak_gfma": peak,
                    }
                if name == "radial_moments" and isa in TARGETS:
                    row["target"] = f">= {TARGETS[isa] / 1e6:g} M points/s per core"
                    row["met"] = row["per_core"] >= TARGETS[isa]
                rows[f"{library.NAMES[isa]}, {threads_label(threads)}: {name}"] = row
    report(rows)


if __name__ == "__main__":
    main()
