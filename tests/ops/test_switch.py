import pytest
import torch

from dcharge.ops import switch


def test_values_and_smoothness():
    r = torch.tensor([0.0, 0.5, 1.0, 2.5, 4.0, 9.0], dtype=torch.float64, requires_grad=True)
    w = switch(r, 4.0, 1.0)
    assert torch.allclose(w, torch.tensor([1, 1, 1, 0.5, 0, 0], dtype=torch.float64))
    (slope,) = torch.autograd.grad(w.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    ends = torch.tensor([True, True, True, False, True, True])
    assert slope[ends].abs().max() < 1e-14 and curvature[ends].abs().max() < 1e-13
    inside = torch.tensor([1.3, 2.0, 3.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda r: switch(r, 4.0, 1.0), inside)


def test_messages():
    with pytest.raises(ValueError, match="rcut_smth: 0 <= rcut_smth < rcut"):
        switch(torch.ones(2), 1.0, 1.0)
    with pytest.raises(TypeError, match="r: torch.float32 or torch.float64 expected"):
        switch(torch.ones(2, dtype=torch.int64), 2.0, 1.0)
    with pytest.raises(TypeError, match="r: a torch.Tensor expected, got float"):
        switch(1.0, 2.0, 1.0)
