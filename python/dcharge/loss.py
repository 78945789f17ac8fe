"""Losses between predicted and reference density."""

from __future__ import annotations

from torch import Tensor


def pointwise(kind: str, delta: float = 1.0):
    """Function error [n, n_channels] -> cost [n, n_channels]: squared, absolute or Huber's."""
    if kind == "mse":
        return lambda e: e.square()
    if kind == "mae":
        return lambda e: e.abs()
    return lambda e: (0.5 * e.square()).where(e.abs() <= delta, delta * (e.abs() - 0.5 * delta))


def make_loss(config: dict):
    """Loss (predicted [n, c], reference [n, c], weight [n]) -> scalar, from the `loss` section of the input.

    weights "importance" multiplies each point by its sampling weight (mean 1), which makes the loss an
    unbiased estimate of that over the whole grid; "none" trains on the sampled points as they are.
    """
    cost = pointwise(config["type"], config.get("delta", 1.0))
    weighted = config["weights"] == "importance"

    def loss(predicted: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
        value = cost(predicted - reference)
        return (value * weight[:, None]).mean() if weighted else value.mean()

    return loss
