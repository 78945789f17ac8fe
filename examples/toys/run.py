"""Does a bent molecule of another element teach the bend? The toy experiments of Gong et al. 2019 (Fig. 7).

    python examples/toys/run.py --data DIR [--elements O B N F] [--family cgcnn]

DIR holds splits.json and the folder toys with C-X-C molecules, CXC_lin and CXC_bent (see examples/study.py). Networks
learn the density within 4 Angstrom of a molecule and are asked for that of the bent C-C-C, which none has seen:

    linear C-C-C;   bent C-X-C;   both, half of the points each;   control: linear C-X-C in place of the bent one

Three seeds (points, weights, batches). Restartable: every finished training is one JSON file. At the end: toys.json and
toys.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

WITHIN = 4.0  # Angstrom of an atom: the cutoff of the network
TEST, TEST_POINTS = ("C", "bent"), 6000
# training set -> (middle atom, shape) of its molecules; X stands for the other element
SETS = {
    "linear C-C-C": [("C", "lin")],
    "bent C-X-C": [("X", "bent")],
    "linear C-C-C + bent C-X-C": [("C", "lin"), ("X", "bent")],
    "linear C-X-C": [("X", "lin")],
    "linear C-C-C + linear C-X-C": [("C", "lin"), ("X", "lin")],
}
SINGLE, BENT, BOTH, STRAIGHT, CONTROL = SETS
# chosen on held-out points of the training molecules
SETTINGS = {"batch_size": 256, "start_lr": 1e-3, "stop_lr": 1e-5, "ema": 0.9, "loss": "mae"}


def points(data: study.Data, out: Path, middle: str, shape: str, n: int, seed: int) -> dict:
    """Point data of n random grid points near a molecule, made where they are not there yet; an entry for `systems`."""
    import numpy as np

    import dcharge
    from dcharge.density import PointDensity

    name = f"C{middle}C_{shape}"
    folder = out / "points" / f"{name}-{n}-{seed}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        (entry,) = data.systems("toys", [name])
        rho = dcharge.read(entry["path"], pbc=[0, 0, 0])
        place = rho.points()
        distance = np.linalg.norm(place[:, None] - rho.structure.positions, axis=2).min(1)
        near = np.flatnonzero(distance < WITHIN)
        index = np.sort(np.random.default_rng(seed).choice(near, min(n, len(near)), replace=False))
        dcharge.write(PointDensity(rho.structure, place[index], rho.values_at(index)), folder)
    return {"path": str(folder), "pbc": [0, 0, 0]}


def config(data: study.Data, args, element: str, molecules, seed: int) -> tuple[dict, dict]:
    """(input, test sets) of one training."""
    middles = [(element if middle == "X" else middle, shape) for middle, shape in molecules]
    share = args.points // len(middles)
    train = [points(data, args.out, *molecule, share, seed) for molecule in middles]
    test = [points(data, args.out, *TEST, TEST_POINTS, 0)]
    settings = SETTINGS | {"seed": seed, "points_per_frame": share, "sampler": "random"}
    model = {**study.FAMILIES[args.family][0], "baseline": {"type": "none"}}
    species = sorted({"C", *(middle for middle, _ in middles)})
    out = study.training_input(train, [], species, settings, model)
    out["training"]["validation_data"] = {"fraction": 0.1}
    return out, {"bent C-C-C": test}


def table(results: list[dict]) -> str:
    """Markdown: error on the bent C-C-C for every training set, and in how many seeds it fell."""
    lines = [
        "Mean absolute error (e/Angstrom^3) within 4 Angstrom of the bent C-C-C molecule, which is in no training set."
    ]
    cells = {(r["element"], r["set"], r["seed"]): r["tests"]["bent C-C-C"]["pooled"]["mae"] for r in results}
    seeds = sorted({r["seed"] for r in results})
    for element in dict.fromkeys(r["element"] for r in results if r["element"] != "C"):
        found = {name: [cells.get((element if "X" in name else "C", name, seed)) for seed in seeds] for name in SETS}
        lines += ["", "| trained on | " + " | ".join(f"seed {s}" for s in seeds) + " | mean |"]
        lines += ["|---|" + "---:|" * (len(seeds) + 1)]
        for name, values in found.items():
            known = [v for v in values if v is not None]
            words = [study.cell(v, ".4f") for v in [*values, mean(known) if known else None]]
            lines.append(f"| {name.replace('X', element)} | " + " | ".join(words) + " |")
        lines += ["", *verdict(element, found)]
    return "\n".join(lines) + "\n"


def verdict(element: str, found: dict[str, list]) -> list[str]:
    """What the second molecule did to the error of the linear C-C-C alone, and beside the better of the two alone."""
    out = []
    for both, other in ((BOTH, BENT), (CONTROL, STRAIGHT)):
        rows = [row for row in zip(found[SINGLE], found[other], found[both], strict=True) if None not in row]
        if rows:
            change = mean(100 * (b / single - 1) for single, _, b in rows)
            out.append(
                f"* {both.replace('X', element)}: {change:+.0f} % beside linear C-C-C alone, lower in "
                f"{sum(b < single for single, _, b in rows)} of {len(rows)} seeds; lower than both molecules alone in "
                f"{sum(b < min(single, alone) for single, alone, b in rows)} of {len(rows)}."
            )
    return out


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write the table."""
    results = []
    for seed in args.seeds:
        for element in args.elements:
            for name, molecules in SETS.items():
                own = element if "X" in name else "C"
                if any((r["element"], r["set"], r["seed"]) == (own, name, seed) for r in results):
                    continue  # linear C-C-C alone serves all elements
                about = {"family": args.family, "element": own, "set": name, "seed": seed, "points": args.points}
                words = name.replace(" + ", "_").replace(" ", "-").replace("X", own)
                folder = args.out / "runs" / f"{args.family}-{words}-{args.points}-{args.steps}-{seed}"

                def call(folder=folder, own=own, molecules=molecules, seed=seed, about=about):
                    given, tests = config(data, args, own, molecules, seed)
                    return study.run(folder, given, tests, None, about, steps=args.steps)

                found = study.attempt(folder, failures, call)
                results += [found] if found else []
    study.tell(args.out, "toys", results, table(results))


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True, metavar="DIR", help="folder with splits.json and the folder toys")
    p.add_argument(
        "--out", type=Path, default=HERE / "results", metavar="DIR", help="where results go (default: %(default)s)"
    )
    p.add_argument("--family", choices=study.FAMILIES, default="cgcnn", help="(default: cgcnn)")
    p.add_argument("--elements", nargs="+", choices="BNOF", default=["O"], metavar="X", help="B, N, O, F (default: O)")
    p.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    p.add_argument("--points", type=int, default=3000, metavar="N", help="of every training (default: 3000)")
    p.add_argument("--steps", type=int, default=800, metavar="N", help="of every training (default: 800)")
    return study.conduct(p, work)


if __name__ == "__main__":
    sys.exit(main())
