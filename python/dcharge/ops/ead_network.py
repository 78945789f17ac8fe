"""From atoms to a network's output at points in one pass, for inference: orbital sums, Gram matrices, block network.

    s = S / scale + constant,  g = orbital_gram(s),  x = W_0 g + b_0,  y = x
    y <- W_i norm(bend(y)) + b_i  for every layer of the block;  out = W bend(x + y) + b

for every state, that is for coefficients that lie side by side as waves (a density with and without field). bend is
alpha SiLU(beta x) or alpha x / sqrt(1 + (beta x)^2), norm the layer norm, where there is one. Nothing of a point but
its output passes through memory. (The net of FIREANN: nn.BlockNetwork.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, pad, silu

from .ead import orbital_gram
from .library import compiled_for, loaded
from .moments_network import PANEL, panels
from .orbitals import MOST_DEGREE, check_orbitals, orbital_sums

Pair = tuple[Tensor, Tensor]


@dataclass
class EadNetwork:
    """What `ead_network` needs beside the orbitals; `pack` arranges it for the compiled kernels.

    scale # [n_comp, n_waves], sums are divided by it; constant # [n_frames or 1, n_states, n_comp, n_waves]
    vacuum # [n_frames or 1, n_states, n_out] or None: subtracted from the output, which is zero where no atom is near
    layers: weight # [n_out, n_in] and bias # [n_out] of the first layer and those of the block, which ends with the
    width of the first layer; bends: alpha and beta # [width] for the inputs of the block's layers, and the last ones
    norms: weight and bias # [width] for the same layers, or empty; output: weight and bias
    """

    scale: Tensor
    constant: Tensor
    vacuum: Tensor | None
    layers: list[Pair]
    bends: list[Pair]
    norms: list[Pair]
    output: Pair
    tanh_like: bool
    packed: tuple | None = None

    def pack(self) -> EadNetwork:
        """This network with arguments for the compiled kernels."""
        biases = [pad(bias, (0, -len(bias) % PANEL)) for _, bias in self.layers]
        vectors = [biases[0]]
        for i, bias in enumerate(biases[1:]):
            vectors += [*self.bends[i], *(self.norms[i] if self.norms else ()), bias]
        weight, bias = self.output
        vectors += [*self.bends[-1], weight.flatten(), bias]
        self.packed = (
            torch.cat([panels(w.T).flatten() for w, _ in self.layers]),
            torch.cat(vectors),
            [len(bias) for _, bias in self.layers],
            len(bias),
            bool(self.norms),
            self.tanh_like,
        )
        return self

    def __call__(self, products: Tensor) -> Tensor:
        """The net alone: products [n, n_products] -> [n, n_out]."""
        weight, bias = self.layers[0]
        x = y = linear(products, weight, bias)
        for i, layer in enumerate(self.layers[1:]):
            y = self._bent(y, i)
            if self.norms:
                scale, shift = self.norms[i]
                y = layer_norm(y, y.shape[1:], scale, shift)
            y = linear(y, *layer)
        return linear(self._bent(x + y, -1), *self.output)

    def _bent(self, x: Tensor, number: int) -> Tensor:
        alpha, beta = self.bends[number]
        return alpha * (x * torch.rsqrt(1.0 + (beta * x).square()) if self.tanh_like else silu(beta * x))


def ead_network(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_type: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    coefficients: Tensor,
    center: Tensor,
    exponent: Tensor,
    network: EadNetwork,
    *,
    rcut: float,
    l_max: int,
    soft: float,
    direction: str,
) -> Tensor:
    """Output [n, n_states, n_out] of the network at points; without gradients.

    points .. exponent, rcut, l_max, soft, direction: as in orbital_sums, with n_states n_waves waves.
    The compiled kernel answers on the CPU for a network that has been packed, torch everywhere else.
    Raises TypeError or ValueError naming the argument that is wrong, RuntimeError where gradients are asked for.
    """
    geometry = (points, point_frame, atoms, atom_type, atom_frame, cell, pbc)
    options = dict(rcut=rcut, l_max=l_max, soft=soft, direction=direction)
    check_orbitals(*geometry, coefficients, center, exponent, None, **options)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (points, atoms, coefficients, center, exponent)):
        raise RuntimeError("ead_network: has no gradients; use orbital_sums, orbital_gram and the layers one by one")
    if network.packed is not None and compiled_for(points.device) and points.device.type == "cpu":
        if l_max <= MOST_DEGREE:
            constants = (network.scale.reciprocal(), network.constant, network.vacuum)
            shape = (float(rcut), float(soft), l_max, direction == "unit")
            return torch.ops.dcharge.ead_network(
                *geometry, coefficients, center, exponent, None, *constants, *network.packed, *shape
            )
    sums = orbital_sums(*geometry, coefficients, center, exponent, None, **options)
    return after_sums(sums, point_frame, network)


def after_sums(sums: Tensor, point_frame: Tensor, network: EadNetwork) -> Tensor:
    """The specification of what follows orbital sums [n, n_comp, n_states n_waves]: [n, n_states, n_out]."""

    def at_points(values: Tensor) -> Tensor:
        return values[point_frame] if len(values) > 1 else values

    n_states = network.constant.shape[1]
    s = sums.unflatten(2, (n_states, -1)).transpose(1, 2) / network.scale + at_points(network.constant)
    out = network(orbital_gram(s.flatten(0, 1))).unflatten(0, (-1, n_states))
    if network.vacuum is None:
        return out
    near = sums[:, 0].any(1)[:, None, None]
    return torch.where(near, out - at_points(network.vacuum), 0.0)


if loaded():

    @torch.library.register_fake("dcharge::ead_network")
    def _(
        points, point_frame, atoms, types, frames, cell, pbc, c, center, exponent, point_atom, scale, constant, vacuum,
        weights, vectors, widths, n_output, *rest,
    ):  # fmt: skip
        return c.new_empty((points.shape[0], constant.shape[1], n_output))
