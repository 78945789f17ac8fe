"""dcharge beside other programs, which run in their own Python; rounds alternate, medians.

    python -m benchmarks.peers [--peers VENV] [--deepdft FOLDER] [--threads 1 2] [--repeats 3] [--quick]

--peers    a virtual environment with deepmd-kit >= 3.2 (its models are made at the first run, a few minutes, and kept
           in build/benchmarks)
--deepdft  a checkout of github.com/peterbjorgensen/DeepDFT; run by the Python of --peers, else by this one

Same structures, same points, float32. Ratios are of points per processor second: rate of dcharge over that of the
peer. Of a peer that is not at hand the newest committed figures are repeated and marked old.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from .. import docs
from ..cases import SYSTEMS, deep_charge, interleaved, rate, report, threads_label
from ..naive import some_tiles
from .child import Child

BUILD = docs.HERE.parent / "build/benchmarks/deepmd"
TILES, TILE = 4, 2048
FEW, FRAMES, MANY = (4, 4, 2), 8, 512  # points a frame of DeePMD-kit's user path
AGREE = 1e-4  # of the largest value, between ways to evaluate one model
ROWS = {  # call of a peer -> (peer, words in the table, (least, goal) of dcharge's rate over it on silicon)
    "DeepDOS.eval few": ("deepmd", "{name} DeepDOS.eval, 32 points a frame", (100.0, None)),
    "DeepPot.eval few": ("deepmd", "{name} DeepPot.eval, 32 points a frame", (100.0, None)),
    "DeepDOS.eval many": ("deepmd", "{name} DeepDOS.eval, 512 points a frame", None),
    "forward_lower": ("deepmd", "{name} forward_lower, our list", None),
    "forward_lower compressed": ("deepmd", "{name} forward_lower, our list, compressed", (5.0, 8.0)),
    "PaiNN": ("deepdft", "{name} PaiNN, cutoff 4 Angstrom (another model class)", None),
}


def problem(path: Path, systems, size: int, tiles: int) -> dict:
    """Write structures and points for the peers; returns {system: (structure, compact points [tiles, TILE, 3])}."""
    from dcharge import Grid

    arrays, out, rng = {"systems": np.array(list(systems))}, {}, np.random.default_rng(0)
    for name in systems:
        structure = SYSTEMS[name]()
        grid = Grid((size,) * 3, structure.cell)
        compact = np.stack([grid.points(i) for i in some_tiles(grid, tiles * TILE, TILE) if len(i) == TILE])
        # points far from each other: a regular sub-grid, moved at random, on points of the grid
        lattice = np.stack(np.meshgrid(*[np.arange(n) / n for n in FEW], indexing="ij"), -1).reshape(-1, 3)
        spread = np.round((lattice + rng.uniform(0, 1, (FRAMES, 1, 3))) * size) % size / size @ structure.cell
        many = grid.points(rng.choice(grid.n_points, MANY, replace=False))[None]
        arrays |= {f"{name}/numbers": structure.numbers, f"{name}/positions": structure.positions}
        arrays |= {f"{name}/cell": structure.cell, f"{name}/compact": compact, f"{name}/spread": spread}
        arrays[f"{name}/many"] = many
        out[name] = structure, compact
    np.savez(path, **arrays)
    return out


def open_peers(args, path: Path) -> dict[str, Child]:
    """The peers at hand, running; those asked for and not installed are told."""
    python = Path(args.peers) / "bin/python" if args.peers else Path(sys.executable)
    asked = {"deepmd": ("serve_deepmd.py", BUILD)} if args.peers else {}
    if args.deepdft:
        asked["deepdft"] = ("serve_deepdft.py", args.deepdft)
    found = {}
    for name, (script, folder) in asked.items():
        child = Child(python, script, path, folder)
        if child.missing:
            print(f"{child.missing} is not installed in {python}", file=sys.stderr)
            child.close()
        else:
            found[name] = child
    return found


def checked(child: Child, name: str) -> dict:
    """What a peer tells about its answers; an error where two ways that must agree do not."""
    found = child.ask("check")
    for system, values in found.items():
        for key, value in values.items():
            if not (value < AGREE or key == "many"):
                raise SystemExit(f"{name}, {system}: '{key}' differs by {value:.1e} of the largest value")
    return found


def measure(args, peers: dict[str, Child], systems: dict, threads: int, told: dict) -> dict[str, dict]:
    """Rows of one number of threads, all systems."""
    import torch

    from dcharge.predict import Predictor

    torch.set_num_threads(threads)
    for child in peers.values():
        child.ask(f"threads {threads}")
    rows = {}
    for system, (structure, compact) in systems.items():
        predictor, points = Predictor(deep_charge(structure)), compact.reshape(-1, 3)
        calls = {"dcharge": lambda p=predictor, s=structure, x=points: p.at(s, x)}
        for key, (peer, _, _) in ROWS.items():
            name = f"{system} {key}"
            if peer in peers and name in peers[peer].about["points"]:
                calls[key] = peers[peer].call(name)
        for call in calls.values():
            for _ in range(args.warm):  # TorchScript compiles in its first calls
                call()
        took, label = interleaved(calls, args.repeats), f"{system}, {threads_label(threads)}"
        ours = rows[f"{label}: dcharge"] = rate(len(points), took["dcharge"])
        for key in list(calls)[1:]:
            peer, words, goals = ROWS[key]
            row = rate(peers[peer].about["points"][f"{system} {key}"], took[key]) | {"peer": peer}
            row |= {"ratio": ours["per_cpu_s"] / row["per_cpu_s"], "of": "x by dcharge per CPU second"}
            words = words.format(name=peers[peer].about["name"])
            if key == "DeepDOS.eval many":
                row["error_percent"] = 100 * told["deepmd"][system]["many"]
                words += f" (loses atoms: off by up to {row['error_percent']:.2g} % of the largest value)"
            if goals and system == "silicon":
                row["target"] = f">= {goals[0]:g} x" + (f", goal {goals[1]:g} x" if goals[1] else "")
                row["met"] = row["ratio"] >= goals[0]
            rows[f"{label}: {words}"] = row
    return rows


def committed(peers) -> dict[str, dict]:
    """Rows of the newest committed measurement for peers that are not at hand, marked old."""
    found = docs.newest().get("peers")
    if found is None:
        return {}
    about = found["machine"]
    when = f"{about['date'][:10]}, {about['cpu']}"
    wanted = [row.get("peer") not in peers if "peer" in row else not peers for row in found["rows"].values()]
    return {name: {"old": when} | row for (name, row), old in zip(found["rows"].items(), wanted, strict=True) if old}


def main() -> None:
    """Measure the peers at hand, add the committed figures of the others, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", metavar="VENV", help="virtual environment with deepmd-kit")
    parser.add_argument("--deepdft", metavar="FOLDER", help="checkout of DeepDFT")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--size", type=int, default=84, help="grid points along each edge (default: 84)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    args.warm, tiles, names = 3, TILES, list(SYSTEMS)
    if args.quick:
        args.repeats, args.warm, args.threads, tiles, names, args.size = 1, 1, [1], 1, names[:1], 24
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        systems = problem(path, names, args.size, tiles)
        peers = open_peers(args, path)
        try:
            told = {name: checked(child, name) for name, child in peers.items()}
            for threads in args.threads if peers else []:
                rows |= measure(args, peers, systems, threads, told)
        finally:
            for child in peers.values():
                child.close()
    rows |= committed(peers)
    if not rows:
        print("no peer at hand (--peers VENV, --deepdft FOLDER) and none measured before")
    report(rows)


if __name__ == "__main__":
    main()
