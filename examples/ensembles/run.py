"""Do three models know where they are wrong? Deviation against error, and whether a distorted structure is found.

    python examples/ensembles/run.py --data DIR [--minutes 2] [--systems molecules water] [--family painn]

DIR holds splits.json and one folder of densities per system (see examples/study.py). Per system three trainings that
differ by their seed. Then, on the held-out frames (`--frames test`, or `valid` to choose settings):

* `dcharge test -m` of the three: Spearman's correlation of |error| and deviation, pooled over all points;
* `dcharge model-devi` of the held-out frames and one distorted structure among them, for every held-out frame and every
  distortion in turn: the rank of the distorted one. No density is needed for it.

Restartable: every finished training and every finished system is one JSON file. At the end: ensembles.json and .md.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

SEEDS = (1, 2, 3)
LEAST = 0.7  # Angstrom between two atoms of a distorted structure
# what is done to a structure: all atoms moved at random (root mean square of a component), one atom moved away
DISTORTIONS = {
    "all atoms moved by 0.1 A": ("all", 0.1),
    "all atoms moved by 0.2 A": ("all", 0.2),
    "all atoms moved by 0.3 A": ("all", 0.3),
    "one bond at 0.75 of its length": ("bond", 0.75),
    "one bond at 1.3 of its length": ("bond", 1.3),
    "one bond at 1.6 of its length": ("bond", 1.6),
}
TRIES = 1000


def distances(atoms) -> np.ndarray:
    """Distances of all pairs of atoms [n, n], nearest images; inf on the diagonal."""
    return atoms.get_all_distances(mic=bool(atoms.pbc.any())) + np.diag([np.inf] * len(atoms))


def distorted(structure, kind: str, size: float, seed: int):
    """A structure with its atoms moved; None where no trial leaves LEAST between all atoms, or there is no bond."""
    rng = np.random.default_rng(seed)
    atoms = structure.to_ase()
    start = atoms.get_positions()
    if kind == "bond":
        if len(atoms) < 2:
            return None
        pair = distances(atoms)
        j = int(rng.integers(len(atoms)))
        i = int(pair[j].argmin())
        bond = atoms.get_distance(i, j, mic=bool(atoms.pbc.any()), vector=True)
        start[j] += (size - 1.0) * bond
        atoms.set_positions(start)
        return structure.with_(positions=start) if distances(atoms).min() > LEAST else None
    for _ in range(TRIES):
        atoms.set_positions(start + rng.normal(0.0, size, start.shape))
        if len(atoms) < 2 or distances(atoms).min() > LEAST:
            return structure.with_(positions=atoms.get_positions())
    return None


def train(data: study.Data, system: str, seed: int, args) -> dict:
    """One model of an ensemble."""
    split = data.splits[system]
    fit, valid, test = (data.systems(system, split.get(key, [])) for key in ("train", "valid", "test"))
    model, settings = study.FAMILIES[args.family]
    settings = settings | study.given(args) | {"seed": seed}
    config = study.training_input(fit, valid, data.type_map([*fit, *valid, *test]), settings, model)
    about = {"system": system, "family": args.family, "seed": seed}
    return study.run(folder(args, system, seed), config, {}, args.minutes, about)


def folder(args, system: str, seed: int) -> Path:
    """Where a training lies."""
    return args.out / "runs" / f"{system}-{args.family}-{seed}"


def ranks(models, frames, place: Path) -> list[dict]:
    """For every frame and distortion: where the distorted structure comes among the frames, by every column."""
    from ase.io import write

    from dcharge.model_devi import RANKING, model_devi

    structures = [frame.structure for frame in frames]
    extras = []
    for number, (frame, structure) in enumerate(zip(frames, structures, strict=True)):
        for name, (kind, size) in DISTORTIONS.items():
            moved = distorted(structure, kind, size, number)
            if moved is not None:
                extras.append((frame.name, name, moved))
    # one table of all; its rows do not depend on each other, so that every choice of frames can be ranked from it
    trajectory = place.with_suffix(".xyz")
    write(trajectory, [s.to_ase() for s in [*structures, *(moved for *_, moved in extras)]], format="extxyz")
    rows = model_devi(models, [trajectory], place.with_suffix(".out"), top=10**6)
    rows = sorted(rows, key=lambda row: row.step)
    out = []
    for (frame, name, _), row in zip(extras, rows[len(frames) :], strict=True):
        place_by = {c: 1 + sum(getattr(r, c) >= getattr(row, c) for r in rows[: len(frames)]) for c in RANKING}
        out.append({"frame": frame, "distortion": name, "rank": place_by, **{c: getattr(row, c) for c in RANKING}})
    undistorted = [{"frame": f.name, **{c: getattr(r, c) for c in RANKING}} for f, r in zip(frames, rows, strict=False)]
    return [*undistorted, *out]


def judge(data: study.Data, system: str, args) -> dict:
    """Errors, calibration and ranks of one system's ensemble."""
    from dcharge.dataset import system_frames
    from dcharge.evaluate import test

    place = args.out / f"{system}-{args.family}-{args.frames}"
    result_file = place.with_suffix(".json")
    if result_file.is_file():
        study.say(f"{result_file.name}: done before (delete it to repeat it)")
        return json.loads(result_file.read_text())
    models = [folder(args, system, seed) / "frozen.pth" for seed in args.seeds]
    entries = data.systems(system, data.splits[system][args.frames])
    report = test(models, study.paths(entries), **study.surroundings(entries))
    result = {
        "system": system,
        "family": args.family,
        "frames": args.frames,
        "n_frames": len(entries),
        "minutes": args.minutes,
        "nmae_percent": report["pooled"]["nmae_percent"],
        "baseline_nmae_percent": report["baseline"] and report["baseline"]["nmae_percent"],
        "ensemble": report["ensemble"],
        "of_frames": [{"name": f["name"], "metrics": f["metrics"], **f["deviation"]} for f in report["frames"]],
        "ranks": ranks(models, system_frames(entries), place),
    }
    study.write_json(result_file, result)
    return result


