"""Feed-forward networks: DeePMD-kit's residual layers, FIREANN's residual blocks with trainable activations, DeepDFT's
pairs of linear layers."""

from __future__ import annotations

import math

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


class Bend(nn.Module):
    """Activation with a trainable height alpha and steepness beta for every neuron (FIREANN's Relu_like, Tanh_like).

    silu_like: alpha SiLU(beta x); tanh_like: alpha x / sqrt(1 + (beta x)^2). x [..., width] -> [..., width].
    published: alpha and beta begin as in FIREANN, where features are large (beta = 1/n_in); else both with 1.
    """

    def __init__(self, kind: str, n_in: int, width: int, published: bool, dtype):
        super().__init__()
        self.kind = kind
        alpha, beta = (n_in**-0.5 if kind == "tanh_like" else 1.0, 1.0 / n_in) if published else (1.0, 1.0)
        self.alpha = nn.Parameter(torch.full((width,), alpha, dtype=dtype))
        self.beta = nn.Parameter(torch.full((width,), beta, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
        bent = x * self.beta
        if self.kind == "silu_like":
            return self.alpha * torch.nn.functional.silu(bent)
        return self.alpha * x * torch.rsqrt(1.0 + bent.square())


class Linear(nn.Module):
    """Linear layer; with stacked weights [n_nets, n_out, n_in] and x [n_nets, n, n_in] one for every net."""

    def __init__(self, n_in: int, n_out: int, std: float, dtype, generator):
        super().__init__()
        weight = torch.randn((n_out, n_in), generator=generator, dtype=torch.float64) * std
        self.weight = nn.Parameter(weight.to(dtype))
        self.bias = nn.Parameter(torch.zeros(n_out, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., n_in] -> [..., n_out]."""
        if self.weight.dim() == 3:
            return torch.baddbmm(self.bias, x, self.weight.transpose(1, 2))
        return torch.nn.functional.linear(x, self.weight, self.bias)


class Norm(nn.Module):
    """Layer norm with trainable height and shift: x [..., width] -> [..., width]."""

    def __init__(self, width: int, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(width, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
        return torch.addcmul(self.bias, torch.nn.functional.layer_norm(x, x.shape[-1:]), self.weight)


class BlockNetwork(nn.Module):
    """Linear layer, one residual block, activation, linear output: FIREANN's net for hidden widths [h, ...].

    x = first(features); y = act(x), (norm), linear, ... for every width; the block's last layer goes back to the first
    width and begins with zeros, as the output does: the untrained net gives zero.
    Weights: Xavier's normal distribution, biases zero.
    """

    def __init__(
        self, n_in: int, widths, n_out: int, *, activation: str, layer_norm: bool, published: bool, dtype, generator
    ):
        super().__init__()

        def linear(a, b, zero=False):
            return Linear(a, b, 0.0 if zero else (2.0 / (a + b)) ** 0.5, dtype, generator)

        sizes, before = [*widths, widths[0]], n_in
        self.first = linear(n_in, widths[0])
        block = []
        for k, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            block.append(Bend(activation, before, a, published, dtype))
            if layer_norm:
                block.append(Norm(a, dtype))
            block.append(linear(a, b, zero=k == len(widths) - 1))
            before = a
        self.block = nn.Sequential(*block)
        self.last_activation = Bend(activation, before, widths[0], published, dtype)
        self.output = linear(widths[0], n_out, zero=True)

    @classmethod
    def stacked(cls, nets: list[BlockNetwork]) -> BlockNetwork:
        """One module that evaluates nets of the same shape at once: [n_nets, n, n_in] -> [n_nets, n, n_out].

        Weights [n_nets, n_out, n_in]; vectors [n_nets, 1, width], so that they meet the rows of their net.
        """
        stack = nets[0]
        for module, *others in zip(*(net.modules() for net in nets), strict=True):
            for name, first in list(module.named_parameters(recurse=False)):
                every = torch.stack([first.detach(), *(getattr(m, name).detach() for m in others)])
                setattr(module, name, nn.Parameter(every if first.dim() == 2 else every[:, None]))
        return stack

    def after_first(self, x: Tensor) -> Tensor:
        """The last hidden values [..., widths[0]] from the first layer's x [..., widths[0]]."""
        return self.last_activation(x + self.block(x))

    def forward(self, features: Tensor) -> Tensor:
        """features [..., n_in] -> [..., n_out]."""
        return self.output(self.after_first(self.first(features)))


def linear(n_in: int, n_out: int, dtype, generator, bias: bool = True) -> nn.Linear:
    """Linear layer, initialised as by torch: weights and biases uniform within 1/sqrt(n_in), from `generator`."""
    layer = nn.Linear(n_in, n_out, bias=bias, dtype=dtype)
    for p in layer.parameters():
        drawn = (2 * torch.rand(p.shape, generator=generator, dtype=torch.float64) - 1) * n_in**-0.5
        p.data.copy_(drawn)
    return layer


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x), in place of x where no gradient is recorded."""
    return torch.nn.functional.silu(x, inplace=not x.requires_grad)


def shifted_softplus(x: Tensor) -> Tensor:
    """ln(1 + e^x) - ln 2, x - ln 2 above 20 (SchNet); in place of x where no gradient is recorded."""
    if x.requires_grad or x.is_cuda or not x.numel() or x.amax() > 20.0:
        return torch.nn.functional.softplus(x) - math.log(2.0)
    return x.exp_().add_(1.0).mul_(0.5).log_()  # half the time, absolute error of the rounding of 1


class TwoLayers(nn.Module):
    """second(activation(first(x))): [n, widths[0]] -> [n, widths[2]]."""

    def __init__(self, widths: tuple[int, int, int], activation, dtype, generator):
        super().__init__()
        self.activation = activation
        self.first = linear(*widths[:2], dtype, generator)
        self.second = linear(*widths[1:], dtype, generator)

    def after_first(self, x: Tensor) -> Tensor:
        """[n, widths[2]] from the first layer's output x [n, widths[1]], which is overwritten where gradients allow."""
        return self.second(self.activation(x))

    def forward(self, x: Tensor) -> Tensor:
        """x [n, widths[0]] -> [n, widths[2]]."""
        return self.after_first(self.first(x))
