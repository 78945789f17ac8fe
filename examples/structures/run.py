"""Error against the number of training structures, for several model families: equal time for every training.

    python examples/structures/run.py --data DIR [--minutes 2] [--systems molecules] [--families painn schnet]
                                      [--structures 4 16 60]

DIR holds splits.json and one folder of densities per system (see examples/study.py). The smaller sets are parts of the
larger ones: training frames in random order, but first those that bring a species not seen before, for no model can
know a species that it never saw. NMAE on full grids of all test frames. Restartable: every finished training is one
JSON file. At the end: structures.json, structures.md and structures.png.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

NUMBERS = (4, 16, 60)
SEED = 1  # of the order of the training frames


def ordered(entries: list[dict]) -> list[dict]:
    """Systems in random order, those first that bring a species not seen before."""
    from dcharge.dataset import system_frames

    shuffled = [entries[i] for i in np.random.default_rng(SEED).permutation(len(entries))]
    seen, first, rest = set(), [], []
    for entry in shuffled:
        species = {int(z) for frame in system_frames([entry], "train") for z in frame.structure.numbers}
        (rest if species <= seen else first).append(entry)
        seen |= species
    return first + rest


def plan(data: study.Data, args) -> list[dict]:
    """All trainings: system, family, number of structures."""
    runs = []
    for system in study.chosen(args.systems, [s for s, split in data.splits.items() if "train" in split]):
        available = len(data.splits[system]["train"])
        for n in sorted({min(n, available) for n in args.structures}):
            runs += [{"system": system, "family": family, "structures": n} for family in args.families]
    return runs


def train(run: dict, entries: list[dict], data: study.Data, args) -> dict:
    """One point of a curve; entries: the system's training frames in their order."""
    split = data.splits[run["system"]]
    valid, test = (data.systems(run["system"], split.get(key, [])) for key in ("valid", "test"))
    model, settings = study.FAMILIES[run["family"]]
    # all species of the system: the model is the same for any number of structures
    species = data.type_map([*entries, *valid, *test])
    frames = min(settings.get("frames_per_batch", 0), run["structures"])
    settings = settings | {"frames_per_batch": frames} | study.given(args)
    config = study.training_input(entries[: run["structures"]], valid, species, settings, model)
    return study.run(args.out / "runs" / name(run), config, {"test": test}, args.minutes, run)


def name(run: dict) -> str:
    """Folder of a training."""
    return f"{run['system']}-{run['family']}-{run['structures']}"


def table(results: list[dict]) -> str:
    """Markdown: NMAE of every family, and of the baseline alone, against the number of structures."""
    families = list(dict.fromkeys(r["family"] for r in results))
    lines = [
        "NMAE (%) on full grids of unseen frames, against the number of training structures.",
        "",
        "| system | structures | " + " | ".join(families) + " | baseline alone | minutes |",
        "|---|---:|" + "---:|" * (len(families) + 2),
    ]
    for system, n in dict.fromkeys((r["system"], r["structures"]) for r in results):
        row = {r["family"]: r for r in results if (r["system"], r["structures"]) == (system, n)}
        cells = [f"{row[f]['tests']['test']['pooled']['nmae_percent']:.3f}" if f in row else "-" for f in families]
        base = next(iter(row.values()))["tests"]["test"]["baseline"]
        cells.append("-" if base is None else f"{base['nmae_percent']:.3f}")
        cells.append(" / ".join(f"{r['trained_minutes']:.2g}" for r in row.values()))
        lines.append(f"| {system} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(results: list[dict], path: Path) -> None:
    """One picture: a panel per system, a curve per family."""
    plt = study.pyplot()
    if plt is None or not results:
        return
    systems = list(dict.fromkeys(r["system"] for r in results))
    figure, axes = plt.subplots(1, len(systems), figsize=(4.5 * len(systems), 3.6), layout="constrained", squeeze=False)
    for ax, system in zip(axes[0], systems, strict=True):
        mine = [r for r in results if r["system"] == system]
        for family in dict.fromkeys(r["family"] for r in mine):
            curve = [
                (r["structures"], r["tests"]["test"]["pooled"]["nmae_percent"]) for r in mine if r["family"] == family
            ]
            ax.plot(*zip(*sorted(curve), strict=True), "o-", label=family)
        ax.set(title=system, xlabel="training structures", ylabel="NMAE, %", xscale="log", yscale="log")
        ax.grid(True, which="both", linewidth=0.3)
    axes[0, 0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write table and picture."""
    runs, orders = plan(data, args), {}
    study.say(f"{len(runs)} trainings of {args.minutes:g} minutes")
    for run in runs:
        system = run["system"]
        if system not in orders:
            orders[system] = ordered(data.systems(system, data.splits[system]["train"]))
        study.attempt(args.out / "runs" / name(run), failures, partial(train, run, orders[system], data, args))
    results = list(study.finished(args.out / "runs", map(name, runs)).values())
    study.tell(args.out, "structures", results, table(results))
    draw(results, args.out / "structures.png")


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 2.0, HERE / "results")
    parser.add_argument("--systems", nargs="+", default=["molecules"], metavar="NAME")
    parser.add_argument("--families", nargs="+", choices=study.FAMILIES, default=["painn", "schnet"])
    parser.add_argument("--structures", nargs="+", type=int, default=NUMBERS, metavar="N", help="numbers of structures")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
