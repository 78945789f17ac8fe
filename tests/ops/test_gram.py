import pytest
import torch
from cases import relative_error, tolerance

from dcharge.ops import gram
from dcharge.ops.gram import gram_reference

SIZES = [(1, 80, [16], "joint"), (1, 20, [5], "joint"), (0, 9, [9], "joint"), (2, 23, [20, 3, 8], "per_l"),
         (3, 40, [33], "joint"), (3, 6, [1, 2, 3, 4], "per_l")]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l_max, m, axis, mode", SIZES)
def test_forward_and_gradient(backend, l_max, m, axis, mode, dtype):
    a = torch.randn(70, (l_max + 1) ** 2, m, dtype=torch.float64, generator=torch.manual_seed(0)).requires_grad_()
    exact = gram_reference(a, axis, mode == "per_l")
    weight = torch.randn(exact.shape, dtype=torch.float64, generator=torch.manual_seed(1))
    b = a.detach().to(dtype).requires_grad_()
    d = gram(b, axis, mode)
    assert relative_error(d, exact) < tolerance(dtype)
    (gradient,) = torch.autograd.grad(d, b, weight.to(dtype))
    assert relative_error(gradient, torch.autograd.grad(exact, a, weight)[0]) < tolerance(dtype, gradient=True)


@pytest.mark.parametrize("l_max, m, axis, mode", [(1, 5, [3], "joint"), (2, 4, [1, 2, 4], "per_l")])
def test_gradcheck(backend, l_max, m, axis, mode):
    a = torch.randn(3, (l_max + 1) ** 2, m, dtype=torch.float64, generator=torch.manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: gram(a, axis, mode), a)
    assert torch.autograd.gradgradcheck(lambda a: gram(a, axis, mode), a)


def test_layouts(backend):
    a = torch.randn(8, 20, 4).transpose(1, 2)
    assert torch.allclose(gram(a, 5), gram(a.contiguous(), 5))
    assert gram(a[:0], 5).shape == (0, 100)


@pytest.mark.parametrize("a, axis, mode, error, text", [
    (torch.zeros(2, 3, 4), 2, "joint", ValueError, "a: 1, 4, 9 or 16 components expected, got 3"),
    (torch.zeros(2, 4), 2, "joint", ValueError, r"a: shape \[n, n, n\] expected"),
    (torch.zeros(2, 4, 4).int(), 2, "joint", TypeError, "a: torch.float32 or torch.float64 expected"),
    (torch.zeros(2, 4, 4), 5, "joint", ValueError, "axis_neuron: an integer in 1..4"),
    (torch.zeros(2, 4, 4), [2], "per_l", ValueError, "axis_neuron: 2 integers expected"),
    (torch.zeros(2, 4, 4), 2, "sum", ValueError, "gram: 'joint' or 'per_l'"),
])  # fmt: skip
def test_messages(backend, a, axis, mode, error, text):
    with pytest.raises(error, match=text):
        gram(a, axis, mode)
