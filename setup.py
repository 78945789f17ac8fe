"""Builds the compiled parts with CMake and Ninja. Metadata is in pyproject.toml.

Environment: DCHARGE_TORCH_DIR  folder of the torch package, where it is not found by itself
             DCHARGE_BUILD_CUDA 0 or 1; default: 1 where nvcc is on PATH and torch is a CUDA build
             DCHARGE_CUDA_ARCHITECTURES, default "80-real;90a-real;80-virtual"
             CMAKE_BUILD_PARALLEL_LEVEL number of parallel compilations
"""

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 10)


def torch_folders():
    """Places where the torch package may be, nearest first. pip's build isolation hides the environment that the
    package is installed into, so torch is looked up on disk; only its headers and libraries are needed."""
    if "DCHARGE_TORCH_DIR" in os.environ:
        yield Path(os.environ["DCHARGE_TORCH_DIR"])
        return
    schemes = [sysconfig.get_paths()]
    for base in (os.environ.get("VIRTUAL_ENV"), os.environ.get("CONDA_PREFIX"), sys.base_prefix):
        if base:
            schemes.append(sysconfig.get_paths(vars={"base": base, "platbase": base}))
    for scheme in schemes:
        yield Path(scheme["purelib"]) / "torch"
        yield Path(scheme["platlib"]) / "torch"
    yield Path(site.getusersitepackages()) / "torch"
    for entry in [*site.getsitepackages(), *sys.path]:
        yield Path(entry or ".") / "torch"


def find_torch() -> Path:
    """Folder of a torch package that is new enough and has its headers, or one line that says what to run."""
    found = ""
    for folder in torch_folders():
        version = folder / "version.py"
        if not version.is_file() or not (folder / "include/torch/csrc/stable/library.h").is_file():
            continue
        text = re.search(r"__version__ = '([^']+)'", version.read_text())
        number = tuple(int(n) for n in text.group(1).split(".")[:2]) if text else (0, 0)
        if number >= OLDEST_TORCH:
            return folder
        found = f" (found {text.group(1) if text else 'an unknown version'} in {folder.parent})"
    raise SystemExit(
        f"dcharge: no torch >= {'.'.join(map(str, OLDEST_TORCH))} to compile against{found}. Run: "
        "pip install torch==2.13.0   (or set DCHARGE_TORCH_DIR to the folder of the torch package)"
    )


def program(name: str) -> str:
    """An executable beside this Python or on PATH."""
    path = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if path is None:
        raise SystemExit(f"dcharge: '{name}' not found. Run: pip install {name}")
    return path


def wants_cuda(torch: Path) -> bool:
    """DCHARGE_BUILD_CUDA, or whether nvcc is there and this torch can use a GPU."""
    switch = os.environ.get("DCHARGE_BUILD_CUDA")
    if switch not in (None, "", "0", "1"):
        raise SystemExit(f"dcharge: DCHARGE_BUILD_CUDA={switch}: 0 or 1 expected")
    if switch:
        return switch == "1"
    version = re.search(r"^cuda\b.*= *(.*)$", (torch / "version.py").read_text(), re.MULTILINE)
    return shutil.which("nvcc") is not None and version is not None and version.group(1).strip() != "None"


class CMakeBuild(build_ext):
    """Builds both libraries into the package: beside the sources with --inplace, else into the build folder."""

    def run(self):
        import pybind11

        torch = find_torch()
        inplace = self.inplace or getattr(self, "editable_mode", False)
        output = ROOT / "python/dcharge" if inplace else Path(self.build_lib).resolve() / "dcharge"
        tree = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        tree.mkdir(parents=True, exist_ok=True)
        # pip runs every isolated build in a new folder: a cache that names a tool that is gone would stop CMake
        (tree / "CMakeCache.txt").unlink(missing_ok=True)
        configure = [
            program("cmake"),
            *("-S", str(ROOT), "-B", str(tree), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"),
            f"-DDCHARGE_TORCH_DIR={torch}",
            f"-DDCHARGE_OUTPUT_DIR={output}",
            f"-DDCHARGE_BUILD_CUDA={'ON' if wants_cuda(torch) else 'OFF'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]
        if "DCHARGE_CUDA_ARCHITECTURES" in os.environ:
            configure.append(f"-DDCHARGE_CUDA_ARCHITECTURES={os.environ['DCHARGE_CUDA_ARCHITECTURES']}")
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
        for command in (configure, [program("cmake"), "--build", str(tree), "-j", jobs]):
            if subprocess.run(command).returncode:
                raise SystemExit(f"dcharge: the compiled parts did not build; this failed: {' '.join(command)}")

    def get_outputs(self):
        return []


# the list only tells setuptools that the wheel belongs to one platform; CMake knows the sources
setup(ext_modules=[Extension("dcharge._io", sources=[])], cmdclass={"build_ext": CMakeBuild})
