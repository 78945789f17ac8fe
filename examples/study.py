"""What the studies in this folder share: data with splits, one timed training, tests on full grids, one JSON per run.

A study is a list of runs. A finished run is a file result.json in its folder and is not repeated; an interrupted one
continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import time
from pathlib import Path

MORE = 1.5  # times the steps that fit: training/max_minutes ends every run, and the learning rate follows the time
REPORTS, REPORTING = 40, 0.1  # most evaluations on the validation data, and the share of the time they may take
SAVE_SECONDS = 10.0  # between two checkpoints
TIMED_STEPS, UNTIMED_STEPS, TIMED_SECONDS = 20, 3, 5.0
ALL_POINTS, POINTS_PER_FRAME = 180_000, (5_000, 60_000)  # points of all training frames, and the range for one
PERIODIC = {"NONE": [0, 0, 0], "XY": [1, 1, 0], "XYZ": [1, 1, 1]}

TRAINING = {"batch_size": 1024, "start_lr": 2e-3, "stop_lr": 1e-5, "ema": 0.99, "loss": "mae", "seed": 1}

# angular orders up to 3 at half the width: as fast as the paper's sizes, and more accurate
MODEL = {"descriptor": {"neuron": [20, 40], "l_max": 3, "gram": "per_l", "axis_neuron": [16, 12, 8, 4]}}

# the paper's model to the letter: no baseline, no standardisation, no softening, the embedding net at every pair
PAPER = {
    "baseline": {"type": "none"},
    "standardize": False,
    "vacuum": "paper",
    "embedding": "exact",
    "descriptor": {"soft": 0.0},
}

DEEPDFT = {"batch_size": 512, "frames_per_batch": 4, "warmup_steps": 50, "gradient_max_norm": 0.1}

# Model section and settings of `training_input` for every family, chosen on validation frames of water and molecules.
# What short runs of painn and schnet gave is told in docs/deepdft.md, "Settings of the examples".
FAMILIES = {
    "deep_charge": (MODEL, {}),
    "fireann": ({"type": "fireann"}, {"frames_per_batch": 2, "start_lr": 1e-2, "optimizer": {"type": "adamw"}}),
    "painn": ({"type": "painn"}, DEEPDFT | {"start_lr": 2e-3}),
    "schnet": ({"type": "schnet", "n_features": 64, "n_layers": 3}, DEEPDFT | {"start_lr": 3e-3}),
    # small batches: the steps that fit into minutes count (docs/transfer.md)
    "cgcnn": ({"type": "cgcnn"}, {"batch_size": 32, "start_lr": 1e-3}),
}


def say(message: str) -> None:
    """A line in the log of dcharge, beside those of training and testing."""
    from dcharge.errors import log

    log.info(message)


class Data:
    """A folder with splits.json and one folder of densities per system.

    splits.json  {system: {"train": [name, ...], "valid": [...], "test": [...]}}; a name is a file without its ending
    index.json   in a system's folder, optional: [{"frame": file, "poisson_periodic": NONE | XY | XYZ,
                 "field_V_per_A": [x, y, z]}]; without it the files themselves say what is periodic
    """

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        path = self.folder / "splits.json"
        if not path.is_file():
            raise SystemExit(f"{path}: no such file; --data names the folder that holds it")
        self.splits = json.loads(path.read_text())

    def _index(self, system: str) -> dict[str, dict]:
        path = self.folder / system / "index.json"
        entries = json.loads(path.read_text()) if path.is_file() else []
        return {entry["frame"].split(".")[0]: entry for entry in entries}

    def systems(self, system: str, names) -> list[dict]:
        """Entries for `systems` in the input: path and periodicity of every frame."""
        index, out = self._index(system), []
        for name in names:
            found = sorted(glob.glob(glob.escape(str(self.folder / system / name)) + ".*"))
            if len(found) != 1:
                raise SystemExit(f"{self.folder / system / name}.*: one file expected, {len(found)} found")
            pbc = PERIODIC.get(index.get(name, {}).get("poisson_periodic"))
            out.append({"path": found[0], **({"pbc": pbc} if pbc else {})})
        return out

    def field(self, system: str, name: str) -> list[float] | None:
        """The electric field of a frame that index.json gives, V/Angstrom, or None."""
        return self._index(system).get(name, {}).get("field_V_per_A")

    def field_free(self, system: str, names) -> list[str]:
        """The names of frames computed without electric field."""
        index = self._index(system)
        return [n for n in names if not any(index.get(n, {}).get("field_V_per_A") or [0.0])]

    @staticmethod
    def type_map(entries) -> list[str]:
        """Species of all frames, by atomic number."""
        from ase.data import chemical_symbols

        from dcharge.dataset import system_frames

        numbers = {int(z) for frame in system_frames(entries, "systems") for z in frame.structure.numbers}
        return [chemical_symbols[z] for z in sorted(numbers)]


def training_input(train, valid, type_map, settings: dict, model: dict | None = None) -> dict:
    """The input of one training, without its length.

    train, valid  lists of systems; settings: keys of TRAINING, points_per_frame, frames_per_batch,
                  sampler, optimizer (a section), warmup_steps, gradient_max_norm
    """
    low, high = POINTS_PER_FRAME
    s = {"points_per_frame": min(high, max(low, ALL_POINTS // len(train))), "sampler": "stratified"}
    s |= TRAINING | settings
    return {
        "model": {"type": "deep_charge", "type_map": type_map, **(model or MODEL)},
        "learning_rate": {"type": "cosine", **{k: s[k] for k in ("start_lr", "stop_lr", "warmup_steps") if k in s}},
        "loss": {"type": s["loss"]},
        **({"optimizer": s["optimizer"]} if "optimizer" in s else {}),
        "training": {
            "seed": s["seed"],
            "ema": s["ema"],
            **({"gradient_max_norm": s["gradient_max_norm"]} if "gradient_max_norm" in s else {}),
            "sampler": {"type": s["sampler"], "points_per_frame": s["points_per_frame"]},
            "training_data": {
                "systems": train,
                "batch_size": s["batch_size"],
                "frames_per_batch": s.get("frames_per_batch", 0),
            },
            "validation_data": {"systems": valid},
            "max_ckpt_keep": 1,
        },
    }


def schedule(config: dict, minutes: float) -> dict:
    """More steps than fit into `minutes`, evaluations and checkpoints, from a short timing of real steps.

    A run so lasts its minutes whatever the machine does meanwhile, and ends at the lowest learning rate.
    Returns keys of `training` and, under "timing", what was measured.
    """
    from dcharge.config import normalize
    from dcharge.train import Trainer

    start = time.perf_counter()
    trainer = Trainer(normalize(with_keys(config, {"numb_steps": 10**6})))
    setup = time.perf_counter() - start
    for _ in range(UNTIMED_STEPS):
        trainer.train_step()
    start, steps = time.perf_counter(), 0
    while steps < TIMED_STEPS and time.perf_counter() - start < TIMED_SECONDS:
        trainer.train_step()
        trainer.check()
        steps += 1
    step = (time.perf_counter() - start) / steps
    start = time.perf_counter()
    trainer.validate()
    report = time.perf_counter() - start
    budget = 60 * minutes
    reports = max(1, min(REPORTS, int(REPORTING * budget / max(report, 1e-6))))
    fitting = max(10, int((budget - reports * report) / step))
    say(
        f"timing: {1e3 * step:.1f} ms per step, {report:.2f} s per evaluation, setup {setup:.1f} s: "
        f"about {fitting} steps and {reports} evaluations in {minutes:g} minutes"
    )
    return {
        "numb_steps": int(MORE * fitting),
        "disp_freq": max(1, -(-fitting // reports)),
        "save_freq": max(1, int(SAVE_SECONDS / step)),
        "max_minutes": minutes,
        "timing": {"setup_s": setup, "step_s": step, "evaluation_s": report},
    }


def fixed(steps: int) -> dict:
    """Keys of `training` for a given number of steps, as from `schedule`."""
    every = max(1, steps // 10)
    return {"numb_steps": steps, "disp_freq": every, "save_freq": every, "timing": None}


def with_keys(config: dict, keys: dict) -> dict:
    """The input with keys of `training` added, numb_steps among them; warm-up takes a tenth of the steps at most."""
    rate = dict(config["learning_rate"])
    if "warmup_steps" in rate:
        rate["warmup_steps"] = min(rate["warmup_steps"], keys["numb_steps"] // 10)
    return {**config, "learning_rate": rate, "training": {**config["training"], **keys}}


def write_json(path: Path, content) -> None:
    """JSON under a temporary name, then renamed."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


