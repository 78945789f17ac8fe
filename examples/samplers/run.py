"""Error against the number of training points per frame: random, targeted (TS), TS with independent features (LIFS).

    python examples/samplers/run.py --data DIR [--minutes 2] [--systems molecules water] [--family deep_charge]

DIR holds splits.json and one folder of densities per system (see examples/study.py). NMAE on the full grids of unseen
frames after equal times. Baseline and standardisation see up to 50000 points of the same frames whatever the sampler;
--no-baseline leaves out the baseline. Restartable: every finished training is one JSON file. At the end: samplers.json,
samplers.md and samplers.png.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

SAMPLERS = {"random": "random", "targeted": "TS", "independent": "TS + LIFS"}
COUNTS = (10, 100, 1000)
CANDIDATES = 5  # for every point that LIFS keeps, and at least as many as below
LEAST_CANDIDATES = 2000


def sampler(kind: str, points: int, cycles: int) -> dict:
    """The `training/sampler` section of one training."""
    if kind != "independent":
        return {"type": kind, "points_per_frame": points}
    candidates = {"type": "targeted", "points_per_frame": max(LEAST_CANDIDATES, CANDIDATES * points)}
    # more points than features need further rounds
    return {"type": kind, "points_per_frame": points, "rounds": 100, "cycles": cycles, "candidates": candidates}


def config(data: study.Data, system: str, kind: str, points: int, args) -> tuple[dict, dict]:
    """(input, test sets) of one training."""
    split = data.splits[system]
    train, valid, test = (data.systems(system, split.get(key, [])) for key in ("train", "valid", "test"))
    model, settings = study.FAMILIES[args.family]
    settings = settings | ({"batch_size": args.batch} if args.batch else {})
    model = model | ({"baseline": {"type": "none"}} if args.no_baseline else {})
    species = data.type_map([*train, *valid, *test])
    out = study.training_input(train, valid, species, settings, model)
    out["training"]["sampler"] = sampler(kind, points, min(args.cycles, points))
    return out, {"test": test}


def table(results: list[dict]) -> str:
    """Markdown: NMAE per system and number of points."""
    cells = {(r["system"], r["points"], r["sampler"]): r["tests"]["test"]["pooled"]["nmae_percent"] for r in results}
    lines = [
        "NMAE (%) on full grids of unseen frames, against training points per frame.",
        "",
        "| system | points | " + " | ".join(SAMPLERS.values()) + " | baseline alone |",
        "|---|---:|" + "---:|" * (len(SAMPLERS) + 1),
    ]
    for system, points in dict.fromkeys((r["system"], r["points"]) for r in results):
        found = [cells.get((system, points, kind)) for kind in SAMPLERS]
        base = [r["tests"]["test"]["baseline"] for r in results if (r["system"], r["points"]) == (system, points)][0]
        found.append(base and base["nmae_percent"])
        words = " | ".join("-" if v is None else f"{v:.3f}" for v in found)
        lines.append(f"| {system} | {points} | {words} |")
    return "\n".join(lines) + "\n"


def draw(results: list[dict], path: Path) -> None:
    """One picture: a panel per system, a curve per sampler."""
    plt = study.pyplot()
    if plt is None or not results:
        return
    systems = list(dict.fromkeys(r["system"] for r in results))
    figure, axes = plt.subplots(1, len(systems), figsize=(4.5 * len(systems), 3.6), layout="constrained", squeeze=False)
    for ax, system in zip(axes[0], systems, strict=True):
        for kind, label in SAMPLERS.items():
            curve = sorted(
                (r["n_train_points"] / r["n_train_frames"], r["tests"]["test"]["pooled"]["nmae_percent"])
                for r in results
                if (r["system"], r["sampler"]) == (system, kind)
            )
            if curve:
                ax.plot(*zip(*curve, strict=True), "o-", label=label)
        ax.set(title=system, xlabel="training points per frame", ylabel="NMAE, %", xscale="log", yscale="log")
        ax.grid(True, which="both", linewidth=0.3)
    axes[0, 0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write table and picture."""
    results = []
    for system in study.chosen(args.systems, data.splits):
        for points in [args.points] if args.points else args.counts:
            for kind in SAMPLERS:
                given, tests = config(data, system, kind, points, args)
                about = {"system": system, "family": args.family, "sampler": kind, "points": points}
                name = f"{system}-{args.family}{'-bare' if args.no_baseline else ''}-{kind}"
                name += f"-{args.cycles}x" * (kind == "independent" and args.cycles > 1) + f"-{points}"
                folder = args.out / "runs" / name
                call = partial(study.run, folder, given, tests, args.minutes, about)
                found = study.attempt(folder, failures, call)
                results += [found] if found else []
    study.tell(args.out, "samplers", results, table(results))
    draw(results, args.out / "samplers.png")


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 2.0, HERE / "results")
    parser.add_argument("--systems", nargs="+", default=["molecules", "water"], metavar="NAME")
    parser.add_argument("--family", choices=study.FAMILIES, default="deep_charge", help="(default: deep_charge)")
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, metavar="N", help="points of every frame")
    parser.add_argument("--cycles", type=int, default=1, metavar="N", help="of sampling and training with LIFS")
    parser.add_argument("--no-baseline", action="store_true", help="the network learns the whole density")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
