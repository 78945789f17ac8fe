"""Trainings of equal time: dcharge's painn or schnet as examples/study.py sets it but at the public size, and DeepDFT's
public networks as its runner.py trains them. Full grids of unseen frames.

    python -m benchmarks.deepdft_training --data DIR --deepdft FOLDER [--minutes 10] [--systems molecules water]
                                          [--family painn] [--who dcharge public]

DIR holds splits.json and one folder of densities per system (see examples/study.py). Restartable: every finished run
is one JSON file in OUT and is not repeated; with --who, two processes do half of the runs each. At the end a table of
what is there, deepdft_training.json and .md in OUT.

public   Adam with 1e-4 times 0.96 every 100 000 steps, squared error, 1000 points of each of two structures a step,
         drawn anew from the whole grid with replacement; best weights by the mean absolute error at 5000 fixed points
         of every validation frame, which are looked at REPORTS times (every 5000 steps in runner.py: too seldom here).
         Graphs are made with dcharge's list of neighbours. Only forward, backward and optimizer count as its time:
         neither graphs nor reading nor validation do.
dcharge  the time of training as dcharge counts it: everything but reading and the first sampling, validation included

Both are tested by `dcharge test`: the public weights are read by `dcharge convert-from deepdft`, which gives the same
density, so that nothing but the training differs.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from . import machine
from .families import config
from .peers import deepdft_nets as nets

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))
import study  # noqa: E402

STRUCTURES, POINTS, VALIDATION_POINTS = 2, 1000, 5000
REPORTS, LOGGED = 20, 60.0  # validations of a public training; seconds between two lines in the log
WHO = ("dcharge", "public")
SIZES = ("n_features", "n_layers")  # keys left out of examples/study.py's settings: both train networks of public size


class Frames:
    """Densities in memory, and graphs of their atoms and points as the public networks take them."""

    def __init__(self, systems):
        from dcharge.dataset import system_frames

        self.densities = [frame.read() for frame in system_frames(systems, "systems")]
        self.atoms = [self._atoms(density.structure) for density in self.densities]

    @staticmethod
    def _pairs(structure, points=None):
        """Edges (sender, receiver) [e, 2] and the senders' shifts in cells [e, 3]."""
        import torch

        from dcharge.ops import neighbors

        where = torch.as_tensor(structure.positions), torch.as_tensor(structure.cell), torch.as_tensor(structure.pbc)
        index, shift = neighbors(*where, nets.CUTOFF, targets=points)
        return index.flip(0).T.contiguous(), shift.float()

    def _atoms(self, structure) -> dict:
        import torch

        edges, shifts = self._pairs(structure)
        return {
            "nodes": torch.as_tensor(structure.numbers, dtype=torch.int64),
            "num_nodes": torch.tensor(len(structure)),
            "atom_edges": edges,
            "atom_edges_displacement": shifts,
            "num_atom_edges": torch.tensor(len(edges)),
            "atom_xyz": torch.as_tensor(structure.positions).float(),
            "cell": torch.as_tensor(structure.cell).float(),
        }

    def graph(self, number: int, index: np.ndarray):
        """Graph of a frame with the grid points `index` [n], and their densities [n] in e/Angstrom^3."""
        import torch

        density = self.densities[number]
        points = torch.as_tensor(density.points(index))
        edges, shifts = self._pairs(density.structure, points)
        probes = {
            "probe_edges": edges,
            "probe_edges_displacement": shifts,
            "num_probe_edges": torch.tensor(len(edges)),
            "num_probes": torch.tensor(len(points)),
            "probe_xyz": points.float(),
        }
        return self.atoms[number] | probes, torch.as_tensor(density.values_at(index)[0]).float()

    def drawn(self, number: int, n: int, rng):
        """`graph` of n points drawn from the whole grid, with replacement."""
        return self.graph(number, rng.integers(self.densities[number].grid.n_points, size=n))


def pairs_of_structures(n: int, rng):
    """Numbers of two structures a step, without end: all n in random order, then again."""
    rest = []
    while True:
        while len(rest) < STRUCTURES:
            rest += rng.permutation(n).tolist()
        yield rest[:STRUCTURES]
        rest = rest[STRUCTURES:]


def validated(model, graphs) -> float:
    """Mean absolute error, e/Angstrom^3, at the points of the graphs."""
    import torch

    with torch.no_grad():
        errors = [(model(nets.collate([graph]))[0] - target).abs() for graph, target in graphs]
    return float(torch.cat(errors).double().mean())


