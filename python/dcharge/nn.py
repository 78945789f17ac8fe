"""Feed-forward networks with DeePMD-kit's rules for residual connections and initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
}


class Layer(nn.Module):
    """y = act(W x + b) (* dt); plus x where the widths agree, plus [x, x] where the width doubles.

    Initialisation as in DeePMD-kit: W ~ N(0, 1/(n_in + n_out)), b ~ N(0, 1), dt ~ N(0.1, 0.001).
    """

    def __init__(self, n_in: int, n_out: int, activation: str, resnet_dt: bool, dtype, generator):
        super().__init__()
        self.activation = ACTIVATIONS[activation]

        def normal(shape, std, mean=0.0):
            return nn.Parameter((torch.randn(shape, generator=generator, dtype=torch.float64) * std + mean).to(dtype))

        self.weight = normal((n_out, n_in), (n_in + n_out) ** -0.5)
        self.bias = normal((n_out,), 1.0)
        self.skip = 1 if n_in == n_out else 2 if n_out == 2 * n_in else 0
        self.dt = normal((n_out,), 0.001, 0.1) if resnet_dt and self.skip else None

    def forward(self, x: Tensor) -> Tensor:
        """x [n, n_in] -> [n, n_out]."""
        y = self.activation(torch.nn.functional.linear(x, self.weight, self.bias))
        if self.dt is not None:
            y = y * self.dt
        if self.skip == 1:
            return y + x
        if self.skip == 2:
            return y + torch.cat([x, x], dim=-1)
        return y


class Network(nn.Sequential):
    """Layers of the given widths, without an output layer: [n, n_in] -> [n, widths[-1]]."""

    def __init__(self, n_in: int, widths, activation="tanh", resnet_dt=False, dtype=torch.float32, generator=None):
        sizes = [n_in, *widths]
        super().__init__(
            *(Layer(a, b, activation, resnet_dt, dtype, generator) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        )


class Output(nn.Module):
    """Linear output layer, DeePMD-kit's initialisation: [n, n_in] -> [n, n_out]."""

    def __init__(self, n_in: int, n_out: int, dtype=torch.float32, generator=None):
        super().__init__()
        weight = torch.randn((n_out, n_in), generator=generator, dtype=torch.float64) * (n_in + n_out) ** -0.5
        self.weight = nn.Parameter(weight.to(dtype))
        self.bias = nn.Parameter(torch.zeros(n_out, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x [n, n_in] -> [n, n_out]."""
        return torch.nn.functional.linear(x, self.weight, self.bias)
