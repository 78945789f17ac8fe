"""Reading and writing text densities, beside ASE and numpy.savetxt in the same run.

    python benchmarks/formats.py [n]      # n^3 grid, default 160; prints a table, then JSON

Medians of five runs, one thread, files in the page cache; megabytes of text per second.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time

import numpy as np

import dcharge.io as io
from dcharge.density import Density
from dcharge.grid import Grid
from dcharge.structure import Structure


def density(n: int) -> Density:
    """A smooth made-up density with silicon's range of values."""
    rng = np.random.default_rng(0)
    x = np.arange(n) / n
    wave = np.cos(2 * np.pi * x)
    rho = 0.2 + 0.1 * wave[:, None, None] * wave[None, :, None] + 0.05 * wave[None, None, :]
    rho *= 1 + 1e-3 * rng.standard_normal((n, n, n))
    structure = Structure([14, 14], [[0, 0, 0], [1.3, 1.3, 1.3]], np.eye(3) * 5.43, True)
    return Density(structure, Grid((n, n, n), structure.cell), rho)


def seconds(call, repeats: int = 5) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(n: int) -> None:
    """Measure and print."""
    from ase.calculators.vasp import VaspChargeDensity
    from ase.io.cube import read_cube

    rho, rows = density(n), {}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        chgcar, cube, text, h5 = (os.path.join(folder, f) for f in ("CHGCAR", "x.cube", "x.txt", "x.h5"))
        flat = rho.values.reshape(-1, 5) if n**3 % 5 == 0 else rho.values.reshape(-1, 1)
        write = {"CHGCAR": seconds(lambda: io.write(rho, chgcar)), "cube": seconds(lambda: io.write(rho, cube))}
        savetxt = seconds(lambda: np.savetxt(text, flat, fmt="%17.11E"), 1)
        size = {"CHGCAR": os.path.getsize(chgcar), "cube": os.path.getsize(cube), "savetxt": os.path.getsize(text)}
        read = {"CHGCAR": seconds(lambda: io.read(chgcar)), "cube": seconds(lambda: io.read(cube))}

        def ase_cube():
            with open(cube) as stream:
                read_cube(stream)

        ase = {"CHGCAR": seconds(lambda: VaspChargeDensity(chgcar), 1), "cube": seconds(ase_cube, 1)}
        slow = size["savetxt"] / savetxt
        for name in ("CHGCAR", "cube"):
            fast = size[name] / write[name]
            rows[f"read {name}"] = row(read[name], size[name], ase[name] / read[name], "x ASE")
            rows[f"write {name}"] = row(write[name], size[name], fast / slow, "x savetxt")
            rows[f"ASE reads {name}"] = row(ase[name], size[name])
        rows["numpy.savetxt"] = row(savetxt, size["savetxt"])
        io.write(rho, h5, dtype="float32")
        frame = io.open_system(h5).frames[0]
        index = np.random.default_rng(1).integers(0, n**3, 20000)
        rows["HDF5 frame"] = row(seconds(lambda: frame.read(np.float32)), os.path.getsize(h5))
        rows["HDF5 20000 points"] = row(seconds(lambda: frame.values_at(index)), 4 * len(index))
    print(f"{n}^3 points{'':10s}  seconds    MB/s   ratio")
    for name, r in rows.items():
        print(
            f"{name:20s} {r['seconds']:9.4f} {r['mb_per_s']:7.0f}   "
            + (f"{r['ratio']:.1f} {r['of']}" if r["of"] else "")
        )
    print(json.dumps(rows))


def row(t: float, size: float, ratio: float | None = None, of: str = "") -> dict:
    """One line of the table."""
    return {"seconds": t, "mb_per_s": size / t / 1e6, "ratio": ratio, "of": of}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 160)
