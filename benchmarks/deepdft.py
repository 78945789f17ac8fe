"""painn and schnet beside DeepDFT's public code, with equal weights; rounds alternate, medians.

    python -m benchmarks.deepdft --deepdft FOLDER [--peers VENV] [--threads 1 2] [--repeats 3] [--quick]

--deepdft  a checkout of github.com/peterbjorgensen/DeepDFT, run by the Python of --peers, else by this one, in a
           process of its own

The public modules, at the sizes of the pretrained models and with random weights, are saved as run folders, which
`dcharge convert-from deepdft` reads: same weights, float32, and the densities must agree to 1e-5 of the largest. A
molecule of 18 atoms in a box, not periodic, and 64 atoms of silicon. Beside dcharge's whole prediction, atoms encoded
in every call:

end to end  the public code with its own graph builder on ASE's neighbour list, that is, as it runs without asap3. It
            makes atoms of the points and finds the pairs among these, too; few points are taken (told in the row), in
            slices of SLICE (its default is 5000). Atoms are encoded before and not counted.
networks    the public networks alone; graphs are ready, and atoms encoded before and not counted
training    a step on two structures x 1000 points: forward, squared error, backward, Adam; its graphs are ready, while
            dcharge's Trainer chooses points and finds neighbours in the step

Ratios are of points per processor second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from .cases import interleaved, made_up_density, rate, report, silicon, threads_label
from .peers.child import Child
from .peers.deepdft_nets import LAYERS, LEARNING_RATE

SIZE, TILES, TILE = 84, 4, 1024  # tiles of points, spread over a grid of 84^3
SLICE = 125  # points of a tile that the public code predicts end to end
TRAINING = 1000  # points of a structure in a training step
FAR = 1000.0  # Angstrom, cell for the list of neighbours of a molecule: its own images are out of reach
AGREE = 1e-5  # of the largest density
TARGETS = {"end to end": 10.0, "networks": 4.0, "training": 3.0}


def molecule(rattle: float = 0.05, seed: int = 0):
    """1-pentanol, stretched out, in a box with 4 Angstrom around it, not periodic: 18 atoms as in an average of QM9."""
    from dcharge import Structure

    chain = np.array([[1.25 * i, 0.45 * (-1) ** i, 0.0] for i in range(6)])  # C C C C C O
    numbers, positions = [6] * 5 + [8], list(chain)
    for i, (x, y, _) in enumerate(chain[:5]):
        positions += [(x, y + 0.63 * (-1) ** i, z) for z in (-0.89, 0.89)]
    positions += [chain[0] + (-0.95, -0.55, 0.0), chain[5] + (0.80, 0.55, 0.0)]
    positions = np.array(positions) + np.random.default_rng(seed).normal(0.0, rattle, (18, 3))
    low, high = positions.min(0) - 4.0, positions.max(0) + 4.0
    return Structure(np.array(numbers + [1] * 12), positions - low, np.diag(high - low), False)


SYSTEMS = {"molecule": molecule, "silicon": silicon}


def problem(path: Path, systems, tiles: int, slice_points: int, training_points: int) -> dict:
    """Write structures and points for the public code.

    -> {system: (structure, the same with other displacements, points [tiles, TILE, 3], slices [tiles, n, 3])}
    """
    from dcharge import Grid

    arrays, out, rng = {"systems": np.array(list(systems))}, {}, np.random.default_rng(0)
    # tiles begin in planes of equal distances, at the middle and elsewhere: vacuum around a molecule has its share
    rows = np.floor(SIZE * ((0.5 + 0.618 * np.arange(tiles)) % 1))
    for name in systems:
        structures = [SYSTEMS[name](seed=seed) for seed in (0, 1)]
        grid = Grid((SIZE,) * 3, structures[0].cell)
        starts = (np.floor(SIZE * (np.arange(tiles) + 0.5) / tiles) * SIZE + rows) * SIZE
        points = np.stack([grid.points(np.arange(start, start + TILE)) for start in starts.astype(int)])
        first = (TILE - slice_points) // 2
        slices = points[:, first : first + slice_points]
        for label, structure in zip((name, f"{name} moved"), structures, strict=True):
            periodic = bool(structure.pbc.all())
            drawn = rng.uniform(0, 1, (training_points, 3)) @ structure.cell
            arrays |= {f"{label}/numbers": structure.numbers, f"{label}/positions": structure.positions}
            arrays |= {f"{label}/cell": structure.cell if periodic else np.eye(3) * FAR}
            arrays |= {f"{label}/box": structure.cell, f"{label}/periodic": np.array(periodic)}
            arrays |= {f"{label}/training": drawn}
            arrays |= {f"{label}/target": made_up_density(structure, drawn), f"{label}/compact": points}
        arrays[f"{name}/slices"] = slices
        out[name] = *structures, points, slices
    np.savez(path, **arrays)
    return out


def converted(run: Path, structure):
    """Predictor with the weights of a run folder of the public code, by `dcharge convert-from deepdft`."""
    from dcharge.foreign.convert import convert_from
    from dcharge.predict import load

    return load(convert_from("deepdft", run, run / "frozen.pth", type_map=sorted(set(structure.symbols))))


def trainer(predictor, structures, folder: Path, points: int, steps: int):
    """A Trainer of the predictor's model as published (squared error, Adam), on made-up densities."""
    from dcharge import Density, Grid
    from dcharge.config import normalize
    from dcharge.io import write
    from dcharge.train import Trainer

    folder.mkdir()
    for i, structure in enumerate(structures):
        grid = Grid((40,) * 3, structure.cell)
        values = made_up_density(structure, grid.points()).reshape(grid.shape)
        write(Density(structure, grid, values), folder / f"{i}.h5")
    config = {
        "model": predictor.model.config,
        "learning_rate": {"type": "exp", "start_lr": LEARNING_RATE, "stop_lr": LEARNING_RATE},
        "loss": {"type": "mse"},
        "training": {
            "numb_steps": steps,
            "device": "cpu",
            "sampler": {"type": "random", "points_per_frame": 5 * points},
            "training_data": {
                "systems": [str(folder / f"{i}.h5") for i in range(len(structures))],
                "batch_size": len(structures) * points,
                "frames_per_batch": len(structures),
            },
        },
    }
    out = Trainer(normalize(config))
    out.model.load_state_dict(predictor.model.state_dict())
    return out


