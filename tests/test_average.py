"""The moving average of weights."""

import torch

from dcharge.average import Average


def test_statistics_are_averaged():
    """The statistics of batch norms belong to the weights that made them."""
    model = torch.nn.BatchNorm1d(1)
    average = Average(model, 0.5)
    model(torch.tensor([[3.0], [5.0]]))
    average.update(model)
    held, decay = model.running_mean.clone(), 2 / 11
    assert held == 0.4 and torch.allclose(average.values["running_mean"], held * (1 - decay))
    with average.applied(model):
        assert torch.equal(model.running_mean, average.values["running_mean"])
    assert torch.equal(model.running_mean, held)
    assert "num_batches_tracked" not in average.values


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