def train_public(folder: Path, family: str, checkout: Path, train: Frames, valid: Frames, minutes: float) -> dict:
    """Train the public networks for `minutes` of their own work; the best weights are left as a run folder."""
    import torch

    if not valid.densities:
        raise ValueError("validation frames expected: they tell which weights to keep")
    torch.manual_seed(1)
    rng, model = np.random.default_rng(1), nets.networks(checkout, family)
    optimizer = torch.optim.Adam(model.parameters(), lr=nets.LEARNING_RATE)
    held = [valid.drawn(i, VALIDATION_POINTS, np.random.default_rng(i)) for i in range(len(valid.densities))]
    counted, started, count, said, curve = 0.0, time.perf_counter(), 0, 0.0, []
    for chosen in pairs_of_structures(len(train.densities), rng):
        graphs, targets = zip(*(train.drawn(i, POINTS, rng) for i in chosen), strict=True)
        batch, target = nets.collate(graphs), torch.stack(targets)
        for group in optimizer.param_groups:
            group["lr"] = nets.LEARNING_RATE * nets.DECAY ** (count / nets.DECAY_STEPS)
        start = time.perf_counter()
        nets.step(model, optimizer, batch, target)
        counted, count = counted + time.perf_counter() - start, count + 1
        if counted >= 60 * minutes * (len(curve) + 1) / REPORTS:
            curve.append({"step": count, "minutes": counted / 60, "mae": validated(model, held)})
            if curve[-1]["mae"] <= min(point["mae"] for point in curve):
                nets.save_run(folder, family, model, optimizer, step=count, best_val_mae=curve[-1]["mae"])
            if counted - said >= LOGGED:
                study.say(f"{folder.name}: step {count}, {counted / 60:.1f} minutes, mae {curve[-1]['mae']:.3e}")
                said = counted
        if counted >= 60 * minutes:
            break
    best = min(curve, key=lambda point: point["mae"])
    return {
        "trained_minutes": counted / 60,
        "all_minutes": (time.perf_counter() - started) / 60,
        "steps": count,
        "best_step": best["step"],
        "validation": curve,
    }


def run_public(folder: Path, given: dict, tests: dict, about: dict, args) -> dict:
    """Train, convert, test; the result, also in folder/result.json."""
    from dcharge.evaluate import test
    from dcharge.foreign.convert import convert_from

    result_file = folder / "result.json"
    if result_file.is_file():
        study.say(f"{folder.name}: done before (delete {result_file} to repeat it)")
        return json.loads(result_file.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    study.say(f"{folder.name}: {args.minutes:g} minutes")
    training = given["training"]
    train, valid = (Frames(training[key]["systems"]) for key in ("training_data", "validation_data"))
    told = train_public(folder / "run", about["family"], args.deepdft, train, valid, args.minutes)
    frozen = convert_from("deepdft", folder / "run", folder / "frozen.pth")
    reports = {
        name: test([frozen], study.paths(systems), **study.surroundings(systems)) for name, systems in tests.items()
    }
    kept = {name: {key: report[key] for key in ("pooled", "frames")} for name, report in reports.items()}
    result = {**about, "minutes": args.minutes, **told, "threads": study.threads(), "tests": kept}
    study.write_json(result_file, result)
    return result


def run(folder: Path, system: str, who: str, data: study.Data, args) -> dict:
    """One training of one system."""
    given, tests = config(data, system, args.family, False, args)
    given["model"] = {k: v for k, v in given["model"].items() if k not in SIZES}
    about = {"system": system, "family": args.family, "who": who}
    if who == "dcharge":
        return study.run(folder, given, tests, args.minutes, about)
    return run_public(folder, given, tests, about, args)


def table(results: list[dict]) -> str:
    """Markdown: one row per training, NMAE pooled over the test frames and the mean of the frames'."""
    head = ["system", "family", "trained by", "NMAE %", "mean of frames", "steps", "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 3)]
    for r in results:
        pooled = r["tests"]["test"]["pooled"]
        words = [r["system"], r["family"], {"dcharge": "dcharge", "public": "the public loop"}[r["who"]]]
        words += [f"{pooled['nmae_percent']:.3f}", f"{pooled['nmae_percent_frame_mean']:.3f}", str(r["steps"])]
        lines.append("| " + " | ".join([*words, f"{r['trained_minutes']:.2f}"]) + " |")
    threads = " and ".join(sorted({str(r["threads"]) for r in results})) or "0"
    text = "Full grids of unseen frames; of the public loop only forward, backward and Adam count as time; trainings on"
    return "\n".join([f"{text} {threads} thread{'s' * (threads != '1')} ({machine.cpu_model()}).", "", *lines]) + "\n"


def main() -> int:
    """Run what is missing, then write the table of what is there."""
    p = study.parser(__doc__.splitlines()[0], 10.0, HERE.parent / "build" / "deepdft_training")
    p.add_argument("--deepdft", type=Path, metavar="FOLDER", help="checkout of DeepDFT, for the public trainings")
    p.add_argument("--systems", nargs="+", default=["molecules", "water"], metavar="NAME")
    p.add_argument("--family", choices=("painn", "schnet"), default="painn", help="(default: painn)")
    p.add_argument("--who", nargs="+", choices=WHO, default=WHO, help="trainings to do (default: both)")

    def work(args, data, failures):
        for system in study.chosen(args.systems, data.splits):
            for who in args.who:
                if who == "public" and not args.deepdft:
                    p.error("--deepdft FOLDER: a checkout of DeepDFT expected (or --who dcharge)")
                folder = args.out / "runs" / f"{system}-{args.family}-{who}"
                study.attempt(folder, failures, partial(run, folder, system, who, data, args))
        found = [json.loads(path.read_text()) for path in sorted((args.out / "runs").glob("*/result.json"))]
        study.tell(args.out, "deepdft_training", found, table(found))

    return study.conduct(p, work)


if __name__ == "__main__":
    sys.exit(main())
