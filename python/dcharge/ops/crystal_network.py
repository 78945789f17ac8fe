"""Crystal-graph network on the local environments of points in one pass, for inference (CGCNN, Gong et al. 2019).

    x = state[species],   x <- softplus(x + scale * crystal_convolution(C x + b, N x, edges, table) + shift)

on the graphs of `local_environments`; the result is the mean of x over the nodes of a point, after the last layer or
before the first and after every one. An edge between two atoms has the same length at every point: its part of gate and
core is computed once for the points near each other, and so is its whole message in the first layer, whose states
depend on the species alone. Nothing of a point but its means passes through memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, pad, softplus

from .check import check_range, check_tensor
from .crystal_convolution import crystal_convolution
from .library import compiled_for, loaded
from .local_environments import TIE, check_local_environments, local_environments
from .moments_network import PANEL, panels

LN2 = 0.6931471805599453
MOST_FEATURES = 1024  # of the compiled kernels


@dataclass
class CrystalLayer:
    """center # [2 F, F], bias # [2 F], neighbor # [2 F, F]: gate, then core; table # [n_knots, 2 F];
    scale and shift # [F] of the sum of messages."""

    center: Tensor
    bias: Tensor
    neighbor: Tensor
    table: Tensor
    scale: Tensor
    shift: Tensor


@dataclass
class CrystalNetwork:
    """What `crystal_network` needs beside the structure; `pack` arranges it for the compiled kernels.

    state # [n_types + 1, F]: first states of the species and, last, of the probe; cutoff: end of the tables, Angstrom
    all_layers: the means of the first states and after every layer, instead of those after the last layer
    """

    state: Tensor
    layers: list[CrystalLayer]
    cutoff: float
    all_layers: bool = False
    packed: tuple | None = None

    def pack(self) -> CrystalNetwork:
        """This network with arguments for the compiled kernels (left to torch where there are too many features)."""
        n_features = self.state.shape[1]
        more = -n_features % PANEL
        if n_features + more > MOST_FEATURES:
            return self

        def halves(rows: Tensor) -> Tensor:  # minus gate and core, in units of ln 2, padded each
            gate, core = rows.chunk(2, -1)
            return torch.cat([pad(gate, (0, more)) / -LN2, pad(core, (0, more)) / LN2], -1)

        first, rest = self.layers[0], self.layers[1:]
        both = [torch.cat([halves(layer.center.T), halves(layer.neighbor.T)], 1) for layer in rest]
        none = self.state.new_zeros((0, 4 * (n_features + more) // PANEL, n_features, PANEL))
        bias = [torch.cat([halves(layer.bias), torch.zeros_like(halves(layer.bias))]) for layer in rest]
        self.packed = (
            pad(self.state, (0, more)),
            halves(linear(self.state, first.center, first.bias)),
            halves(self.state @ first.neighbor.T),
            torch.stack([panels(each) for each in both]) if rest else none,
            torch.stack(bias) if rest else self.state.new_zeros((0, 4 * (n_features + more))),
            torch.stack([halves(layer.table) for layer in self.layers]),
            torch.stack([pad(layer.scale * LN2, (0, more)) for layer in self.layers]),
            torch.stack([pad(layer.shift, (0, more)) for layer in self.layers]),
            n_features,
            self.all_layers,
            float(self.cutoff),
        )
        return self


def crystal_network(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_type: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    network: CrystalNetwork,
    *,
    rcut: float = 4.0,
    neighbors: int = 12,
    tie: float = TIE,
) -> tuple[Tensor, Tensor]:
    """Means of the states [n, 1 or n_layers + 1, n_features] over the nodes of every point, and the number of nodes [n]
    int64 (1: no atom is near); without gradients.

    points .. pbc, rcut, neighbors, tie: as in local_environments; atom_type [n_atoms] int64: row of network.state.
    The compiled kernel answers on the CPU for a network that has been packed, torch everywhere else.
    Raises TypeError or ValueError naming the argument that is wrong, RuntimeError where gradients are asked for.
    """
    untyped = (points, point_frame, atoms, atom_frame, cell, pbc)
    check_local_environments(*untyped, rcut, neighbors, tie)
    check_network(network, atoms, atom_type, rcut + tie)
    if torch.is_grad_enabled() and network.state.requires_grad:
        raise RuntimeError("crystal_network: has no gradients; use local_environments and crystal_convolution")
    shape = (float(rcut), neighbors, float(tie))
    if network.packed is not None and compiled_for(points.device) and points.device.type == "cpu":
        geometry = (points, point_frame, atoms, atom_type, atom_frame, cell, pbc)
        return torch.ops.dcharge.crystal_network(*geometry, *network.packed, *shape)
    return crystal_network_reference(untyped, atom_type, network, shape)


def check_network(network: CrystalNetwork, atoms: Tensor, atom_type: Tensor, reach: float) -> None:
    """Checks of the arguments that local_environments does not have; reach: rcut + tie."""
    check_tensor("atom_type", atom_type, (atoms.shape[0],), torch.int64, atoms.device)
    check_tensor("state", network.state, (None, None), (torch.float32, torch.float64), atoms.device)
    check_range("atom_type", atom_type, len(network.state) - 1, "species in state")
    if not network.layers:
        raise ValueError("layers: at least one expected")
    if not network.cutoff >= 2 * reach:
        raise ValueError(f"cutoff: at least 2 (rcut + tie) = {2 * reach:g} Angstrom expected, got {network.cutoff}")


@torch.no_grad()
def crystal_network_reference(untyped, atom_type, network, shape) -> tuple[Tensor, Tensor]:
    """The specification of crystal_network in torch; untyped: the geometry without species."""
    rcut, neighbors, tie = shape
    node_offset, node_atom, *edges = local_environments(*untyped, rcut=rcut, neighbors=neighbors, tie=tie)
    probe = len(network.state) - 1
    species = torch.full_like(node_atom, probe)
    species[node_atom >= 0] = atom_type[node_atom[node_atom >= 0]]
    x = network.state[species]
    count = node_offset.diff()
    point = torch.repeat_interleave(torch.arange(len(count), device=x.device), count)
    means = []

    def take_mean():
        means.append(x.new_zeros((len(count), x.shape[1])).index_add(0, point, x) / count[:, None])

    take_mean()
    for layer in network.layers:
        center, neighbor = linear(x, layer.center, layer.bias), x @ layer.neighbor.T
        sums = crystal_convolution(center, neighbor, *edges, layer.table, cutoff=network.cutoff)
        x = softplus(x + layer.scale * sums + layer.shift)
        take_mean()
    return torch.stack(means if network.all_layers else means[-1:], 1), count


if loaded():

    @torch.library.register_fake("dcharge::crystal_network")
    def _(points, point_frame, atoms, types, frames, cell, pbc, state, center, neighbor, weights, bias, table, *rest):
        n_features, all_layers = rest[2:4]
        means = state.new_empty((points.shape[0], table.shape[0] + 1 if all_layers else 1, n_features))
        return means, point_frame.new_empty((points.shape[0],))
