"""Second derivatives of the neighbour sums: the derivative of an op's adjoint, through the op's torch reference."""

from __future__ import annotations

import torch
from torch import Tensor


def through_reference(reference, tensors, options, floats, grads, positions: bool = True, parameters: bool = True):
    """Gradients of an adjoint's inputs: exact, at the reference's speed and not traceable by torch.compile.

    reference   the op in plain torch: (*tensors[1:], *options) -> sums
    tensors     what the adjoint was given: the gradient of the sums, then the op's tensors
    options     the op's other arguments
    floats      places in `tensors` of what is differentiated: 0 (the gradient), points, atoms, then parameters
    grads       gradients of the adjoint's outputs, one for each of floats[1:]
    positions, parameters  which of its outputs the adjoint computed: points and atoms, the others
    Returns one gradient, or None, for each of `tensors`.
    """
    tensors = list(tensors)
    with torch.enable_grad():
        for i in floats:
            tensors[i] = tensors[i].detach().requires_grad_()
        chosen = [*([1, 2] if positions else []), *(range(3, len(floats)) if parameters else [])]
        wanted, weights = [tensors[floats[i]] for i in chosen], [grads[i - 1] for i in chosen]
        first = torch.autograd.grad(reference(*tensors[1:], *options), wanted, tensors[0], create_graph=True)
        second = torch.autograd.grad(first, [tensors[i] for i in floats], weights, materialize_grads=True)
    out: list[Tensor | None] = [None] * len(tensors)
    for i, value in zip(floats, second, strict=True):
        out[i] = value
    return out
