"""`dcharge info`: what a bug report needs."""

from __future__ import annotations

HELP = "Versions, devices, threads, and the kernel that is active for every op."


def add_arguments(parser) -> None:
    """`dcharge info` has no arguments of its own."""


def run(args) -> None:
    """Print."""
    import os
    import platform
    from pathlib import Path

    import numpy
    import torch

    from .. import __file__ as home
    from .. import __version__
    from ..ops import kernels

    active = kernels()
    rows = [
        ("dcharge", f"{__version__} ({Path(home).parent})"),
        ("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        ("torch", torch.__version__),
        ("numpy", numpy.__version__),
        ("cpu", f"{_cpu()}, {os.cpu_count()} cores"),
        ("threads", f"{torch.get_num_threads()} (OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')})"),
        *(("gpu", gpu) for gpu in _gpus(torch) or ["none that torch can use"]),
    ]
    print("\n".join(f"{name:<10}{text}" for name, text in rows))
    print("kernels")
    width = max(map(len, active), default=0) + 2
    print("\n".join(f"  {op:<{width}}{kernel}" for op, kernel in active.items()))
    cuda = set(kernels("cuda").values())
    if torch.cuda.is_available() or cuda != {"torch reference"}:
        print(f"on a GPU: {', '.join(sorted(cuda))}")
    slow = [op for op, kernel in active.items() if kernel == "torch reference"]
    if slow:
        print(
            f"warning: {', '.join(slow)} run as slow torch reference: the compiled kernels are missing (pip install .)"
        )


def _cpu() -> str:
    """Name of the processor."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _gpus(torch) -> list[str]:
    """One line per GPU."""
    if not torch.cuda.is_available():
        return []
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [f"{d.name}, {d.total_memory / 2**30:.0f} GiB, compute capability {d.major}.{d.minor}" for d in devices]
