"""What a figure was measured on."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path


def cpu_model() -> str:
    """Name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def describe() -> dict:
    """Processor, kernels, threads, versions, load: what belongs beside every figure."""
    import numpy
    import torch

    from dcharge import __version__
    from dcharge.ops.library import isa

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "isa": isa() or "torch reference",
        "threads": torch.get_num_threads(),
        "gpu": gpus,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "dcharge": __version__,
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def file_name(machine: dict) -> str:
    """<processor>-<date>.json"""
    words = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", " ", machine["cpu"].lower())
    slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "machine"
    return f"{slug}-{machine['cores']}-cores-{machine['date'][:10]}.json"
