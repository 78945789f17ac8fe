"""What angular orders are worth: one training per l_max 0..3 and system, at equal steps and at equal time.

    python examples/angular_order/run.py --data DIR [--steps 2000] [--systems si_bulk water molecules] [--out DIR]

DIR holds splits.json and one folder of densities per system (see examples/study.py). Equal time: the steps that an
order takes in the time of --steps steps with l_max 1. The time of a step is measured first, all orders in alternating
rounds, so that a busy machine changes neither the ratio nor the result. Restartable: every finished training is one
JSON file. At the end: angular_order.json and angular_order.md.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

ORDERS, REFERENCE = (0, 1, 2, 3), 1
AXIS = [16, 12, 8, 4]
ROUNDS, STEPS_PER_ROUND, UNTIMED = 9, 6, 4


def model(l_max: int) -> dict:
    """The `model` section of one angular order."""
    descriptor = {"neuron": [20, 40], "l_max": l_max, "gram": "per_l", "axis_neuron": AXIS[: l_max + 1]}
    return {"descriptor": descriptor}


def inputs(data: study.Data, system: str, args) -> tuple[dict[int, dict], dict]:
    """(input per angular order, test sets) of a system."""
    split = data.splits[system]
    train, valid, test = (data.systems(system, split.get(key, [])) for key in ("train", "valid", "test"))
    species = study.Data.type_map([*train, *valid, *test])
    return {k: study.training_input(train, valid, species, study.given(args), model(k)) for k in ORDERS}, {"test": test}


def step_seconds(folder: Path, configs: dict[int, dict]) -> dict[int, float]:
    """Median time of a training step per order, kept in a file."""
    from dcharge.config import normalize
    from dcharge.train import Trainer

    path = folder / "step_seconds.json"
    if path.is_file():
        return {int(k): v for k, v in json.loads(path.read_text()).items()}
    trainers = {k: Trainer(normalize(study.with_keys(c, {"numb_steps": 10**6}))) for k, c in configs.items()}
    times = {k: [] for k in configs}
    for round_ in range(ROUNDS + 1):
        for k, trainer in trainers.items():
            start = time.perf_counter()
            for _ in range(STEPS_PER_ROUND if round_ else UNTIMED):
                trainer.train_step()
            if round_:
                times[k].append((time.perf_counter() - start) / STEPS_PER_ROUND)
    found = {k: statistics.median(t) for k, t in times.items()}
    folder.mkdir(parents=True, exist_ok=True)
    study.write_json(path, found)
    return found


def table(results: list[dict]) -> str:
    """Markdown: NMAE per system and order."""
    head = ["system", "l_max", "ms per step", "NMAE %", "max error", "steps", "NMAE %", "max error"]
    above = ["", "", "", "equal steps", "", "equal time", "", ""]
    lines = ["| " + " | ".join(above) + " |", "|---|" + "---:|" * (len(head) - 1), "| " + " | ".join(head) + " |"]
    rows = {}
    for r in results:
        rows.setdefault((r["system"], r["l_max"]), {})[r["kind"]] = r
    for (system, order), found in sorted(rows.items(), key=lambda item: (item[0][0], item[0][1])):
        cells = [system, str(order), f"{1e3 * next(iter(found.values()))['step_s']:.1f}"]
        for kind in ("steps", "time"):
            r = found.get(kind)
            pooled = r and r["tests"]["test"]["pooled"]
            cells += [str(r["steps"]) if r else "-"] if kind == "time" else []
            cells += [f"{pooled['nmae_percent']:.3f}", f"{pooled['max_error']:.3f}"] if r else ["-", "-"]
        lines.append("| " + " | ".join(cells) + " |")
    note = "Full grids of unseen frames; largest error in e/Angstrom^3; equal time: the time of l_max 1."
    return "\n".join([note, "", *lines]) + "\n"


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write the table."""
    results = []
    for system in study.chosen(args.systems, data.splits):
        configs, tests = inputs(data, system, args)
        seconds = step_seconds(args.out / system, configs)
        for order, config in configs.items():
            for kind in ("steps", "time"):
                steps = args.steps if kind == "steps" else round(args.steps * seconds[REFERENCE] / seconds[order])
                about = {"system": system, "l_max": order, "kind": kind, "step_s": seconds[order]}
                folder = args.out / system / (f"l{order}" if order == REFERENCE else f"l{order}-{kind}")
                call = partial(study.run, folder, config, tests, None, about, steps)
                found = study.attempt(folder, failures, call)
                if found:
                    results.append({**found, "kind": kind})
    study.tell(args.out, "angular_order", results, table(results))


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 0.0, HERE / "results")
    parser.add_argument("--steps", type=int, default=2000, help="steps of the equal-step trainings (default: 2000)")
    parser.add_argument("--systems", nargs="+", default=["si_bulk", "water", "molecules"], metavar="NAME")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
