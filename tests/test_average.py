"""The moving average of weights."""

import torch

from dcharge.average import Average


def test_average():
    model = torch.nn.Linear(2, 1)
    average, first = Average(model, 0.5), model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1.0
    average.update(model)
    decay = min(0.5, 2 / 11)
    assert torch.allclose(average.values["weight"], first * decay + (first + 1) * (1 - decay))
    with average.applied(model):
        assert torch.equal(model.weight, average.values["weight"])
    assert torch.equal(model.weight, first + 1)