def table(results: list[dict]) -> str:
    """Markdown: one row per system; beneath it how often a distorted structure comes first, by every column."""
    from dcharge.model_devi import RANKING

    lines = [
        "Three models that differ by their seed, on full grids of held-out frames.",
        "",
        "| system | family | frames | NMAE % of the mean | of each | Spearman | rms error / rms deviation |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        each = " ".join(f"{x:.3f}" for x in r["ensemble"]["nmae_percent"])
        d = r["ensemble"]["deviation"]
        lines.append(
            f"| {r['system']} | {r['family']} | {r['n_frames']} {r['frames']} | {r['nmae_percent']:.3f} | {each} | "
            f"{d['spearman']:.3f} | {d['error_over_deviation']:.2f} |"
        )
    lines += [
        "",
        "A distorted structure among these frames: of how many choices it comes first, by each column of `model-devi`",
        "(in brackets the mean rank).",
        "",
        "| system | distortion | " + " | ".join(RANKING) + " |",
        "|---|---|" + "---:|" * len(RANKING),
    ]
    for r in results:
        for name in DISTORTIONS:
            found = [row["rank"] for row in r["ranks"] if row.get("distortion") == name]
            if not found:
                continue
            words = []
            for column in RANKING:
                places = [rank[column] for rank in found]
                words.append(f"{sum(p == 1 for p in places)} of {len(places)} ({np.mean(places):.1f})")
            lines.append(f"| {r['system']} | {name} | " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def work(args, data: study.Data, failures: list) -> None:
    """Train what is missing, judge what is complete, write the table."""
    results = []
    for system in study.chosen(args.systems, data.splits):
        calls = [partial(train, data, system, seed, args) for seed in args.seeds]
        done = [study.attempt(folder(args, system, s), failures, c) for s, c in zip(args.seeds, calls, strict=True)]
        if all(done):
            found = study.attempt(args.out / system, failures, partial(judge, data, system, args))
            results += [found] if found else []
    study.tell(args.out, "ensembles", results, table(results))


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 2.0, HERE / "results")
    parser.add_argument("--systems", nargs="+", default=["molecules", "water"], metavar="NAME")
    parser.add_argument("--family", choices=study.FAMILIES, default="painn", help="(default: painn)")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, metavar="N", help="of the models")
    parser.add_argument("--frames", choices=("test", "valid"), default="test", help="that are held out")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
