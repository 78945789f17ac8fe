"""Feed-forward networks: DeePMD-kit's residual rules and initialisation."""

import numpy as np
import pytest
import torch

from dcharge.config.deep_charge import ACTIVATIONS as WORDS
from dcharge.nn import ACTIVATIONS, BlockNetwork, Layer, Network, Output


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "n_in,n_out,resnet_dt", [(4, 4, True), (4, 4, False), (4, 8, True), (4, 6, True), (8, 4, True)]
)
def test_layer(n_in, n_out, resnet_dt):
    layer = Layer(n_in, n_out, "tanh", resnet_dt, torch.float64, generator())
    x = torch.randn(3, n_in, dtype=torch.float64, generator=generator(1))
    y = torch.tanh(x @ layer.weight.T + layer.bias)
    residual = n_in == n_out or 2 * n_in == n_out
    assert (layer.dt is not None) == (residual and resnet_dt)
    if layer.dt is not None:
        y = y * layer.dt
    if residual:
        y = y + (x if n_in == n_out else torch.cat([x, x], 1))
    torch.testing.assert_close(layer(x), y)


def test_initialisation():
    layer = Layer(300, 300, "tanh", True, torch.float64, generator())
    assert layer.weight.std().item() == pytest.approx(600**-0.5, rel=0.02)
    assert layer.bias.std().item() == pytest.approx(1.0, rel=0.15)
    assert layer.dt.mean().item() == pytest.approx(0.1, rel=0.01) and layer.dt.std().item() < 0.002


def test_precision_does_not_change_the_draw():
    a, b = (Network(2, [5, 10], dtype=d, generator=generator(3)) for d in (torch.float32, torch.float64))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.dtype == torch.float32 and torch.equal(p, q.float())


def test_output():
    layer = Output(3, 2, torch.float64, generator())
    x = torch.ones(1, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)
    assert not layer.bias.any()


@pytest.mark.parametrize("kind", ["silu_like", "tanh_like"])
@pytest.mark.parametrize("norm", [True, False])
def test_stacked_nets_are_the_nets(kind, norm):
    """Values and gradients, for one net and several; the same draws as one by one."""
    options = dict(activation=kind, layer_norm=norm, published=False, dtype=torch.float64)

    def nets(n):
        g = generator()
        every = [BlockNetwork(5, [4, 3], 2, generator=g, **options) for _ in range(n)]
        for net in every:
            for p in net.parameters():
                p.data += torch.randn(p.shape, generator=g, dtype=torch.float64)
        return every

    for n in (1, 3):
        x = torch.randn(n, 7, 5, dtype=torch.float64, generator=generator(1))
        one_by_one, stacked = nets(n), BlockNetwork.stacked(nets(n))
        expected, found = torch.stack([net(part) for net, part in zip(one_by_one, x, strict=True)]), stacked(x)
        torch.testing.assert_close(found, expected)
        expected.square().sum().backward()
        found.square().sum().backward()
        for name, p in stacked.named_parameters():
            every = torch.stack([net.get_parameter(name).grad for net in one_by_one])
            torch.testing.assert_close(p.grad, every.reshape(p.shape))


def test_activations_are_those_of_the_input():
    assert set(ACTIVATIONS) == set(WORDS.choices)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    v = x.numpy()
    expected = {
        "tanh": np.tanh(v),
        "relu": np.maximum(v, 0),
        "gelu": 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))),
        "silu": v / (1 + np.exp(-v)),
        "softplus": np.log1p(np.exp(v)),
        "sigmoid": 1 / (1 + np.exp(-v)),
        "linear": v,
    }
    for name, function in ACTIVATIONS.items():
        np.testing.assert_allclose(function(x).numpy(), expected[name], atol=1e-12)
