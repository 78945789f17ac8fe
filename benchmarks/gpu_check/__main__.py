"""Builds the kernels on a machine with a GPU, checks every op there, and measures how fast it is.

    python -m benchmarks.gpu_check                 # everything; results go to benchmarks/results/
    python -m benchmarks.gpu_check --device cpu --quick --no-build    # the same logic without a GPU, in seconds

Needs torch, numpy, scipy, nvcc, cmake and ninja. Exit status 1 where a check fails, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from .. import docs, machine, table
from ..__main__ import save
from .standins import without_ase

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


def build(architectures: str) -> None:
    """Compile libdcharge_ops.so with CUDA into the source tree; text parsers and setuptools are not needed for that."""
    tree = ROOT / "build/gpu_check"
    configure = ["cmake", "-S", ROOT, "-B", tree, "-G", "Ninja", f"-DDCHARGE_TORCH_DIR={Path(torch.__file__).parent}"]
    configure += [
        f"-DDCHARGE_OUTPUT_DIR={ROOT / 'python/dcharge'}",
        "-DDCHARGE_BUILD_CUDA=ON",
        "-DDCHARGE_BUILD_IO=OFF",
    ]
    configure += [f"-DDCHARGE_CUDA_ARCHITECTURES={architectures}"]
    for command in (configure, ["cmake", "--build", tree]):
        subprocess.run([str(part) for part in command], check=True)


def sanitize(check, device: str) -> dict[str, dict]:
    """The quick checks once more under every tool of compute-sanitizer, one process each; a row where it is missing."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        print("compute-sanitizer: not found, left out")
        return {"compute-sanitizer": {"target": "not found, left out"}}
    for tool in TOOLS:

        def run(tool=tool):
            command = [program, "--tool", tool, "--error-exitcode", "9", "--kernel-name", "kernel_substring=run_"]
            command += [sys.executable, "-m", "benchmarks.gpu_check", "--quick", "--no-build", "--checks-only"]
            command += ["--device", device]
            # torch's allocator keeps blocks: without it every access beyond a tensor is seen
            environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
            if done.returncode:
                lines = [x for x in (done.stdout + done.stderr).splitlines() if "=====" in x or "FAILED" in x]
                raise RuntimeError(" | ".join(lines[:6]) or f"exit status {done.returncode}")

        check(f"compute-sanitizer, {tool}", run)
    return {}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.splitlines()[0])
    out.add_argument("--device", default="cuda", help="cuda (default), cuda:1, or cpu for a dry run")
    out.add_argument("--quick", action="store_true", help="small systems; the rates mean nothing")
    out.add_argument("--no-build", action="store_true", help="use the library that is there")
    out.add_argument("--checks-only", action="store_true", help="neither rates nor compute-sanitizer")
    out.add_argument("--no-sanitizer", action="store_true", help="without compute-sanitizer")
    out.add_argument("--architectures", default="80-real;90a-real;80-virtual", help="as CMake takes them")
    out.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    return out


def main(arguments=None) -> int:
    """Build, check, measure, store."""
    args = parser().parse_args(arguments)
    on_gpu = args.device != "cpu"
    if on_gpu and not torch.cuda.is_available():
        print("gpu_check: no GPU that torch can use here. A dry run of its logic: --device cpu --quick --no-build")
        return 2
    if on_gpu:
        torch.cuda.set_device(args.device)  # events and streams are those of the current GPU
    start = time.perf_counter()
    if not args.no_build:
        build(args.architectures)
    sys.path.insert(0, str(ROOT / "python"))
    if without_ase():
        print("ase: not installed; stand-ins serve the checks")
    from dcharge.ops import kernels

    from .checks import Checks, model_checks, op_checks
    from .rates import rows

    active = set(kernels("cuda" if on_gpu else "cpu").values())
    print(f"{torch.cuda.get_device_name(args.device) if on_gpu else machine.cpu_model()}: {', '.join(sorted(active))}")
    check = Checks()

    def compiled():
        if active == {"torch reference"}:
            raise RuntimeError("no compiled kernels in use: the references would be compared with themselves")

    check("compiled kernels", compiled)
    op_checks(check, args.device, args.quick)
    model_checks(check, args.device)
    sanitized = sanitize(check, args.device) if on_gpu and not (args.checks_only or args.no_sanitizer) else {}
    about = machine.describe()
    found = {} if args.checks_only else rows(args.device, args.quick) | sanitized
    if found:
        print("\n" + "\n".join(table.lines(found)))
    result = {"machine": about, "quick": args.quick, "seconds": time.perf_counter() - start, "rows": found}
    content = {"benchmarks": {"gpu": {**result, "kernels": sorted(active), "checks": check.results}}}
    path = args.json
    if path is None and on_gpu and not (args.quick or args.checks_only):
        path = docs.RESULTS / machine.file_name({**about, "cpu": f"gpu {about['gpu'][0]}"})
    if path:
        save(path, {"format": "dcharge-benchmarks", "version": 1, **content})
        print(f"written: {path}")
    print(f"{len(check.results)} checks, {len(check.failed)} failed" + "".join(f"\n  {name}" for name in check.failed))
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
