"""Compiles all CUDA sources and fails where a kernel spills or takes more registers than it declares.

    python cuda/check_registers.py [--arch 80 90a]

A kernel's budget is the last template argument of run_blocks or run_elements (cuda/launch.hpp), so the assembler's
report names it. Needs nvcc and c++filt, no GPU.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>[^']+)' for.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<used>\d+) registers",
    re.DOTALL,
)


def compile_one(source: Path, arch: str) -> str:
    """The assembler's report, names demangled. RuntimeError with the compiler's words where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["nvcc", "-std=c++17", "-O3", "-I", str(ROOT / "csrc"), "-I", str(ROOT), "-Xptxas", "-v"]
        command += [f"-gencode=arch=compute_{arch},code=sm_{arch}", "-c", str(source), "-o", f"{folder}/kernel.o"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    return subprocess.run(["c++filt"], input=done.stderr, capture_output=True, text=True, check=True).stdout


def kernels(report: str) -> list[dict]:
    """name, budget, used, spilled (bytes) of every kernel in a report."""
    rows = []
    for found in KERNEL.finditer(report):
        name = re.sub(r"\b(dcharge::|cuda::|\(anonymous namespace\)::|void )", "", found["name"].split(">(")[0] + ">")
        budget = re.search(r", (\d+)>$", name)
        if budget is None:
            raise RuntimeError(f"{name}: declares no budget of registers")
        spilled = int(found["stack"]) + int(found["stores"]) + int(found["loads"])
        rows.append({"name": name, "budget": int(budget[1]), "used": int(found["used"]), "spilled": spilled})
    return rows


def main() -> int:
    """Compile, print one line per kernel and architecture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=["80", "90a"], help="compute capabilities (default: 80 90a)")
    args = parser.parse_args()
    bad = 0
    for source in sorted((ROOT / "cuda").glob("*.cu")):
        for arch in args.arch:
            rows = kernels(compile_one(source, arch))
            if not rows:
                raise RuntimeError(f"{source.name}: no kernel in the assembler's report")
            for row in rows:
                good = row["used"] <= row["budget"] and not row["spilled"]
                bad += not good
                spills = f" and {row['spilled']} bytes of stack and spills" if row["spilled"] else ""
                print(f"{'ok ' if good else 'BAD'} sm_{arch:<4}{row['used']:>4}/{row['budget']}{spills}  {row['name']}")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"check_registers: {error}")
