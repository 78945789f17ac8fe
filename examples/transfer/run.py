"""Transferability: models trained on one system, tested on others that they have never seen, as in Gong et al. 2019.

    python examples/transfer/run.py --data DIR [--minutes 2] [--cases quartz ...] [--families cgcnn ...]
                                    [--bare] [--counts 1000 4000 16000 [--steps 800]]

DIR as in examples/study.py, with a folder transfer of densities that belong to no split. A model of each family learns
the training frames of a system and predicts its test frames and

    molecules     polyethylene
    si_bulk       amorphous silicon
    quartz        quartz without a silicon atom, cristobalite
    polyethylene  polyethylene without one C and H, trans-polyacetylene

Errors of the density, its gradient and its Laplacian on full grids, as `dcharge test --gradient --laplacian`, and of
every coordination environment, as `dcharge coverage -m`. --bare: without baseline, as in the paper; --counts: trainings
with so many points in all; --steps: of equal steps in place of equal time. Restartable: every finished training is one
JSON file. At the end: transfer.json, transfer.md and transfer.png of all in OUT.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

# case = system of the training frames -> {test set: (folder, split or names of its frames)}, beside the system's own
CASES = {
    "molecules": {"polyethylene": ("polyethylene", "test")},
    "si_bulk": {"a_si": ("a_si", "test")},
    "quartz": {
        "vacancy": ("transfer", ["sio2_vac_00"]),
        "cristobalite": ("transfer", ["cris_00", "cris_01"]),
    },
    "polyethylene": {
        "vacancy": ("transfer", ["pe_vac_00", "pe_vac_01_3000K"]),
        "polyacetylene": ("transfer", ["pa_00"]),
    },
}
NEAR = 0.7  # Angstrom: where the squared error of the Laplacian is counted as "near nuclei"
SHORT = 3.0  # grid spacings: shorter waves are hardly in the references, and jumps of a prediction are mostly there
LEVEL = 0.95  # R2 of all test structures of the paper, density and Laplacian
BLOCK = 100_000  # grid points whose nearest atoms are looked up at once


def name(run: dict) -> str:
    """Folder of a training."""
    words = [run["case"], run["family"], *["bare"] * run["bare"]]
    words += [str(run["points"])] * bool(run["points"]) + [f"{run['steps']}steps"] * bool(run["steps"])
    return "-".join(words)


def label(run: dict) -> str:
    """The family of a training in tables and pictures."""
    return f"{run['family']}{', bare' * run['bare']}"


def test_sets(case: str, data: study.Data) -> dict[str, list]:
    """{set: systems}: the frames of the system's own test split, and those of others."""
    out = {case: data.systems(case, data.splits[case]["test"])}
    for key, (folder, frames) in CASES[case].items():
        out[key] = data.systems(folder, data.splits[folder][frames] if isinstance(frames, str) else frames)
    return out


