"""moments_network against its reference in torch, for every instruction set, and the reference against its parts."""

import pytest
import torch
from cases import relative_error, tolerance

from dcharge.ops import FittingLayer, MomentsNetwork, contract, gram, library, moments_network
from dcharge.ops.moments_network import fold, folded_columns, moments_network_reference

DTYPES = (torch.float32, torch.float64)
SIZES = {  # n_types, l_max, n_radial, M, axis, per_l, widths, n_out
    "paper": (1, 1, 20, 80, [16], False, [200, 200, 200], 1),
    "per degree": (2, 3, 20, 40, [16, 12, 8, 4], True, [40, 40], 1),
    "odd": (2, 2, 7, 13, [5, 13, 1], True, [10, 20, 33], 2),
    "smallest": (1, 0, 4, 1, [1], False, [1], 1),
    "all columns": (3, 1, 8, 40, [40], False, [24, 48], 3),
}


def network(sizes, dtype, n, bf16=False):
    """Moments [n, ...] and a network with random weights; widths that repeat or double have skip connections."""
    n_types, l_max, n_radial, m, axis, per_l, widths, n_out = sizes
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    moments = normal(n, n_types, (l_max + 1) ** 2, n_radial)
    layers, before = [], m * sum(axis)
    for i, width in enumerate(widths):
        skip = {before: 1, 2 * before: 2}.get(width, 0) if i else 0
        weight = normal(width, before) * before**-0.5
        layers.append(FittingLayer(weight, normal(width), normal(width) if skip == 1 else None, skip))
        before = width
    coefficients = normal(n_types, l_max + 1, n_radial, m) * (n_types * n_radial) ** -0.5
    output = (normal(n_out, before), normal(n_out))
    return moments, MomentsNetwork(coefficients, normal(m), axis, per_l, layers, output, bf16)


@pytest.mark.parametrize("n", [0, 1, 47, 48, 301])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_kernel_is_the_reference(backend, sizes, dtype, n):
    moments, net = network(SIZES[sizes], dtype, n)
    expected, found = moments_network_reference(moments, net), moments_network(moments, net.pack())
    assert found.dtype == dtype and found.shape == (n, SIZES[sizes][-1])
    assert n == 0 or relative_error(found, expected) < tolerance(dtype)


@pytest.mark.parametrize("sizes", SIZES)
def test_bfloat16_rounds_operands_only(backend, sizes):
    """Kernels with and without bfloat16 instructions agree with rounding in torch; the rounding itself is seen."""
    moments, net = network(SIZES[sizes], torch.float32, 100, bf16=True)
    expected, found = moments_network_reference(moments, net), moments_network(moments, net.pack())
    # an operand at the edge between two bfloat16 numbers may fall on either side: rare, and 2^-8 of one operand
    assert relative_error(found, expected) < 2e-3
    assert (found - expected).abs().median() < 1e-5 * expected.abs().max()
    if sizes == "paper":
        exact = moments_network_reference(*network(SIZES[sizes], torch.float32, 100))
        assert 1e-4 < relative_error(found, exact) < 2e-2


@pytest.mark.parametrize("sizes", SIZES)
def test_reference_is_its_parts(sizes):
    """P.C, Gram matrix and layers one by one, written out."""
    moments, net = network(SIZES[sizes], torch.float64, 20)
    x = gram(contract(moments, net.coefficients, net.offset), net.axis, "per_l" if net.per_l else "joint")
    for layer in net.layers:
        y = torch.tanh(x @ layer.weight.T + layer.bias) * (1.0 if layer.dt is None else layer.dt)
        x = y + (x if layer.skip == 1 else torch.cat([x, x], 1) if layer.skip == 2 else 0.0)
    assert relative_error(moments_network_reference(moments, net), x @ net.output[0].T + net.output[1]) < 1e-13


def test_folding_is_exact():
    moments, net = network(SIZES["per degree"], torch.float64, 5)
    d = gram(contract(moments, net.coefficients, net.offset), net.axis, "per_l")
    weight = net.layers[0].weight
    kept = folded_columns(d, 40, net.axis)
    assert kept.shape[1] == sum(a * (a + 1) // 2 + (40 - a) * a for a in net.axis) < d.shape[1]
    assert relative_error(kept @ fold(weight, 40, net.axis).T, d @ weight.T) < 1e-13


def test_nan_comes_out(backend):
    """A damaged weight or moment must not vanish in a clamp or a rounding."""
    for bf16 in (False, True):
        moments, net = network(SIZES["paper"], torch.float32, 60, bf16)
        net.layers[1].weight[3, 5] = float("nan")
        assert moments_network(moments, net.pack()).isnan().all()
        moments, net = network(SIZES["paper"], torch.float32, 60, bf16)
        moments[7] = float("nan")
        assert moments_network(moments, net.pack()).isnan().flatten().nonzero().flatten().tolist() == [7]
        # padded columns behind [x, x] must not carry it to the points of the next block
        moments, net = network((1, 1, 4, 8, [2], False, [64, 12, 24, 5], 1), torch.float32, 200, bf16)
        moments[7] = float("nan")
        assert moments_network(moments, net.pack()).isnan().flatten().nonzero().flatten().tolist() == [7]


def test_sizes_that_do_not_fit(backend):
    moments, net = network(SIZES["odd"], torch.float32, 4)
    packed = list(net.pack().packed)
    for place, wrong, words in ((5, packed[5][:-1], "weights"), (6, packed[6][1:], "vectors"), (8, [1, 0, 0], "skips"),
                                (1, packed[1][:3], "offset"), (3, [5, 14, 1], "axis")):  # fmt: skip
        arguments = [*packed[:place], wrong, *packed[place + 1 :]]
        with pytest.raises(RuntimeError, match=words):
            torch.ops.dcharge.moments_network(moments, *arguments)
    with pytest.raises(RuntimeError, match="coefficients"):
        torch.ops.dcharge.moments_network(moments[:, :, :, 1:], *packed)


def test_pairs_are_for_one_instruction_set():
    """Weights packed for one set of kernels are refused by another, not misread."""
    moments, net = network(SIZES["paper"], torch.float32, 4, bf16=True)
    before = library.isa()
    if not library.bfloat16_pairs():
        pytest.skip("no bfloat16 instructions here")
    net.pack()
    try:
        library.select_isa("baseline")
        with pytest.raises(RuntimeError, match="bfloat16"):
            moments_network(moments, net)
    finally:
        library.select_isa(before)


def test_opcheck(backend):
    moments, net = network(SIZES["odd"], torch.float64, 6)
    torch.library.opcheck(torch.ops.dcharge.moments_network.default, (moments, *net.pack().packed))
