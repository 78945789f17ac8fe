"""Learning curves as in the Deep Charge paper's figures, a line profile and the distribution of errors.

    python examples/learning_curves/run.py --data DIR [--minutes 1] [--systems si_bulk almg] [--out DIR]

MAE on the full grid of the first test frame against the number of training points, one structure against three
(si_bulk, al_surface), and against the number of structures (almg, a_si, water). DIR as in examples/study.py.
The additive baseline and the standardisation see up to 50000 points of the same structures whatever the number.
Restartable: every training is one JSON file in OUT/runs. At the end: points.png, structures.png, curves.csv and, for
the largest training of every system, line profile and cumulative distribution of absolute errors (.csv and .png).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

BY_POINTS, BY_STRUCTURES = ("si_bulk", "al_surface"), ("almg", "a_si", "water")
COUNTS, STRUCTURES = (1_000, 3_000, 10_000, 30_000, 100_000), (1, 3)
POINTS_PER_STRUCTURE = 20_000
QUANTILES = np.concatenate([np.linspace(0.0, 0.99, 100), [0.995, 0.999, 0.9999, 1.0]])


def plan(splits: dict, args) -> list[dict]:
    """All trainings: system, number of structures, points of each structure, which curve they belong to."""
    runs = []
    for system in BY_POINTS:
        available = len(splits.get(system, {}).get("train", []))
        for n_frames in sorted({min(n, available) for n in STRUCTURES if available}):
            for n in args.counts:
                each = -(-n // n_frames)
                runs.append({"curve": "points", "system": system, "structures": n_frames, "points": n, "each": each})
    for system in BY_STRUCTURES:
        each = args.points or POINTS_PER_STRUCTURE
        for n in range(1, len(splits.get(system, {}).get("train", [])) + 1):
            runs.append({"curve": "structures", "system": system, "structures": n, "points": n * each, "each": each})
    for run in runs:
        run["name"] = f"{run['system']}-{run['structures']}x{run['each']}"
    return [run for run in runs if args.systems is None or run["system"] in args.systems]


def train(run: dict, data: study.Data, args) -> dict:
    """One point of a curve."""
    system, split = run["system"], data.splits[run["system"]]
    frames = data.systems(system, split["train"][: run["structures"]])
    valid, test = data.systems(system, split.get("valid", [])), data.systems(system, split["test"][:1])
    settings = {"points_per_frame": run["each"]} | ({"batch_size": args.batch} if args.batch else {})
    # all species of the system: the model is the same for any number of structures
    everything = data.systems(system, [*split["train"], *split["test"]])
    config = study.training_input(frames, valid, study.Data.type_map([*everything, *valid]), settings)
    return study.run(args.out / "runs" / run["name"], config, {"test": test}, args.minutes, run)


def detail(folder: Path, entry: dict) -> None:
    """profile.csv and errors.csv of a finished training on one test frame."""
    from dcharge.dataset import system_frames
    from dcharge.evaluate import compare
    from dcharge.predict import load

    if (folder / "errors.csv").is_file():
        return
    reference = system_frames([entry], "test")[0].read()
    predictor = load(folder / "frozen.pth")
    _, _, values = compare(predictor, reference, keep=True)
    truth, predicted = reference.total, values.reshape(reference.grid.shape)
    # along the longest cell vector, the grid line with the most electrons: it passes through atoms and bonds
    axis = int(np.linalg.norm(reference.grid.cell, axis=1).argmax())
    flat = np.moveaxis(truth, axis, -1).reshape(-1, truth.shape[axis])
    row = int(np.abs(flat).sum(1).argmax())
    line = np.moveaxis(predicted, axis, -1).reshape(flat.shape)[row]
    x = np.arange(len(line)) * np.linalg.norm(reference.grid.steps[axis])
    table(folder / "profile.csv", ["angstrom", "reference", "model"], zip(x, flat[row], line, strict=True))
    errors = np.quantile(np.abs(predicted.astype(np.float64) - truth), QUANTILES)
    table(folder / "errors.csv", ["share_of_points", "error_below"], zip(QUANTILES, errors, strict=True))


def table(path: Path, header: list[str], rows) -> None:
    """A CSV file, under a temporary name first."""
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows([f"{v:.8g}" if isinstance(v, float) else v for v in row] for row in rows)
    temporary.replace(path)


def label(system: str, n: int) -> str:
    """Name of a curve against the number of points."""
    return f"{system}, {n} structure" + "s" * (n > 1)


def curves(results: list[dict], kind: str) -> dict[str, list[tuple[float, float]]]:
    """{label: [(number of points or structures, MAE)]} of one kind of curve."""
    out: dict[str, list[tuple[float, float]]] = {}
    for r in results:
        if r["curve"] == kind:
            name = label(r["system"], r["structures"]) if kind == "points" else r["system"]
            x = r["n_train_points"] if kind == "points" else r["structures"]
            out.setdefault(name, []).append((x, r["tests"]["test"]["pooled"]["mae"]))
    return {name: sorted(points) for name, points in out.items()}


def best(results: list[dict]) -> dict[str, dict]:
    """The training with the most points (then structures) of every system."""
    out: dict[str, dict] = {}
    for r in results:
        size = (r["n_train_points"], r["structures"])
        held = out.get(r["system"])
        if held is None or size > (held["n_train_points"], held["structures"]):
            out[r["system"]] = r
    return out


def columns(path: Path) -> np.ndarray:
    """Columns [n_columns, n_rows] of a CSV file with a header."""
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2).T


def draw(results: list[dict], out: Path) -> None:
    """All pictures."""
    plt = study.pyplot()
    if plt is None:
        return
    for kind, words in (("points", "training points"), ("structures", "training structures")):
        found = curves(results, kind)
        if not found:
            continue
        figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
        for name, points in found.items():
            ax.plot(*zip(*points, strict=True), "o-", label=name)
        ax.set(xlabel=words, ylabel="MAE on the test grid, e/Å³", yscale="log")
        if kind == "points":
            ax.set_xscale("log")
        else:
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(True, which="both", linewidth=0.3)
        ax.legend()
        figure.savefig(out / f"{kind}.png", dpi=130)
        plt.close(figure)
    chosen = {s: out / "runs" / r["name"] for s, r in best(results).items()}
    chosen = {s: folder for s, folder in chosen.items() if (folder / "errors.csv").is_file()}
    if not chosen:
        return
    figure, axes = plt.subplots(len(chosen), 1, figsize=(7, 2.4 * len(chosen)), layout="constrained", squeeze=False)
    for ax, (system, folder) in zip(axes[:, 0], chosen.items(), strict=True):
        x, truth, model = columns(folder / "profile.csv")
        ax.plot(x, truth, "k-", linewidth=2, label="reference")
        ax.plot(x, model, "C1--", label="model")
        ax.set(title=system, xlabel="Å along a grid line", ylabel="e/Å³")
    axes[0, 0].legend()
    figure.savefig(out / "profile.png", dpi=130)
    plt.close(figure)
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for system, folder in chosen.items():
        share, error = columns(folder / "errors.csv")
        ax.plot(np.maximum(error, 1e-7), 100 * share, label=system)
    ax.set(xlabel="absolute error, e/Å³", ylabel="points with a smaller error, %", xscale="log")
    ax.grid(True, which="both", linewidth=0.3)
    ax.legend()
    figure.savefig(out / "errors.png", dpi=130)
    plt.close(figure)


def summarise(runs: list[dict], data: study.Data, out: Path, failures: list) -> None:
    """curves.csv, details of the largest trainings and the pictures, from all that is finished."""
    results = list(study.finished(out / "runs", [run["name"] for run in runs]).values())
    header = ["curve", "system", "structures", "points", "minutes", "steps", "mae", "nmae_percent", "baseline_mae"]
    rows = []
    for r in results:
        test = r["tests"]["test"]
        rows.append(
            [r["curve"], r["system"], r["structures"], r["n_train_points"], r["trained_minutes"], r["steps"]]
            + [test["pooled"]["mae"], test["pooled"]["nmae_percent"], (test["baseline"] or {}).get("mae", "")]
        )
    table(out / "curves.csv", header, rows)
    for system, r in best(results).items():
        folder = out / "runs" / r["name"]
        entry = data.systems(system, data.splits[system]["test"][:1])[0]
        study.attempt(folder, failures, lambda folder=folder, entry=entry: detail(folder, entry))
    draw(results, out)
    study.say(f"{len(results)} of {len(runs)} trainings done: {out}")


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write curves and pictures."""
    runs = plan(data.splits, args)
    study.say(f"{len(runs)} trainings of {args.minutes:g} minutes")
    for run in runs:
        study.attempt(args.out / "runs" / run["name"], failures, lambda run=run: train(run, data, args))
    summarise(runs, data, args.out, failures)


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 1.0, HERE / "results")
    parser.add_argument("--systems", nargs="+", metavar="NAME", choices=[*BY_POINTS, *BY_STRUCTURES])
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, metavar="N", help="numbers of training points")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
