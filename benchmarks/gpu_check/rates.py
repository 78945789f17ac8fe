"""How fast is every op, beside the limit counted from its work and the rates measured in the same run?"""

from __future__ import annotations

import statistics
import time

import torch

from .model import Setting
from .ops import OPS
from .systems import crystal


class Clock:
    """Median seconds of a call: events on a GPU, wall time elsewhere."""

    def __init__(self, device, repeats: int):
        self.gpu, self.repeats = torch.device(device).type == "cuda", repeats

    def __call__(self, call) -> float:
        for _ in range(2):
            call()
        return statistics.median(self._once(call) for _ in range(self.repeats))

    def _once(self, call) -> float:
        if not self.gpu:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        return 1e-3 * begin.elapsed_time(end)


def peaks(device, clock: Clock, quick: bool) -> dict[str, float]:
    """Multiply-adds/s of the best plain float32 and float64 matrix product, bytes/s of the best copy."""
    n = 512 if quick else 8192
    torch.backends.cuda.matmul.allow_tf32 = False
    found = {}
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        a = torch.randn(n, n, device=device, dtype=dtype)
        b = torch.empty_like(a)
        found[name] = n**3 / clock(lambda a=a, b=b: torch.mm(a, a, out=b))
    source = torch.zeros(1 << (22 if quick else 28), device=device)
    target = torch.empty_like(source)
    found["bytes"] = 2 * source.numel() * 4 / clock(lambda: target.copy_(source))
    return found


def rows(device, quick: bool) -> dict[str, dict]:
    """Rows for the table of `python -m benchmarks`."""
    clock = Clock(device, 3 if quick else 15)
    peak = peaks(device, clock, quick)
    out = {
        "float32 multiply-adds (matrix product)": {"value": peak["float32"], "unit": "/s"},
        "copy": {"value": 1e-6 * peak["bytes"], "unit": "MB/s"},
    }
    n_points = 2048 if quick else 1 << 19
    for dtype, name in ((torch.float32, "float32"), (torch.float64, "float64")):
        system = crystal(n_points, 2 if quick else 8).to(device)
        for op, entry in OPS.items():
            if entry.flops is None:
                continue
            call, inputs, _ = entry.make(system, dtype)
            with torch.no_grad():
                seconds = clock(lambda call=call, inputs=inputs: call(*inputs))
            work = n_points * entry.flops(system)
            traffic = n_points * entry.traffic(system, dtype.itemsize)
            limit = max(work / peak[name], traffic / peak["bytes"])
            reached = f"{1e-9 * traffic / seconds:.3g} GB/s, {2e-12 * work / seconds:.3g} TFLOP/s"
            out[f"{op}, {name}"] = {
                "seconds": seconds,
                "value": n_points / seconds,
                "unit": "points/s",
                "ratio": limit / seconds,
                "of": f"of the counted limit; {reached}",
                "flop_per_s": 2 * work / seconds,
                "gb_per_s": 1e-9 * traffic / seconds,
            }
            torch.cuda.empty_cache()
    setting = Setting(device, "float32", 512 if quick else 1 << 17)
    n = len(setting.points)
    seconds = clock(setting.step)
    out["training step, float32"] = {"seconds": seconds, "value": n / seconds, "unit": "points/s"}
    with torch.inference_mode():
        seconds = clock(
            lambda: setting.model.decode(setting.model.encode(setting.batch), setting.points, setting.frame)
        )
    out["prediction, float32"] = {"seconds": seconds, "value": n / seconds, "unit": "points/s"}
    return out
