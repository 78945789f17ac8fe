"""message_network against its parts in torch, for every instruction set."""

import pytest
import torch
from cases import relative_error, tolerance
from test_pair_messages import RCUT, pairs

from dcharge.ops import MessageLayer, MessageNetwork, message_network

DTYPES = (torch.float32, torch.float64)
SIZES = [(128, 256, 6), (16, 32, 3), (21, 42, 2), (3, 6, 2), (1, 2, 1), (100, 200, 2)]  # F, H, layers


def network(n_features, n_hidden, n_layers, dtype=torch.float64, n_knots=40) -> MessageNetwork:
    """Random weights of the size that keeps states of order one."""
    g = torch.Generator().manual_seed(n_features)

    def normal(*shape, size=1.0):
        return (size * torch.randn(*shape, generator=g, dtype=torch.float64)).to(dtype)

    def two():
        return tuple((normal(n_features, n_features, size=n_features**-0.5), normal(n_features)) for _ in range(2))

    layers = []
    for t in range(n_layers):
        receiver = normal(n_hidden, n_features, size=n_features**-0.5)
        node = normal(n_features, n_hidden, size=n_hidden**-0.5), normal(n_features)
        layers.append(
            MessageLayer(normal(n_knots, n_features, size=0.3), two(), two(), *((receiver, node) if t else ()))
        )
    return MessageNetwork(layers, RCUT)


def given(sizes, dtype, n=23, n_atoms=7, most=9):
    """first, sent and the pairs."""
    n_features, n_hidden, n_layers = sizes
    g = torch.Generator().manual_seed(1)
    first = torch.randn(n_atoms, n_features, generator=g, dtype=torch.float64).to(dtype)
    sent = torch.randn(n_layers - 1, n_atoms, n_hidden, generator=g, dtype=torch.float64).to(dtype)
    return first, sent, *pairs(n, n_atoms, most)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_kernel_is_the_reference(backend, sizes, dtype):
    inputs = given(sizes, dtype)
    nets = network(*sizes, dtype), network(*sizes, dtype).pack()
    expected, found = (message_network(*inputs, net) for net in nets)
    assert found.dtype == dtype and found.shape == expected.shape == (23, sizes[0])
    assert relative_error(found, expected) < tolerance(dtype)
    lonely = expected[[0, 23 // 2, -1]]  # points without pairs are alike, and not zero
    assert lonely.abs().max() > 1e-3 and (lonely - lonely[:1]).abs().max() < 1e-5


def test_a_point_does_not_depend_on_the_others(backend):
    """Blocks of points end anywhere: parts of the points, and many of them."""
    sizes = (21, 42, 3)
    net = network(*sizes).pack()
    first, sent, offset, atom, distance = given(sizes, torch.float64, n=500)
    whole = message_network(first, sent, offset, atom, distance, net)
    for begin, end in ((0, 1), (3, 99), (95, 97), (123, 500), (7, 7)):
        some = slice(offset[begin], offset[end])
        part = message_network(first, sent, offset[begin : end + 1] - offset[begin], atom[some], distance[some], net)
        assert relative_error(part, whole[begin:end]) < 1e-12 if end > begin else part.shape == (0, 21)


def test_same_bits_for_any_number_of_threads(backend):
    sizes, threads = (16, 32, 3), torch.get_num_threads()
    net, inputs = network(*sizes, torch.float32).pack(), given(sizes, torch.float32, n=700)
    try:
        found = []
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(message_network(*inputs, net))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_bad_arguments():
    sizes = (6, 12, 2)
    net, inputs = network(*sizes), given(sizes, torch.float64)
    first, sent, offset, atom, distance = inputs
    with pytest.raises(ValueError, match="sent"):
        message_network(first, sent[:0], offset, atom, distance, net)
    with pytest.raises(ValueError, match="pair_offset: values must grow"):
        message_network(first, sent, offset.flip(0), atom, distance, net)
    with pytest.raises(ValueError, match="pair_atom"):
        message_network(first, sent, offset, atom + 7, distance, net)
    with pytest.raises(ValueError, match="distance: values in 0"):
        message_network(first, sent, offset, atom, distance + RCUT, net)
    with pytest.raises(RuntimeError, match="no gradients"):
        message_network(first.requires_grad_(), sent, offset, atom, distance, net)


def test_direct_calls_are_checked(compiled):
    sizes = (16, 32, 2)
    inputs, packed = given(sizes, torch.float64), network(*sizes).pack().packed
    for k, text in ((0, "table"), (1, "weights"), (2, "vectors")):
        less = list(packed)
        less[k] = less[k][..., :5].contiguous()
        with pytest.raises(RuntimeError, match=text):
            torch.ops.dcharge.message_network(*inputs, *less)
    first, sent, offset, atom, distance = inputs
    for change, text in (
        ((first, sent, offset, atom + 7, distance), "pair_atom"),
        ((first, sent, offset + 1, atom, distance), "pair_offset"),
        ((first, sent, offset, atom, distance - 9), "distance"),
        ((first[:, :5], sent, offset, atom, distance), "table"),
    ):
        with pytest.raises(RuntimeError, match=text):
            torch.ops.dcharge.message_network(*change, *packed)