def train(run: dict, data: study.Data, args) -> dict:
    """One training with its tests."""
    from dcharge.derived import Wanted

    case, split = run["case"], data.splits[run["case"]]
    tests, folder = test_sets(case, data), args.out / "runs" / name(run)
    entries, valid = data.systems(case, split["train"]), data.systems(case, split.get("valid", []))
    model, settings = study.FAMILIES[run["family"]]
    model = model | ({"baseline": {"type": "none"}} if run["bare"] else {})
    settings = settings | study.given(args)
    if run["points"]:
        settings |= {"points_per_frame": -(-run["points"] // len(entries))}
    species = data.type_map([*entries, *valid, *(entry for systems in tests.values() for entry in systems)])
    config = study.training_input(entries, valid, species, settings, model)
    # a cluster network has no exact vacuum, which Fourier derivatives of an isolated molecule need
    derive = {key: Wanted(gradient=True, laplacian=True) for key in tests if periodic(tests[key])}
    minutes = None if args.steps else args.minutes
    result = study.run(folder, config, tests, minutes, run, steps=args.steps, derive=derive, detail=True)
    if "coverage" not in result:
        result["coverage"] = {key: covered(folder, key, entries, tests[key], result["tests"][key]) for key in tests}
        study.write_json(folder / "result.json", result)
    for density in folder.glob("*.npz"):  # of the tests; what follows from them is known now
        density.unlink()
    return result


def periodic(systems: list[dict]) -> bool:
    """Whether all frames are periodic along all axes."""
    from dcharge.dataset import system_frames

    return all(frame.structure.pbc.all() for frame in system_frames(systems, "test"))


def covered(folder: Path, key: str, entries: list[dict], systems: list[dict], tested: dict) -> dict:
    """Coverage of a test set by the training frames, with the errors of the densities that its test has written.

    The JSON of `dcharge coverage`; of the Laplacian (None without) "near_percent", the share (%) of its squared error
    within NEAR of a nucleus, "short_percent", that of waves shorter than SHORT, "short_reference_percent", what of the
    reference's squares they are, and "long_r2", R2 without these waves. Also folder/coverage-<key>.png.
    """
    from dcharge.coverage import BONDED, Coverage, Seen, add_errors, environments, write
    from dcharge.dataset import system_frames
    from dcharge.evaluate import detail_path
    from dcharge.io import read_structures

    found, squares, written = Coverage(Seen(), Seen(), BONDED), np.zeros(5), set()
    for entry in entries:
        for _, structure in read_structures(entry["path"], pbc=entry.get("pbc")):
            found.train.add(structure, environments(structure))
    for frame, known in zip(system_frames(systems, "test"), tested["frames"], strict=True):
        reference, around = frame.read(), environments(frame.structure)
        with np.load(detail_path(folder / key, known["name"], written)) as file:
            predicted = file["predicted"].astype(np.float64)
        found.test.add(reference.structure, around)
        parts = np.array_split(np.arange(reference.grid.n_points), -(-reference.grid.n_points // BLOCK))
        tiles = [(index, predicted.reshape(1, -1)[:, index]) for index in parts]
        add_errors(found.errors, reference, around, tiles)
        if "derived" in tested:
            squares += laplacian_squares(reference, predicted, parts)
    for line in found.table():
        study.say(line)
    if study.pyplot():
        write(found, folder / f"coverage-{key}.png")
    near, short, whole, short_reference, reference = squares.tolist()
    waves = (
        {
            "near_percent": 100 * near / whole,
            "short_percent": 100 * short / whole,
            "short_reference_percent": 100 * short_reference / reference,
            "long_r2": 1 - (whole - short) / (reference - short_reference),
        }
        if whole
        else dict.fromkeys(("near_percent", "short_percent", "short_reference_percent", "long_r2"))
    )
    return found.as_json() | waves


def laplacian_squares(reference, predicted, parts) -> np.ndarray:
    """Squares of a frame's Laplacian [5]: of the error near nuclei, in short waves, all; of the reference short, all.

    predicted # [1, n1, n2, n3] e/Angstrom^3; parts: indices of all points in blocks. Near is within NEAR of a nucleus;
    short waves have less than SHORT grid spacings along an axis.
    """
    from dcharge.analysis.differential import gradient_and_laplacian
    from dcharge.nuclei import Nuclei

    grid, nuclei = reference.grid, Nuclei(reference.structure)
    truth, found = (
        gradient_and_laplacian(density, ("laplacian",))["laplacian"]
        for density in (reference, replace(reference, values=predicted))
    )
    square = (found - truth).ravel() ** 2
    near = np.concatenate([nuclei.nearest(grid.points(index))[0] < NEAR for index in parts])
    frequency = np.meshgrid(*map(np.fft.fftfreq, grid.shape), indexing="ij", sparse=True)
    short = np.maximum.reduce(np.broadcast_arrays(*map(np.abs, frequency))) > 1 / SHORT
    # Parseval: the sum over waves is that over points
    error, reference = (np.abs(np.fft.fftn(x)) ** 2 / grid.n_points for x in (found - truth, truth))
    sums = [square[near].sum(), error[short].sum(), square.sum(), reference[short].sum(), reference.sum()]
    return grid.dv * np.array(sums)


def table(results: list[dict]) -> str:
    """Markdown: errors of every test set, the baseline alone beneath, then those of the environments."""
    head = ["trained on", "test set", "family", "points", "NMAE %", "RMSE", "R2", "R2 grad", "RMSE Lap", "R2 Lap"]
    head += ["long waves", "short waves %", "near nuclei %", "absent %", "steps", "minutes"]
    lines = [
        "Full grids of unseen frames. RMSE in e/Angstrom^3, of the Laplacian in e/Angstrom^5; R2 = 1 - SSE/SST, bold "
        f"below {LEVEL:g}; long waves: R2 of the Laplacian without waves shorter than {SHORT:g} grid spacings; short "
        "waves: their share of its squared error / of the reference's squares; near nuclei: share of the squared "
        f"error within {NEAR:g} Angstrom of one; absent: atoms in environments that no training frame has.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|---|---|" + "---:|" * (len(head) - 3),
    ]
    for r in results:
        for key, test in r["tests"].items():
            first = [r["case"], "own test frames" if key == r["case"] else key, label(r), str(r["n_train_points"])]
            more = r["coverage"][key]
            shares = " / ".join(study.cell(more[f"short_{word}percent"], ".0f") for word in ("", "reference_"))
            last = [squared(more["long_r2"]), shares, study.cell(more["near_percent"], ".0f")]
            last += [study.cell(more["absent_percent"], ".1f"), str(r["steps"]), f"{r['trained_minutes']:.2g}"]
            derived = test.get("derived", {})
            lines.append(row(first, test["pooled"], derived, last))
            if test["baseline"]:
                first = ["", "", "baseline alone", ""]
                lines.append(row(first, test["baseline"], derived.get("baseline") or {}, [""] * 6))
    return "\n".join([*lines, "", *environments_table(results)]) + "\n"


def row(first: list[str], pooled: dict, derived: dict, last: list[str]) -> str:
    """One line of the first table."""
    words = [study.cell(pooled["nmae_percent"], ".2f"), study.cell(pooled["rmse"], ".4f"), squared(pooled["r2"])]
    gradient, laplacian = (derived.get(what, {}) for what in ("gradient", "laplacian"))
    words += [squared(gradient.get("r2")), study.cell(laplacian.get("rmse"), ".3f"), squared(laplacian.get("r2"))]
    return "| " + " | ".join([*first, *words, *last]) + " |"


def squared(r2: float | None) -> str:
    """R2 with four digits, bold below the paper's level."""
    text = study.cell(r2, ".4f")
    return f"**{text}**" if r2 is not None and r2 < LEVEL else text


def environments_table(results: list[dict]) -> list[str]:
    """Markdown: NMAE of the points nearest to atoms of an environment, for the other sets, a column per family."""
    families = list(dict.fromkeys(map(label, results)))
    lines = ["NMAE (%) of the points nearest to atoms of an environment, and its share of the NMAE of all points.", ""]
    head = ["trained on", "test set", "atom", "in training %", "in test %"]
    head += [f"{family}{word}" for family in families for word in ("", ", share")]
    lines += ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 3)]
    best = most_points(results)
    for case in dict.fromkeys(r["case"] for r in results):
        for key in CASES[case]:
            found: dict[tuple, list[str]] = {}
            for family in families:
                r = best.get((case, family))
                for symbol, rows in r["coverage"][key]["species"].items() if r else ():
                    for e in (e for e in rows if e["test"]):
                        atom = f"{symbol} {e['environment']}" + (" (absent)" if e["absent_from_training"] else "")
                        shares = [study.cell(e[k], ".1f") for k in ("train_percent", "test_percent")]
                        cells = found.setdefault((atom, *shares), ["-", "-"] * len(families))
                        at = 2 * families.index(family)
                        cells[at : at + 2] = [study.cell(e[k], ".2f") for k in ("nmae_percent", "nmae_share_percent")]
            lines += ["| " + " | ".join([case, key, *first, *cells]) + " |" for first, cells in found.items()]
    return lines


def most_points(results: list[dict]) -> dict[tuple, dict]:
    """{(case, label): the training with the most points}"""
    out: dict[tuple, dict] = {}
    for r in sorted(results, key=lambda r: r["n_train_points"]):
        out[r["case"], label(r)] = r
    return out


def draw(results: list[dict], path: Path) -> None:
    """1 - R2 of density and Laplacian of every test set; NMAE against training points where there are several."""
    plt = study.pyplot()
    if plt is None or not results:
        return
    best, curves = most_points(results), several(results)
    families = list(dict.fromkeys(map(label, results)))
    sets = [(case, key) for case in CASES for key in (case, *CASES[case]) if any(c == case for c, _ in best)]
    columns = 2 + bool(curves)
    size = (4.2 * columns, max(2.6, 0.34 * len(sets) + 1.1))
    figure, axes = plt.subplots(1, columns, figsize=size, layout="constrained")
    for ax, what in zip(axes, ("density", "laplacian"), strict=False):
        for (case, family), r in best.items():
            height, colour = [sets.index((case, key)) for key in r["tests"]], f"C{families.index(family)}"
            tests = r["tests"].values()
            ax.plot([lost(test, what) for test in tests], height, "o", color=colour, label=family)
            if not r["bare"]:
                base = [lost(test, what, "baseline") for test in tests]
                ax.plot(base, height, "x", color=colour, alpha=0.5, label=f"{family}, baseline alone")
        ax.axvline(1 - LEVEL, color="black", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel=f"1 - R2 of the {'Laplacian' if what == 'laplacian' else what}")
        ax.xaxis.set_minor_formatter("")
        ax.set_yticks(range(len(sets)), [c if c == k else f"{c} → {k}" for c, k in sets])
        ax.set_ylim(len(sets) - 0.5, -0.5)
        ax.grid(True, axis="x", which="both", linewidth=0.3)
    axes[1].tick_params(labelleft=False)
    handles, labels = axes[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes[0].legend(once.values(), once.keys(), fontsize="x-small")
    for (case, family), rs in curves.items():
        for k, key in enumerate(rs[0]["tests"]):
            line = [(r["n_train_points"], r["tests"][key]["pooled"]["nmae_percent"]) for r in rs]
            words = f"{case} → {key}, {family}" if key != case else f"{case}, {family}"
            axes[2].plot(*zip(*line, strict=True), "os^v"[k % 4] + "-", label=words)
    if curves:
        axes[2].set(xlabel="training points", ylabel="NMAE, %", xscale="log", yscale="log")
        axes[2].grid(True, which="both", linewidth=0.3)
        axes[2].legend(fontsize="x-small")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def lost(test: dict, what: str, who: str = "pooled") -> float:
    """1 - R2 of a test's "density" or "laplacian", of the model or the "baseline"; nan where it is not known."""
    if what == "density":
        found = test[who]
    else:
        derived = test.get("derived", {})
        found = ((derived.get("baseline") or {}) if who == "baseline" else derived).get(what)
    return 1 - found["r2"] if found else float("nan")


def several(results: list[dict]) -> dict[tuple, list[dict]]:
    """{(case, label): trainings of --counts by number of points} where there are at least two."""
    out: dict[tuple, list[dict]] = {}
    for r in sorted((r for r in results if r["points"]), key=lambda r: r["n_train_points"]):
        out.setdefault((r["case"], label(r)), []).append(r)
    return {key: rs for key, rs in out.items() if len(rs) > 1}


def all_results(out: Path) -> list[dict]:
    """All finished trainings in a folder, by case, family and number of points."""
    found = [json.loads(path.read_text()) for path in (out / "runs").glob("*/result.json")]
    cases, families = list(CASES), list(study.FAMILIES)
    found = [r for r in found if "coverage" in r]
    order = {"case": cases, "family": families, "bare": [False, True]}
    return sorted(found, key=lambda r: (*(known.index(r[key]) for key, known in order.items()), r["n_train_points"]))


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write tables and picture."""
    for case in study.chosen(args.cases, CASES):
        if case not in data.splits:
            raise SystemExit(f"{case}: not in {data.folder / 'splits.json'}; --cases chooses others")
        for family in args.families:
            for points in args.counts or [0]:
                run = {"case": case, "family": family, "bare": args.bare, "points": points, "steps": args.steps}
                study.attempt(args.out / "runs" / name(run), failures, partial(train, run, data, args))
    results = all_results(args.out)
    study.tell(args.out, "transfer", results, table(results))
    draw(results, args.out / "transfer.png")


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 2.0, HERE / "results")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--families", nargs="+", choices=study.FAMILIES, default=["cgcnn"], metavar="NAME")
    parser.add_argument("--bare", action="store_true", help="without baseline, as in the paper")
    parser.add_argument(
        "--counts", nargs="+", type=int, metavar="N", help="trainings with so many points in all, instead of --points"
    )
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="so many steps instead of minutes")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
