"""Is every op right on the device? The yardstick is the CPU in float64."""

from __future__ import annotations

import time
import traceback

import torch

from .model import Setting
from .ops import OPS
from .systems import random_system

TOLERANCE = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-5, 1e-4)}  # values, gradients; relative to the maximum
DTYPES = (torch.float64, torch.float32)


class Checks:
    """Runs checks one by one, prints a line for each and keeps the results; an exception is a failed check."""

    def __init__(self):
        self.results: list[dict] = []

    def __call__(self, name: str, check) -> None:
        """check() returns (error, tolerance), or None where it only has to pass."""
        start = time.perf_counter()
        try:
            found, words = check(), ""
            good = found is None or found[0] <= found[1]
        except Exception as error:  # whatever goes wrong on the device belongs into the report
            found, good, words = None, False, f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
            if not str(error).strip():
                words = traceback.format_exc().splitlines()[-1]
        row = {"name": name, "ok": good, "seconds": time.perf_counter() - start}
        if found is not None:
            row |= {"error": found[0], "tolerance": found[1]}
            words = f"error {found[0]:.1e}, at most {found[1]:.0e}"
        if words:
            row["words"] = words
        self.results.append(row)
        print(f"{'ok    ' if good else 'FAILED'} {name}{': ' if words else ''}{words}", flush=True)

    @property
    def failed(self) -> list[str]:
        """Names of what failed."""
        return [row["name"] for row in self.results if not row["ok"]]


def flat(result) -> list[torch.Tensor]:
    """The tensors of a result, on the CPU."""
    return [t.detach().cpu() for t in (result if isinstance(result, tuple | list) else (result,))]


def worst(found, exact) -> float:
    """Largest deviation relative to the largest magnitude; infinite where shapes differ or a number is not finite."""
    error = 0.0
    for x, y in zip(flat(found), flat(exact), strict=True):
        if x.shape != y.shape or not torch.isfinite(x.double()).all():
            return float("inf")
        if x.numel() == 0:
            continue
        if not x.is_floating_point():
            error = max(error, 0.0 if torch.equal(x, y) else float("inf"))
            continue
        scale = max(float(y.double().abs().max()), 1e-30)
        error = max(error, float((x.double() - y.double()).abs().max()) / scale)
    return error


def evaluated(name: str, system, dtype):
    """(values, gradients) of an op, gradients of a fixed random sum of its values."""
    call, inputs, _ = OPS[name].make(system, dtype)
    inputs = [t.clone().requires_grad_() for t in inputs]
    values = call(*inputs)
    if not inputs:
        return values, ()
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(values.shape, dtype=torch.float64, generator=generator).to(values.device, values.dtype)
    return values.detach(), torch.autograd.grad((values * weight).sum(), inputs)


def compare(check: Checks, name: str, words: str, system, dtype, device, exact) -> None:
    """Values and gradients of one op in one precision."""
    found = []

    def values():
        found.extend(evaluated(name, system.to(device), dtype))
        # a gradient that is an op of its own has the tolerance of gradients
        return worst(found[0], exact[0]), TOLERANCE[dtype][name.endswith("_backward")]

    check(words, values)
    if exact[1] and found:
        check(f"{words}, gradients", lambda: (worst(found[1], exact[1]), TOLERANCE[dtype][1]))


def registration(check: Checks, name: str, device) -> None:
    """gradcheck and opcheck on a small system."""
    small = random_system(2, 5, n_frames=2, n_atoms=3, n_radial=4, width=5).to(device)
    call, inputs, arguments = OPS[name].make(small, torch.float64)
    leaves = [t.clone().requires_grad_() for t in inputs]

    def gradients():
        # sums by atomic additions differ in their last digits from run to run
        torch.autograd.gradcheck(call, leaves, atol=1e-6, nondet_tol=1e-10, fast_mode=True)

    def op():
        torch.library.opcheck(getattr(torch.ops.dcharge, name).default, arguments)

    if leaves:
        check(f"{name}, gradcheck", gradients)
    if hasattr(torch.ops.dcharge, name):
        check(f"{name}, opcheck", op)


def op_checks(check: Checks, device, quick: bool) -> None:
    """Every op: small and large systems, all angular orders, one and several passes of functions, no points."""
    shapes = [(37, dict()), (700, dict(l_max=3, n_radial=9)), (300, dict(l_max=2, n_radial=21, width=80)), (0, dict())]
    if not quick:
        shapes += [(20_000, dict(l_max=1, n_radial=32)), (5000, dict(l_max=0, n_radial=40)), (130, dict(n_radial=1))]
    for name in OPS:
        for seed, (n_points, sizes) in enumerate(shapes):
            system = random_system(seed, n_points, n_frames=1 + seed % 3, **sizes)
            exact = evaluated(name, system, torch.float64)
            text = "".join(f", {k} {v}" for k, v in sizes.items())
            for dtype in DTYPES:
                words = f"{name}, {n_points} points{text}, {str(dtype).removeprefix('torch.')}"
                compare(check, name, words, system, dtype, device, exact)
        registration(check, name, device)


def model_checks(check: Checks, device) -> None:
    """A training step and a whole grid, on the device and on the CPU."""
    for precision, dtype in (("float64", torch.float64), ("float32", torch.float32)):

        def step(precision=precision, dtype=dtype):
            here, there = Setting("cpu", precision), Setting(device, precision)
            (loss, gradients), (found_loss, found) = here.step(), there.step()
            error = max(worst(found[n], g) for n, g in gradients.items())
            return max(error, abs(found_loss - loss) / abs(loss)), 10 * TOLERANCE[dtype][1]

        def grid(precision=precision, dtype=dtype):
            here, there = (torch.from_numpy(Setting(where, precision).grid()) for where in ("cpu", device))
            return worst(there, here), 10 * TOLERANCE[dtype][0]

        check(f"training step, {precision}", step)
        check(f"whole grid, {precision}", grid)