def run(
    folder: Path, config: dict, tests: dict[str, list], minutes: float | None, about: dict, steps: int = 0,
    derive: dict | None = None, detail: bool = False,
) -> dict:  # fmt: skip
    """Train for `minutes`, freeze, test every set of `tests` on full grids; the result, also in folder/result.json.

    tests  {name of the set: systems}; about: what describes this run, kept in the result.
    steps  train for so many steps instead; minutes is then None
    derive  {name of a set: what its test compares besides, a `derived.Wanted`}
    detail  keep the densities of the tests, as `dcharge test --detail` with folder/<name of the set> as prefix
    """
    from dcharge.config import normalize
    from dcharge.freeze import freeze
    from dcharge.train import Trainer

    result_file, plan = folder / "result.json", folder / "plan.json"

    def as_asked(content: dict) -> bool:
        same = content["config"] == config and content["minutes"] == minutes
        return same and (not steps or content["training"]["numb_steps"] == steps)

    if result_file.is_file():
        if plan.is_file() and not as_asked(json.loads(plan.read_text())):
            raise SystemExit(f"{result_file}: of other settings or minutes; give another --out, or delete {folder}")
        say(f"{folder.name}: done before (delete {result_file} to repeat it)")
        return json.loads(result_file.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{folder.name}: {steps} steps" if steps else f"{folder.name}: {minutes:g} minutes")
    restart = None
    if plan.is_file():
        if as_asked(content := json.loads(plan.read_text())):
            restart = folder if (folder / "checkpoint").is_file() else None
        else:
            plan.unlink()
    if not plan.is_file():
        for old in [*folder.glob("model.ckpt*"), folder / "checkpoint", folder / "lcurve.out"]:
            old.unlink(missing_ok=True)
        keys = fixed(steps) if steps else schedule(config, minutes)
        content = {"config": config, "minutes": minutes, "timing": keys.pop("timing"), "training": keys}
        write_json(plan, content)
    full = normalize(with_keys(config, content["training"]))
    trainer = Trainer(full, restart=restart)
    trainer.folder = folder
    trainer.run()
    frozen = freeze(folder, folder / "frozen.pth")
    reports = {}
    for name, systems in tests.items():
        more = {"derive": (derive or {}).get(name), "prefix": folder / name if detail else None}
        reports[name] = tested([frozen], systems, **more)
    result = {
        **about,
        "minutes": minutes,
        "trained_minutes": trainer.elapsed / 60,
        "steps": trainer.step,
        "numb_steps": content["training"]["numb_steps"],
        "timing": content["timing"],
        "n_train_frames": len(config["training"]["training_data"]["systems"]),
        "n_train_points": len(trainer.samples),
        "threads": threads(),
        "tests": reports,
    }
    write_json(result_file, result)
    return result


def tested(frozen: list[Path], systems: list, **more) -> dict:
    """What results keep of `dcharge test` of a model, or an ensemble, on full grids."""
    from dcharge.evaluate import test

    report = test(frozen, paths(systems), **surroundings(systems), **more)
    kept = {key: report[key] for key in ("pooled", "baseline", "frames", "derived") if key in report}
    return kept | {"largest_density": largest(systems)}


def paths(systems) -> list[str]:
    """Paths of entries."""
    return [entry["path"] for entry in systems]


def surroundings(systems) -> dict:
    """The periodicity that all entries share, as `evaluate.test` takes it. ValueError where they differ."""
    pbc = {tuple(entry.get("pbc") or ()) for entry in systems}
    if len(pbc) != 1:
        raise ValueError("frames of one test set with different periodicity")
    return {"pbc": list(pbc.pop()) or None}


def largest(systems) -> float:
    """Largest density of the frames, e/Angstrom^3."""
    from dcharge.dataset import system_frames

    return max(float(frame.read().values[0].max()) for frame in system_frames(systems, "test"))


def threads() -> int:
    """Threads that torch uses."""
    import torch

    return torch.get_num_threads()


def attempt(folder: Path, failures: list, call):
    """call(), or None where it fails: the reason is said and noted, and the study goes on."""
    from dcharge import InputError

    try:
        return call()
    except (InputError, RuntimeError, MemoryError, OSError, ValueError) as error:
        reason = f"{folder.name}: {type(error).__name__}: {' '.join(str(error).split())}"
        failures.append(reason)
        say(f"failed, going on with the next: {reason}")
        return None


def parser(text: str, minutes: float, out: Path) -> argparse.ArgumentParser:
    """Arguments that every study has."""
    p = argparse.ArgumentParser(description=text)
    p.add_argument("--data", required=True, metavar="DIR", help="folder with splits.json and the systems' folders")
    p.add_argument("--minutes", type=float, default=minutes, help=f"of each training (default: {minutes:g})")
    p.add_argument("--out", type=Path, default=out, metavar="DIR", help="where results go (default: %(default)s)")
    p.add_argument("--points", type=int, metavar="N", help="training points of every frame")
    p.add_argument("--batch", type=int, metavar="N", help="points of one step")
    return p


def given(args) -> dict:
    """The settings of `training_input` that were given on the command line."""
    return {k: v for k, v in (("points_per_frame", args.points), ("batch_size", args.batch)) if v}


def chosen(names, known) -> list[str]:
    """The names given, which must be known; without any, all that are known."""
    for name in names or ():
        if name not in known:
            raise SystemExit(f"'{name}': one of {', '.join(known)} expected")
    return list(names or known)


def conduct(p: argparse.ArgumentParser, work) -> int:
    """work(args, data, failures) with the log in args.out; tells what failed and returns the exit code."""
    args = p.parse_args()
    args.out = args.out.resolve()
    data, failures = Data(args.data), []
    with logging(args.out):
        work(args, data, failures)
        for reason in failures:
            say(f"failed: {reason}")
    return 1 if failures else 0


def finished(out: Path, names) -> dict[str, dict]:
    """The results of those runs that are done."""
    files = {n: out / n / "result.json" for n in names}
    return {n: json.loads(path.read_text()) for n, path in files.items() if path.is_file()}


def tell(out: Path, name: str, results, text: str) -> None:
    """Results as out/name.json, and their table in Markdown as out/name.md and on the terminal."""
    write_json(out / f"{name}.json", results)
    (out / f"{name}.md").write_text(text)
    print(text)


def cell(value, digits: str = ".3g") -> str:
    """A figure of a table."""
    return "-" if value is None else format(value, digits)


def logging(out: Path):
    """The log on the terminal and in out/log.txt, inside a `with` block."""
    from dcharge.cli.shared import logging_as

    out.mkdir(parents=True, exist_ok=True)
    return logging_as(20, str(out / "log.txt"))


def pyplot():
    """matplotlib.pyplot without a display, or None (said) where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        say("matplotlib is missing: no pictures (pip install matplotlib)")
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
