"""Exponential moving average of the weights, and of the batch norms' statistics, which belong to them."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from .models import Model

STATISTICS = ("running_mean", "running_var")


def averaged(model: Model):
    """(name, tensor) of everything that is averaged: the trainable parameters and the statistics of batch norms."""
    yield from model.named_parameters()
    yield from ((k, b) for k, b in model.named_buffers() if k.endswith(STATISTICS))


class Average:
    """Exponential moving average of what `averaged` names, with the usual warm-up of its decay."""

    def __init__(self, model: Model, decay: float):
        self.decay, self.count = decay, 0
        self.values = {k: p.detach().clone() for k, p in averaged(model)}

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Mix in the present parameters."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        names, present = zip(*averaged(model), strict=True)
        torch._foreach_lerp_([self.values[k] for k in names], list(present), 1.0 - decay)  # one call for all

    @contextmanager
    def applied(self, model: Model):
        """Inside the `with` block the model has the averaged parameters, after it its own, also after an interrupt."""
        held = {k: p.detach().clone() for k, p in averaged(model)}
        try:
            model.load_state_dict(self.values, strict=False)
            yield
        finally:
            model.load_state_dict(held, strict=False)
