"""Where tensors live: `--device`, what a GPU needs to be used, and what is done where its memory is short."""

from __future__ import annotations

import re

from .errors import InputError, log, warn_once

DEVICES = "auto, cpu, cuda or cuda:N"
# points at once below which memory is not what the points take: halving further would not help
LEAST_POINTS = 1024


def is_device(name: str) -> bool:
    """Whether `name` is one of DEVICES."""
    return re.fullmatch(r"auto|cpu|cuda(:\d+)?", name) is not None


def choose_device(name="auto"):
    """torch.device of `auto` (a GPU where one can be used, else the CPU), `cpu`, `cuda` or `cuda:N`.

    InputError where a GPU is asked for by name that is not there or that this build cannot use. Which GPUs there are
    is torch's word: CUDA_VISIBLE_DEVICES hides them.
    """
    import torch

    name = str(name)
    if not is_device(name):
        raise InputError(f"device '{name}': {DEVICES} expected")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    problem = _problem(name)
    if problem and name == "auto":
        warn_once("device", f"{problem}; the CPU is used")
        return torch.device("cpu")
    if problem:
        raise InputError(f"device '{name}': {problem}")
    return torch.device("cuda" if name == "auto" else name)


def _problem(name: str) -> str:
    """Why the GPU `auto`, `cuda` or `cuda:N` cannot be used, or an empty string."""
    import torch

    from .ops.library import cuda_architectures

    if not torch.cuda.is_available():
        return "torch sees no GPU" if torch.version.cuda else f"torch {torch.__version__} is a build without CUDA"
    number, count = int(name.partition(":")[2] or torch.cuda.current_device()), torch.cuda.device_count()
    if number >= count:
        return f"there are GPUs 0 to {count - 1}" if count > 1 else "there is one GPU, cuda:0"
    capability = torch.cuda.get_device_capability(number)
    for program, built in (("torch", torch.cuda.get_arch_list()), ("dcharge", cuda_architectures())):
        if built and not runs_on(built, capability):
            gpu = f"{torch.cuda.get_device_name(number)} has compute capability {capability[0]}.{capability[1]}"
            return f"{gpu}, {program} was built for {', '.join(built)}"
    return ""


def runs_on(architectures: list[str], capability: tuple[int, int]) -> bool:
    """Whether code for these architectures ('sm_80', 'sm_90a', 'PTX 80' or 'compute_80') runs on a GPU.

    Machine code runs on later GPUs of its major version, with the letter a only on its own; PTX is translated for
    every later GPU (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility").
    """
    for name in architectures:
        found = re.fullmatch(r"(sm_|PTX |compute_)(\d+)(\d)([af]?)", name)
        if not found:  # a kind of GPU that is none of NVIDIA's
            return True
        kind, major, minor, letter = found[1], int(found[2]), int(found[3]), found[4]
        if letter == "a":
            fits = capability == (major, minor)
        elif kind == "sm_" or letter == "f":
            fits = capability[0] == major and capability[1] >= minor
        else:
            fits = capability >= (major, minor)
        if fits:
            return True
    return False


def out_of_memory(error: RuntimeError, device) -> bool:
    """Whether an error of torch, in work on `device`, says that the GPU's memory is short.

    The compiled ops lose the text of torch's errors ("API call failed", before torch 2.13); what fails in them on a GPU
    is an allocation.
    """
    import torch

    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or (device.type == "cuda" and "API call failed" in text)
    )


class WithinMemory:
    """Calls a function of points in parts that the GPU's memory holds: halved whenever it runs out, which is said once.

    device  torch.device on which the function works
    n_max   points of a part; None: all at once
    """

    def __init__(self, device):
        self.device = device
        self.n_max: int | None = None

    def __call__(self, function, points) -> list:
        """The values of function(part of points) for the parts in turn. InputError where no part is small enough."""
        import torch

        while True:
            n = max(1, len(points) if self.n_max is None else min(len(points), self.n_max))
            try:
                return [function(points[i : i + n]) for i in range(0, max(len(points), 1), n)]
            except RuntimeError as error:
                if not out_of_memory(error, self.device):
                    raise
                if n <= LEAST_POINTS:
                    text = " ".join(str(error).split())
                    raise InputError(f"out of memory with {n} points at once (--device cpu?): {text}") from error
            # from here on the error, and with it the tensors of the failed attempt, is gone
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.n_max = max(LEAST_POINTS, n // 2)
            log.debug(f"GPU memory is short: {self.n_max} points at once")
            warn_once("memory", f"GPU memory is short: smaller tiles, {self.n_max} points at once or fewer")
