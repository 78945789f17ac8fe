"""Loads libdcharge_ops.so, the compiled kernels behind torch.ops.dcharge. Without it the torch references answer."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

from ..errors import log, warn_once

PATH = Path(__file__).resolve().parent.parent / "libdcharge_ops.so"
COMPILED = (
    "radial_moments",
    "radial_moments_backward",
    "se_e2_a",
    "gram",
    "gram_backward",
    "orbital_sums",
    "orbital_sums_backward",
    "orbital_gram",
    "orbital_gram_backward",
    "ead",
    "ead_network",
    "moments_network",
    "probe_messages",
    "probe_messages_backward",
    "local_environments",
    "crystal_convolution",
    "crystal_convolution_backward",
    "crystal_network",
    "pair_messages",
    "pair_messages_backward",
    "filtered_sums",
    "filtered_sums_backward",
    "message_network",
    "neighbors",
)
CPU_ONLY = (  # on a GPU torch composes the networks of other ops; the others are their references
    "ead_network",
    "moments_network",
    "local_environments",
    "crystal_network",
    "pair_messages",
    "pair_messages_backward",
    "filtered_sums",
    "filtered_sums_backward",
    "message_network",
)
NAMES = {"avx512": "AVX-512", "avx2": "AVX2", "baseline": "baseline"}


def _load():
    if not PATH.is_file():
        return None, f"{PATH} does not exist"
    try:
        torch.ops.load_library(str(PATH))
        library = ctypes.CDLL(str(PATH))
        library.dcharge_isa.restype = library.dcharge_cuda_architectures.restype = ctypes.c_char_p
        library.dcharge_select_isa.argtypes = [ctypes.c_char_p]
    except (OSError, RuntimeError, AttributeError) as error:  # the last: built from older sources
        return None, str(error).splitlines()[0]
    missing = [op for op in COMPILED if not hasattr(torch.ops.dcharge, op)]
    if missing:
        return None, f"built from older sources, without {missing[0]}"
    return library, ""


_library, reason = _load()
if _library is None:
    log.warning(
        "dcharge's compiled kernels did not load (%s): the torch references are used, 10 to 100 times slower. "
        "Build them with: pip install .",
        reason,
    )


def loaded() -> bool:
    """Whether the compiled kernels are there."""
    return _library is not None


def compiled_for(device: torch.device) -> bool:
    """Whether tensors on this device go to a compiled kernel; said once where a GPU has none."""
    if _library is None:
        return False
    if device.type == "cuda" and not cuda_architectures():
        warn_once(
            "no CUDA kernels",
            "dcharge was built without CUDA kernels: on the GPU the torch references are used, which are slow. "
            "Build them with nvcc on PATH: DCHARGE_BUILD_CUDA=1 pip install .",
        )
        return False
    return device.type in ("cpu", "cuda")


def cuda_architectures() -> list[str]:
    """GPU architectures that kernels were compiled for, e.g. ['sm_80', 'sm_90a', 'PTX 80'] ([]: none)."""
    names = "" if _library is None else _library.dcharge_cuda_architectures().decode()
    texts = {"real": ["sm_{}"], "virtual": ["PTX {}"], "": ["sm_{}", "PTX {}"]}
    pairs = [name.partition("-")[::2] for name in names.split(",") if name]
    return [text.format(number) for number, kind in pairs for text in texts[kind]]


def isa() -> str:
    """Instruction set of the CPU kernels in use: avx512, avx2 or baseline ('' without the library).

    The environment variable DCHARGE_ISA chooses another one at start-up.
    """
    return "" if _library is None else _library.dcharge_isa().decode()


def bfloat16_pairs() -> bool:
    """Whether the CPU kernels in use multiply bfloat16 numbers in pairs (AVX512-BF16)."""
    return _library is not None and bool(_library.dcharge_bfloat16())


def select_isa(name: str) -> bool:
    """Switch the CPU kernels to another instruction set; False (nothing changed) where the CPU or build lacks it."""
    return _library is not None and bool(_library.dcharge_select_isa(name.encode()))


def kernels(device: str = "cpu") -> dict[str, str]:
    """Kernel that answers each op on 'cpu' or 'cuda': 'AVX-512', 'AVX2', 'baseline', 'CUDA (sm_80, ...)' or
    'torch reference'."""
    name = "torch reference"
    if device == "cpu" and loaded():
        name = NAMES[isa()]
    elif device == "cuda" and cuda_architectures():
        name = f"CUDA ({', '.join(cuda_architectures())})"
    return {op: name for op in COMPILED if device == "cpu" or op not in CPU_ONLY}


if loaded() and os.environ.get("DCHARGE_ISA", isa()) != isa():
    log.warning(
        "DCHARGE_ISA=%s: not one of avx512, avx2, baseline that this CPU has; using %s",
        os.environ["DCHARGE_ISA"],
        isa(),
    )