def agreement(predictor, structure, slices, told: dict) -> float:
    """Largest difference from what the public code told, over the largest density. SystemExit above AGREE."""
    ours, found = predictor.at(structure, slices.reshape(-1, 3))[0], 0.0
    for way, theirs in told.items():
        difference = float(np.abs(ours - np.array(theirs)).max() / np.abs(theirs).max())
        if not difference <= AGREE:
            raise SystemExit(f"the public code ({way}) and dcharge differ by {difference:.1e} of the largest density")
        found = max(found, difference)
    return found


def measure(system: str, family: str, threads: int, case: tuple, predictor, train, child: Child, told, args) -> dict:
    """Rows of one system, family and number of threads."""
    structure, _, points, slices = case
    key, flat = f"{system} {family}", points.reshape(-1, 3)
    calls = {
        "dcharge": lambda: predictor.at(structure, flat),
        "dcharge training": train.train_step,
    }
    calls |= {way: child.call(f"{key} {way}") for way in TARGETS}
    for call in calls.values():
        call()
    took = interleaved(calls, args.repeats)
    error = agreement(predictor, structure, slices, told[key])
    n_points, n_slices, n_training = len(flat), slices[..., 0].size, child.about["points"][f"{key} training"]
    ours = {"networks": rate(n_points, took["dcharge"])}
    ours |= {"end to end": ours["networks"], "training": rate(n_training, took["dcharge training"])}
    words = {
        "end to end": f"public code end to end, {n_slices} points",
        "networks": f"public networks alone, {n_points} points, graphs ready",
        "training": f"public networks' training step, 2 x {n_training // 2} points, graphs ready",
    }
    label = f"{family}, {system} of {len(structure)} atoms, {threads_label(threads)}"
    rows = {
        f"{label}: dcharge, {n_points} points": ours["networks"] | {"difference": error},
        f"{label}: dcharge training step, 2 x {n_training // 2} points": ours["training"],
    }
    for way, least in TARGETS.items():
        row = rate(child.about["points"][f"{key} {way}"], took[way])
        row |= {"ratio": ours[way]["per_cpu_s"] / row["per_cpu_s"], "of": "x by dcharge per CPU second"}
        rows[f"{label}: {words[way]}"] = row | {"target": f">= {least:g} x", "met": row["ratio"] >= least}
    return rows


def measured(args, python, folder: Path) -> dict[str, dict]:
    """Rows of all systems, families and numbers of threads; none (said) where the public code does not run."""
    import torch

    cases = problem(folder / "problem.npz", SYSTEMS, args.tiles, args.slice, args.training)
    child, rows = Child(python, "serve_deepdft_equal.py", folder / "problem.npz", args.deepdft, folder), {}
    try:
        if child.missing:
            print(f"{args.deepdft}: DeepDFT does not run in {python}, see above", file=sys.stderr)
            return rows
        told = child.ask("check")
        for family in LAYERS:
            for system, case in cases.items():
                predictor = converted(folder / family, case[0])
                steps = (args.repeats + 1) * len(args.threads)
                train = trainer(predictor, case[:2], folder / f"{family} {system}", args.training, steps)
                for threads in args.threads:
                    torch.set_num_threads(threads)
                    child.ask(f"threads {threads}")
                    rows |= measure(system, family, threads, case, predictor, train, child, told, args)
    finally:
        child.close()
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deepdft", metavar="FOLDER", help="checkout of DeepDFT")
    parser.add_argument("--peers", metavar="VENV", help="virtual environment with torch and ASE that runs it")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    args.tiles, args.slice, args.training = TILES, SLICE, TRAINING
    if args.quick:
        args.repeats, args.threads, args.tiles, args.slice, args.training = 1, [1], 1, 50, 100
    rows = {}
    if args.deepdft:
        python = Path(args.peers) / "bin/python" if args.peers else Path(sys.executable)
        with tempfile.TemporaryDirectory() as folder:
            rows = measured(args, python, Path(folder))
    else:
        print("DeepDFT is not at hand (--deepdft FOLDER)")
    report(rows)


if __name__ == "__main__":
    main()
