"""The optimiser, and its learning rate as a function of the step (and, for `plateau`, of the validation error)."""

from __future__ import annotations

import math

import torch


class Schedule:
    """`learning_rate` section -> rate per step.

    exp      start_lr * rate^(step // decay_steps), rate such that stop_lr is reached at numb_steps (DeePMD-kit's rule)
    cosine   half a cosine from start_lr to stop_lr
    step     start_lr * gamma^(step // step_size)
    plateau  start_lr * factor^k, k counts how often `patience` validations (or epochs) in a row brought no gain
    Each is preceded by a linear rise over warmup_steps.
    """

    def __init__(self, config: dict, numb_steps: int):
        self.config, self.numb_steps = config, numb_steps
        self.state = {"drops": 0, "best": math.inf, "waited": 0}

    def rate(self, step: int) -> float:
        """Learning rate of `step`, counted from 0."""
        c, start = self.config, self.config["start_lr"]
        warmup = c.get("warmup_steps", 0)
        if step < warmup:
            return start * (step + 1) / warmup
        done, total = step - warmup, max(1, self.numb_steps - warmup)
        if c["type"] == "exp":
            decay = (c["stop_lr"] / start) ** (c["decay_steps"] / total)
            return start * decay ** (done // c["decay_steps"])
        if c["type"] == "cosine":
            return c["stop_lr"] + 0.5 * (start - c["stop_lr"]) * (1 + math.cos(math.pi * done / total))
        if c["type"] == "step":
            return start * c["gamma"] ** (done // c["step_size"])
        return self._plateau()

    def _plateau(self) -> float:
        """The rate after the drops so far."""
        return self.config["start_lr"] * self.config["factor"] ** self.state["drops"]

    def observe(self, error: float, epochs: float = 1.0) -> None:
        """Tell the schedule a validation error, `epochs` after the last one (only `plateau` listens)."""
        if self.config["type"] != "plateau":
            return
        s = self.state
        if error < s["best"]:
            s["best"], s["waited"] = error, 0
        else:
            s["waited"] += epochs if self.config["patience_unit"] == "epochs" else 1
            if s["waited"] >= self.config["patience"] * (1 - 1e-9):
                s["drops"], s["waited"] = s["drops"] + 1, 0

    def finished(self) -> bool:
        """Whether training ends before numb_steps: plateau below stop_lr (the small rates of warm-up do not count)."""
        return self.config["type"] == "plateau" and self._plateau() < self.config["stop_lr"]


def make_optimizer(config: dict, parameters, rate: float):
    """torch optimiser from the `optimizer` section."""
    options = {k: v for k, v in config.items() if k != "type"}
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    # one kernel for all parameters instead of a loop over them
    return kinds[config["type"]](parameters, lr=rate, fused=True, **options)
