"""The CUDA sources and their registration, compiled for the CPU with sanitizers and held to the references.

Blocks of threads run as loops there (cuda/launch.hpp). What this cannot see: races inside a phase, the register
allocation and the intrinsics of a GPU; `python -m benchmarks.gpu_check` looks at those.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def runtime(name):
    """Path of a sanitizer's library, '' where the compiler has none."""
    path = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else ""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    torch_dir = Path(torch.__file__).parent
    if shutil.which("g++") is None or not (torch_dir / "include/torch/csrc/stable/library.h").exists():
        pytest.skip("no g++ or no torch headers")
    if not (runtime("libasan.so") and runtime("libubsan.so")):
        pytest.skip("no sanitizers")
    folder = tmp_path_factory.mktemp("host")
    flags = ["-std=c++17", "-O0", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    flags += ["-DDCHARGE_HOST", "-DTORCH_TARGET_VERSION=0x020a000000000000", *SANITIZERS]
    flags += [f"-I{ROOT / 'csrc'}", f"-I{ROOT}", "-isystem", str(torch_dir / "include")]
    sources = [*ROOT.glob("cuda/*.cu"), *ROOT.glob("csrc/ops/cuda/*.cpp"), ROOT / "tests/ops/host/library.cpp"]
    objects = []
    for i, source in enumerate(sources):
        objects.append(folder / f"{i}.o")
        subprocess.run(["g++", *flags, "-x", "c++", "-c", str(source), "-o", str(objects[-1])], check=True)
    path = folder / "libdcharge_host.so"
    torch_libraries = [torch_dir / "lib" / f"lib{name}.so" for name in ("torch", "torch_cpu", "c10")]
    subprocess.run(["g++", "-shared", *SANITIZERS, "-o", path, *objects, *torch_libraries], check=True)
    return path


def test_contract(library):
    preload = f"{runtime('libasan.so')} {runtime('libubsan.so')}"
    environment = {**os.environ, "LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "tests/ops/host/contract.py"), str(library)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr[-4000:]
