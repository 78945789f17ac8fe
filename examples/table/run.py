"""One model per system, trained for the same time, tested on full grids of unseen frames, beside the baseline alone.

    python examples/table/run.py --data DIR [--minutes 2] [--systems si_bulk water] [--out DIR]

DIR holds splits.json and one folder of densities per system (see examples/study.py). Beside the systems there are rows
for more training data (si_bulk+extra_train) and for the paper's model to the letter (si_bulk-paper, water-paper).
Restartable: every finished row is one JSON file. At the end: table.json, table.md, and NMAE against minutes of training
(nmae_minutes.csv and .png).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

PAPER_ROWS, CURVES = ("si_bulk", "water"), ("si_bulk", "water")
# pairs are materialised in the exact embedding: small batches, so that enough steps fit
PAPER_SETTINGS = {"batch_size": 512, "start_lr": 1e-3, "ema": 0.0, "loss": "mse"}
COLUMNS = (
    ("nmae_percent", "NMAE %"),
    ("mae", "MAE"),
    ("rmse", "RMSE"),
    ("r2", "R2"),
    ("max_error", "max error"),
    ("max_error_percent", "% of largest"),
    ("electron_error_percent", "electron error %"),
)


def rows(data: study.Data) -> dict[str, dict]:
    """Name of a row -> system, train, valid, tests {set: names}, model, settings, note."""
    out = {}
    for system, split in data.splits.items():
        if "train" in split:
            tests = {key: names for key, names in split.items() if key == "test" or key.endswith("_test")}
            row = {"system": system, "train": split["train"], "valid": split.get("valid", []), "tests": tests}
        elif "geometry" in split:
            part = split["geometry"]
            row = {"system": system, "train": part["train"], "valid": [], "tests": {"test": part["test"]}}
        else:
            study.say(f"{system}: neither train nor geometry in splits.json, left out")
            continue
        free = data.field_free(system, row["train"])
        if len(free) < len(row["train"]):
            # this family does not see the field: the same atoms with two densities would contradict each other
            row["note"] = "frames without field only: Deep Charge does not see it"
            row["train"], row["valid"] = free, data.field_free(system, row["valid"])
            row["tests"] = {key: data.field_free(system, names) for key, names in row["tests"].items()}
        out[system] = row
        if split.get("extra_train"):
            out[f"{system}+extra_train"] = {**row, "train": row["train"] + split["extra_train"]}
        if system in PAPER_ROWS:
            note = "the paper's model to the letter"
            out[f"{system}-paper"] = {**row, "model": study.PAPER, "settings": PAPER_SETTINGS, "note": note}
    return {name: row for name, row in out.items() if row["train"] and any(row["tests"].values())}


def run(name: str, row: dict, data: study.Data, args) -> dict:
    """Train and test one row."""
    train = data.systems(row["system"], row["train"])
    valid = data.systems(row["system"], row["valid"])
    tests = {key: data.systems(row["system"], names) for key, names in row["tests"].items() if names}
    settings = row.get("settings", {}) | study.given(args)
    species = study.Data.type_map([*train, *valid, *(e for entries in tests.values() for e in entries)])
    config = study.training_input(train, valid, species, settings, row.get("model"))
    about = {"name": name, "system": row["system"], "note": row.get("note", "")}
    return study.run(args.out / name, config, tests, args.minutes, about)


def table(results: dict[str, dict]) -> str:
    """Markdown: one line per row and test set, the baseline alone beneath each."""
    head = ["system", "test set", "frames", "minutes", *(label for _, label in COLUMNS)]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    notes = []
    for name, result in results.items():
        if result["note"]:
            notes.append(f"{name}: {result['note']}.")
        for key, test in result["tests"].items():
            first = [name, key, str(len(test["frames"])), study.cell(result["trained_minutes"])]
            for metrics, start in ((test["pooled"], first), (test["baseline"], ["", "baseline alone", "", ""])):
                if metrics is not None:
                    metrics = metrics | {"max_error_percent": 100 * metrics["max_error"] / test["largest_density"]}
                    values = [study.cell(metrics[k], ".5f" if k == "r2" else ".3g") for k, _ in COLUMNS]
                    lines.append("| " + " | ".join([*start, *values]) + " |")
    threads = " and ".join(sorted({str(r["threads"]) for r in results.values()}))
    text = [
        "Full grids of unseen frames; MAE, RMSE and max error in e/Angstrom^3, the last also in % of the largest",
        f"density; minutes of training on {threads} threads.",
        "",
    ]
    return "\n".join([*text, *lines, "", *(f"* {note}" for note in notes)]) + "\n"


def learning_curve(path: Path) -> list[tuple[float, float, float]]:
    """(minutes, NMAE of validation, NMAE of the training batch) from lcurve.out."""
    lines = path.read_text().splitlines()
    names = lines[0].lstrip("#").split()
    where = [names.index(n) for n in ("seconds", "nmae_val", "nmae_trn")]
    values = [[float(words[i]) for i in where] for words in (line.split() for line in lines[1:]) if words]
    return [(s / 60, v, t) for s, v, t in values]


def curves(out: Path, names) -> None:
    """NMAE against minutes of training: CSV and picture."""
    found = {n: learning_curve(out / n / "lcurve.out") for n in names if (out / n / "lcurve.out").is_file()}
    if not found:
        return
    with open(out / "nmae_minutes.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["system", "minutes", "nmae_validation_percent", "nmae_training_batch_percent"])
        writer.writerows([name, *point] for name, points in found.items() for point in points)
    plt = study.pyplot()
    if plt is None:
        return
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, points in found.items():
        ax.plot([p[0] for p in points], [p[1] for p in points], label=name)
    ax.set(xlabel="minutes of training", ylabel="NMAE of the validation frame, %", yscale="log")
    ax.grid(True, which="both", linewidth=0.3)
    ax.legend()
    figure.savefig(out / "nmae_minutes.png", dpi=130)
    plt.close(figure)


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write the table and the curves of all finished rows."""
    todo = rows(data)
    for name in study.chosen(args.systems, todo):
        study.attempt(args.out / name, failures, lambda name=name: run(name, todo[name], data, args))
    results = study.finished(args.out, todo)
    study.tell(args.out, "table", results, table(results))
    curves(args.out, [n for name in CURVES for n in (name, f"{name}-paper") if n in results])


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 2.0, HERE / "results")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="rows to run (default: all)")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
