"""All measurements, one after another.

    python -m benchmarks [NAME ...] [--peers VENV] [--deepdft FOLDER] [--quick] [--json FILE]
    python -m benchmarks --docs       # refresh the figures in docs/performance.md from the newest results

Names: formats moments predict peers train coarse scaling memory fireann cgcnn, which run without names in 11 minutes
on two cores (the first time 3.5 more, for DeePMD-kit's models); only if named: deepdft (3 minutes) and huge (100 000
atoms, minutes by itself). --peers and --deepdft: see benchmarks.peers and benchmarks.deepdft.

Each runs in a process of its own and prints its rows as JSON on its last line. Results go to
benchmarks/results/<processor>-<date>.json after every measurement, so that an interrupted run keeps what it has;
a later run of the same day adds to the file. Quick runs are not kept unless --json names a file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from . import docs, machine, table

HERE = Path(__file__).resolve().parent
DEFAULT = ("formats", "moments", "predict", "peers", "train", "coarse", "scaling", "memory", "fireann", "cgcnn")
NAMES = (*DEFAULT, "deepdft", "huge")
QUICK = {"formats": ["30"]}  # 30^3 points; the others know --quick
GOALS = {  # least ratio and rate of rows that do not bring their own
    "formats": {"read CHGCAR": {"ratio": 8.0, "mb_per_s": 250.0}, "write CHGCAR": {"ratio": 5.0}},
}


def run(name: str, quick: bool, options=()) -> tuple[dict, float]:
    """Run one measurement -> (rows, seconds). RuntimeError where it fails or prints no rows."""
    start = time.perf_counter()
    command = [sys.executable, "-m", f"benchmarks.{name}", *(QUICK.get(name, ["--quick"]) if quick else []), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}")
    try:
        rows = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise RuntimeError("no rows on its last line") from None
    return rows, time.perf_counter() - start


def with_goals(name: str, rows: dict) -> dict:
    """The rows, those named in GOALS with their target and whether it is met."""
    for label, goal in GOALS.get(name, {}).items():
        if label in rows:
            words = {"ratio": f">= {goal['ratio']:g} x", "mb_per_s": f">= {goal.get('mb_per_s', 0):g} MB/s"}
            rows[label]["target"] = ", ".join(words[key] for key in goal)
            rows[label]["met"] = all(rows[label][key] >= least for key, least in goal.items())
    return rows


def save(path: Path, content: dict) -> None:
    """Write JSON under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


def main() -> int:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all but the last two"
    )
    parser.add_argument(
        "--peers", metavar="VENV", help="virtual environment with deepmd-kit, for `peers`; runs DeepDFT, too"
    )
    parser.add_argument("--deepdft", metavar="FOLDER", help="checkout of DeepDFT, for `peers` and `deepdft`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    parser.add_argument("--docs", action="store_true", help="only write the newest results into docs/performance.md")
    args = parser.parse_args()
    if args.docs:
        docs.refresh()
        return 0
    unknown = [n for n in args.names if n not in NAMES]
    if unknown:
        parser.error(f"'{unknown[0]}': one of {', '.join(NAMES)} expected")
    about = machine.describe()
    path = args.json or (None if args.quick else docs.RESULTS / machine.file_name(about))
    content = {"format": "dcharge-benchmarks", "version": 1, "benchmarks": {}}
    if path and path.exists():
        content["benchmarks"] = json.loads(path.read_text())["benchmarks"]
    print(f"{about['cpu']}, {about['cores']} cores, {about['isa']}, torch {about['torch']}, load {about['load']}")
    options = [x for key in ("peers", "deepdft") if getattr(args, key) for x in (f"--{key}", getattr(args, key))]
    failed, start = [], time.perf_counter()
    for name in args.names or DEFAULT:
        print(f"\n{name} ...", flush=True)
        here = machine.describe()  # the load just before it
        try:
            rows, seconds = run(name, args.quick, options if name in ("peers", "deepdft") else ())
        except RuntimeError as error:
            print(f"{name}: {error}")
            failed.append(name)
            continue
        rows = with_goals(name, rows)
        print("\n".join(table.lines(rows)))
        if all(row.get("old") for row in rows.values()):
            continue  # figures of an earlier file, or none
        content["benchmarks"][name] = {
            "machine": here,
            "quick": args.quick,
            "seconds": seconds,
            "rows": rows,
        }
        if path:
            save(path, content)
    if path and content["benchmarks"]:
        print(f"\nwritten: {path}")
    print(f"{time.perf_counter() - start:.0f} s altogether")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
