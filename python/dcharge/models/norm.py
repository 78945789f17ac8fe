"""Batch norm whose statistics are given from outside, because they are sums over edges that are never listed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """(x - mean)/sqrt(variance + eps) weight + bias, per channel, as a scale and a shift.

    Stored statistics follow those of the training batches as in torch.nn.BatchNorm1d (momentum 0.1, unbiased variance).
    """

    def __init__(self, width: int, dtype, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(width, dtype=dtype))
        self.register_buffer("running_mean", torch.zeros(width, dtype=dtype))
        self.register_buffer("running_var", torch.ones(width, dtype=dtype))

    def affine(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift [width] of these statistics."""
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return scale, self.bias - mean * scale

    def stored(self) -> tuple[Tensor, Tensor]:
        """Scale and shift [width] of the stored statistics."""
        return self.affine(self.running_mean, self.running_var)

    def of(self, mean: Tensor, variance: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Scale and shift [width] of a batch of n rows, whose mean and (biased) variance [width] are noted.

        Without at least two rows there is no variance: the stored statistics then."""
        if n < 2:
            return self.stored()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / (n - 1)), self.momentum)
        return self.affine(mean, variance)
