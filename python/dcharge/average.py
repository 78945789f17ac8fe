"""Exponential moving average of the weights."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from .models import Model


class Average:
    """Exponential moving average of the trainable parameters, with the usual warm-up of its decay."""

    def __init__(self, model: Model, decay: float):
        self.decay, self.count = decay, 0
        self.values = {k: p.detach().clone() for k, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Mix in the present parameters."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        names, present = zip(*model.named_parameters(), strict=True)
        torch._foreach_lerp_([self.values[k] for k in names], list(present), 1.0 - decay)  # one call for all

    @contextmanager
    def applied(self, model: Model):
        """Inside the `with` block the model has the averaged parameters, after it its own, also after an interrupt."""
        held = {k: p.detach().clone() for k, p in model.named_parameters()}
        try:
            model.load_state_dict(self.values, strict=False)
            yield
        finally:
            model.load_state_dict(held, strict=False)
