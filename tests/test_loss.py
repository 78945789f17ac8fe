"""Losses, by hand."""

import numpy as np
import pytest
import torch

from dcharge.loss import make_loss

PREDICTED, REFERENCE = torch.tensor([[1.0], [2.0], [0.0]]), torch.tensor([[0.5], [2.0], [2.0]])
WEIGHT = torch.tensor([0.5, 0.5, 2.0])  # errors 0.5, 0, -2


@pytest.mark.parametrize(
    "config, costs",
    [
        ({"type": "mse"}, [0.25, 0.0, 4.0]),
        ({"type": "mae"}, [0.5, 0.0, 2.0]),
        ({"type": "huber", "delta": 1.0}, [0.125, 0.0, 1.5]),
        ({"type": "huber", "delta": 0.1}, [0.045, 0.0, 0.195]),
    ],
)
def test_loss(config, costs):
    plain, weighted = (make_loss({**config, "weights": w}) for w in ("none", "importance"))
    assert plain(PREDICTED, REFERENCE, WEIGHT).item() == pytest.approx(np.mean(costs))
    assert weighted(PREDICTED, REFERENCE, WEIGHT).item() == pytest.approx(np.mean(costs * WEIGHT.numpy()))


def test_huber_is_smooth():
    loss = make_loss({"type": "huber", "delta": 0.01, "weights": "none"})
    slopes = []
    for e in (0.01 - 1e-9, 0.01 + 1e-9):
        x = torch.tensor([[e]], dtype=torch.float64, requires_grad=True)
        loss(x, torch.zeros(1, 1), torch.ones(1)).backward()
        slopes.append(x.grad.item())
    assert slopes == pytest.approx([0.01, 0.01], rel=1e-6)
