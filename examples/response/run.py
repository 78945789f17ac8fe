"""Models of the density response to an electric field, tested on fields, directions, geometries and slabs they lack.

    python examples/response/run.py --data DIR [--minutes 5] [--models 3] [--runs strength direction] [--out DIR]

DIR holds splits.json and the folders mol_field and au_field (see examples/study.py): densities <name>_e0 without field
and others of the same atoms in fields, which index.json gives. Responses are made first, in OUT/responses.
--models: so many trainings that differ in their seed, and the mean of their responses; single trainings scatter.
Restartable: every finished run is one JSON file. At the end: response.json and response.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study  # noqa: E402

QUANTITIES = {
    "dipole": "dipole along the field, e A",
    "charge": "total charge, e",
    "transferred": "transferred charge, e",
    "slope": "slope of the potential inside, V/A",
}
FREE = "e0"  # the ending of frames without field
MODELS = {
    system: {
        "type": "fireann",
        "field": True,
        "target": "response",
        "orbital_net": {"activation_function": "silu_like"},
    }
    for system in ("mol_field", "au_field")
}
# chosen on frames of the training sets that were held out; `targeted`: fields along x held out from those along z, the
# dipoles off by 1.7 % (root mean square of 5 molecules) instead of 4.5 % after equal steps
SETTINGS = {
    "mol_field": {"start_lr": 4e-3, "frames_per_batch": 4, "sampler": "targeted"},
    "au_field": {"start_lr": 4e-3, "frames_per_batch": 1},
}


def runs(data: study.Data) -> dict[str, dict]:
    """Name of a run -> system, train, tests {set: names}; names of frames in a field."""
    out = {}
    for system, split in data.splits.items():
        if system not in MODELS:
            continue
        parts = {system: split} if "train" in split else split
        for name, part in parts.items():
            tests = {key: names for key, names in part.items() if key == "test" or key.endswith("_test")}
            row = {"system": system, "train": part["train"], "tests": tests}
            row["train"] = [n for n in row["train"] if not n.endswith(f"_{FREE}")]
            row["tests"] = {k: [n for n in v if not n.endswith(f"_{FREE}")] for k, v in tests.items()}
            out[name] = row
    return out


def responses(data: study.Data, system: str, names, folder: Path) -> list[dict]:
    """Entries for `systems` of the responses of frames, made where they are missing."""
    from dcharge.io.convert import convert

    folder = folder / system
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / f"{name}.h5"
        if not path.is_file():
            (entry,), (free,) = (data.systems(system, [n]) for n in (name, f"{name.rsplit('_', 1)[0]}_{FREE}"))
            convert(entry["path"], path, minus=free["path"], pbc=entry.get("pbc"), field=data.field(system, name))
    return [{"path": str(folder / f"{name}.h5")} for name in names]


def derived(density, name: str) -> dict[str, float]:
    """What a response is for (`quantities`); nothing, and the reason is said, where they are not defined."""
    from dcharge import InputError

    try:
        return quantities(density)
    except InputError as error:  # a poor model's response does not end in the vacuum
        study.say(f"{name}: derived quantities are left out: {error}")
        return {}


def quantities(density) -> dict[str, float]:
    """The dipole change of a molecule; transferred charge and inner potential of a slab. Keys of QUANTITIES."""
    from dcharge.analysis import dipole_change, response_potential, total_charge, transferred_charge

    field = density.structure.field / np.linalg.norm(density.structure.field)
    if not density.structure.pbc.any():
        return {"dipole": float(dipole_change(density) @ field), "charge": total_charge(density)}
    potential = response_potential(density)
    return {
        "dipole": potential.dipole,
        "charge": total_charge(density),
        "transferred": transferred_charge(density).above,
        "slope": potential.slope,
    }


def nmae(predicted, reference) -> float:
    """sum |error| / sum |response|, %."""
    return 100 * float(np.abs(predicted - reference).sum() / np.abs(reference).sum())


def scaled(reference, training: list) -> float | None:
    """NMAE of the best linear guess: another field's response of the same atoms times the field's share along it.

    None where the training frames do not hold the same atoms; 100 where their fields are perpendicular.
    """
    field, best = reference.structure.field, None
    for other in training:
        same = other.structure.numbers.shape == reference.structure.numbers.shape
        if same and np.allclose(other.structure.positions, reference.structure.positions, atol=1e-4):
            share = field @ other.structure.field / (other.structure.field @ other.structure.field)
            error = nmae(share * other.total, reference.total)
            best = error if best is None else min(best, error)
    return best


def planar(reference) -> float:
    """NMAE of the best prediction that only depends on the height: the planar mean of the reference itself."""
    return nmae(reference.total.mean((0, 1), keepdims=True), reference.total)


def analysed(row: dict, frozen: list[Path], made: dict) -> list[dict]:
    """One entry per test frame: what simple guesses give, and the derived quantities of model (or ensemble) and
    reference."""
    from dcharge import io
    from dcharge.predict import load

    predictor = load(frozen)
    training, out = [io.read(entry["path"]) for entry in made["train"]], []
    for key, entries in made["tests"].items():
        for entry in entries:
            reference = io.read(entry["path"])
            predicted = predictor.predict(reference.structure, like=reference, dtype=np.float64)
            predicted = predicted[0] if predictor.has_deviation else predicted  # beside the mean: its deviation
            name = Path(entry["path"]).stem
            slab = reference.structure.pbc.tolist() == [True, True, False]
            out.append(
                {
                    "set": key,
                    "name": name,
                    "nmae_percent": nmae(predicted.total, reference.total),
                    "scaling_nmae_percent": scaled(reference, training),
                    "planar_nmae_percent": planar(reference) if slab else None,
                    "derived": derived(predicted, f"model, {name}"),
                    "derived_reference": derived(reference, name),
                }
            )
    return out


def run(name: str, row: dict, data: study.Data, args) -> dict:
    """Make the responses, train and test."""
    system, folder = row["system"], args.out / "responses"
    train = responses(data, system, row["train"], folder)
    tests = {key: responses(data, system, names, folder) for key, names in row["tests"].items()}
    species = study.Data.type_map([*train, *(e for entries in tests.values() for e in entries)])
    folders = [args.out / name / f"seed{k + 1}" if args.models > 1 else args.out / name for k in range(args.models)]
    about, members, path = {"name": name, "system": system, "models": args.models}, [], args.out / name / "result.json"
    if path.is_file() and (found := json.loads(path.read_text())).get("models", 1) != args.models:
        raise SystemExit(f"{path}: of {found.get('models', 1)} models; give another --out, or delete {path.parent}")
    for seed, place in enumerate(folders, 1):
        settings = SETTINGS[system] | study.given(args) | {"seed": seed}
        config = study.training_input(train, [], species, settings, MODELS[system])
        members.append(study.run(place, config, tests, args.minutes, about))
    frozen, result = [place / "frozen.pth" for place in folders], members[0]
    if args.models > 1 and path.is_file():
        return json.loads(path.read_text())
    if args.models > 1:
        result = result | {"trained_minutes": sum(r["trained_minutes"] for r in members)}
        result["tests"] = {key: study.tested(frozen, entries) for key, entries in tests.items()}
        result["each_nmae_percent"] = {
            key: [r["tests"][key]["pooled"]["nmae_percent"] for r in members] for key in tests
        }
    if "responses" not in result:
        result["responses"] = analysed(row, frozen, {"train": train, "tests": tests})
        study.write_json(path, result)
    return result


def table(results: dict[str, dict]) -> str:
    """Markdown: pooled NMAE of every run, then its frames."""
    lines = ["| run | set | frames | minutes | NMAE % |", "|---|---|---:|---:|---:|"]
    for name, result in results.items():
        for key, test in result["tests"].items():
            values = [study.cell(v) for v in (result["trained_minutes"], test["pooled"]["nmae_percent"])]
            lines.append("| " + " | ".join([name, key, str(len(test["frames"])), *values]) + " |")
    head = ["run", "frame", "NMAE %", "scaling %", "planar mean %"]
    lines += ["", "| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    every = [(name, r) for name, result in results.items() for r in result["responses"]]
    for name, r in every:
        figures = ("nmae_percent", "scaling_nmae_percent", "planar_nmae_percent")
        lines.append("| " + " | ".join([name, r["name"], *(study.cell(r[k]) for k in figures)]) + " |")
    head = ["run", "frame", "quantity", "model", "reference", "error %"]
    lines += ["", "| " + " | ".join(head) + " |", "|---|---|---|---:|---:|---:|"]
    for name, r in every:
        for key, words in QUANTITIES.items():
            if key in r["derived_reference"]:
                found, wanted = r["derived"].get(key), r["derived_reference"][key]
                error = None if key == "charge" or found is None else 100 * (found / wanted - 1)
                values = (study.cell(found, ".4g"), study.cell(wanted, ".4g"), study.cell(error, ".2g"))
                lines.append("| " + " | ".join([name, r["name"], words, *values]) + " |")
    return "\n".join(lines) + "\n"


def work(args, data: study.Data, failures: list) -> None:
    """Run what is missing, then write the table."""
    todo = runs(data)
    for name in study.chosen(args.runs, todo):
        study.attempt(args.out / name, failures, lambda name=name: run(name, todo[name], data, args))
    results = {n: r for n, r in study.finished(args.out, todo).items() if "responses" in r}
    study.tell(args.out, "response", results, table(results))


def main() -> int:
    """The command."""
    parser = study.parser(__doc__.splitlines()[0], 5.0, HERE / "results")
    parser.add_argument("--runs", nargs="+", metavar="NAME", help="runs to do (default: all)")
    parser.add_argument("--models", type=int, default=1, metavar="N", help="trainings whose mean is taken (default: 1)")
    return study.conduct(parser, work)


if __name__ == "__main__":
    sys.exit(main())
