"""The model families beside each other: equal points, equal time of training, full grids of unseen frames.

    python -m benchmarks.families --data DIR [--minutes 2] [--systems water ...] [--families fireann ...] [--all]

DIR holds splits.json and one folder of densities per system (see examples/study.py). Every family is trained on the
points that one sampler with one seed draws, with the additive baseline and without ("bare"), for equal wall times.
Restartable: every finished training is one JSON file in OUT and is not repeated. At the end families.json, families.md
and families.png (error against cost) in OUT.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))
import study  # noqa: E402

from . import machine  # noqa: E402

SYSTEMS = ("si_bulk", "water", "molecules", "polyethylene")
ROUNDS, LEAST_SECONDS = 4, 20.0  # predictions that are timed at most, and seconds after which two are enough


def config(data: study.Data, system: str, family: str, bare: bool, args) -> tuple[dict, dict]:
    """(input, test sets) of one training."""
    split = data.splits[system]
    free = {key: data.field_free(system, split.get(key, [])) for key in ("train", "valid", "test")}
    train, valid, test = (data.systems(system, free[key]) for key in ("train", "valid", "test"))
    model, settings = study.FAMILIES[family]
    settings = settings | {k: v for k, v in (("points_per_frame", args.points), ("batch_size", args.batch)) if v}
    model = model | ({"baseline": {"type": "none"}} if bare else {})
    species = data.type_map([*train, *valid, *test])
    return study.training_input(train, valid, species, settings, model), {"test": test}


def cost(frozen: Path, entry: dict) -> dict:
    """Trained numbers of a frozen model, and points per second of predicting one frame's whole grid (median)."""
    from dcharge.io import open_system
    from dcharge.predict import load

    predictor, (frame, *_) = load(frozen), open_system(entry["path"], pbc=entry.get("pbc")).frames
    density, seconds = frame.read(), []
    while len(seconds) < ROUNDS and (len(seconds) < 2 or sum(seconds) < LEAST_SECONDS):  # the first one warms up
        start = time.perf_counter()
        predictor.predict(density.structure, like=density)
        seconds.append(time.perf_counter() - start)
    trained = sum(p.numel() for p in predictor.model.parameters())
    return {"parameters": trained, "points_per_s": density.grid.n_points / statistics.median(seconds[1:])}


def name_of(system: str, family: str, bare: bool) -> str:
    """Folder of one training."""
    return f"{system}-{family}{'-bare' if bare else ''}"


def run(system: str, family: str, bare: bool, data: study.Data, args) -> dict:
    """Train, test and time one model, or read what was found before."""
    folder = args.out / "runs" / name_of(system, family, bare)
    given, tests = config(data, system, family, bare, args)
    result = study.run(folder, given, tests, args.minutes, {"system": system, "family": family, "bare": bare})
    if "parameters" not in result:
        result |= cost(folder / "frozen.pth", tests["test"][0])
        study.write_json(folder / "result.json", result)
    return result


def table(results: list[dict]) -> str:
    """Markdown: one row per training."""
    head = ["system", "family", "baseline", "NMAE %", "MAE", "RMSE", "R2", "points/s", "parameters"]
    head += ["training points", "steps", "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 3)]
    for r in results:
        m = r["tests"]["test"]["pooled"]
        words = [r["system"], r["family"], "-" if r["bare"] else "additive", f"{m['nmae_percent']:.3f}"]
        words += [
            f"{m['mae']:.3g}",
            f"{m['rmse']:.3g}",
            f"{m['r2']:.5f}",
            f"{r['points_per_s']:,.0f}".replace(",", " "),
        ]
        words += [f"{r[key]:,}".replace(",", " ") for key in ("parameters", "n_train_points")]
        words += [str(r["steps"]), f"{r['trained_minutes']:.2f}"]
        lines.append("| " + " | ".join(words) + " |")
    threads = " and ".join(sorted({str(r["threads"]) for r in results}))
    text = "Full grids of unseen frames; MAE and RMSE in e/Angstrom^3; training and prediction on"
    return "\n".join([f"{text} {threads} thread{'s' * (threads != '1')} ({machine.cpu_model()}).", "", *lines]) + "\n"


def draw(results: list[dict], path: Path) -> None:
    """Error against microseconds per point, a panel per system."""
    plt = study.pyplot()
    if plt is None or not results:
        return
    systems = list(dict.fromkeys(r["system"] for r in results))
    columns = min(2, len(systems))
    size = (-(-len(systems) // columns), columns)
    figure, axes = plt.subplots(*size, figsize=(4.5 * size[1], 3.6 * size[0]), layout="constrained", squeeze=False)
    for ax, system in zip(axes.flat, systems, strict=False):
        for i, family in enumerate(study.FAMILIES):
            for r in results:
                if (r["system"], r["family"]) == (system, family):
                    at = (1e6 / r["points_per_s"], r["tests"]["test"]["pooled"]["nmae_percent"])
                    label = f"{family}{', bare' if r['bare'] else ''}"
                    ax.plot(*at, "s" if r["bare"] else "o", color=f"C{i}", label=label)
        ax.set(title=system, xlabel="microseconds per point", ylabel="NMAE, %", xscale="log", yscale="log")
        ax.grid(True, which="both", linewidth=0.3)
        ax.legend(fontsize="small")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> int:
    """Run what is missing, then write table and picture."""
    parser = study.parser(__doc__.splitlines()[0], 2.0, HERE.parent / "build" / "families")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, metavar="NAME")
    parser.add_argument("--families", nargs="+", choices=study.FAMILIES, default=list(study.FAMILIES), metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every system of splits.json that has a training set")
    parser.add_argument("--baselines", choices=("both", "with", "without"), default="both")
    args = parser.parse_args()
    data, failures, results = study.Data(args.data), [], []
    systems = [s for s, split in data.splits.items() if "train" in split] if args.all else args.systems
    args.out = args.out.resolve()
    bares = {"both": (False, True), "with": (False,), "without": (True,)}[args.baselines]
    with study.logging(args.out):
        for system in systems:
            if system not in data.splits:
                parser.error(f"'{system}': one of {', '.join(data.splits)} expected")
            for family in args.families:
                for bare in bares:
                    name = name_of(system, family, bare)
                    call = partial(run, system, family, bare, data, args)
                    study.attempt(args.out / "runs" / name, failures, call)
        for path in sorted((args.out / "runs").glob("*/result.json")):
            found = json.loads(path.read_text())
            results += [found] if "parameters" in found else []
        order = {family: i for i, family in enumerate(study.FAMILIES)}
        results.sort(key=lambda r: (r["system"], order[r["family"]], r["bare"]))
        study.write_json(args.out / "families.json", results)
        text = table(results)
        (args.out / "families.md").write_text(text)
        draw(results, args.out / "families.png")
        print(text)
        for reason in failures:
            study.say(f"failed: {reason}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
