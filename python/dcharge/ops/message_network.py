"""All layers of DeepDFT's invariant probe network in one pass, for inference.

For the pairs (i, j) of point i and atom j, and states s_i that begin with zero, layer by layer:

    m_i = sum_j w(r_ij) * node(sent_j + R s_i)        (`pair_messages`; in the first layer `filtered_sums`)
    s_i <- T(m_i) + sigmoid(G(s_i)) * (s_i - T(m_i))

node, T and G are pairs of linear layers with a shifted softplus between them, of node's first layer only the parts
`sent` and R of sender and receiver (Jorgensen, Bhowmik 2020). Nothing of a point but its last state passes through
memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, pad, softplus

from .check import check_tensor
from .filtered_sums import filtered_sums
from .library import compiled_for, loaded
from .moments_network import PANEL, panels
from .pair_messages import check_pairs, pair_messages

Pair = tuple[Tensor, Tensor]  # weight [n_out, n_in], bias [n_out]


@dataclass
class MessageLayer:
    """table # [n_knots, F]: the filter on knots; transition, gate: T's and G's first and second linear layers;
    receiver # [H, F]: R, and node: the second layer [F, H], [F] of the node network, both None in the first layer."""

    table: Tensor
    transition: tuple[Pair, Pair]
    gate: tuple[Pair, Pair]
    receiver: Tensor | None = None
    node: Pair | None = None


@dataclass
class MessageNetwork:
    """The layers, of which the first has no receiver; rcut: end of the tables, Angstrom. `pack` arranges them for the
    compiled kernels."""

    layers: list[MessageLayer]
    rcut: float
    packed: tuple | None = None

    def pack(self) -> MessageNetwork:
        """This network with arguments for the compiled kernels: columns padded with zeros, weights in panels."""
        first, *rest = self.layers
        open_gate = 1.0 - torch.sigmoid(gate_of(first, first.table.new_zeros((1, first.table.shape[1]))))[0]
        weights = [panels_of(weight) for weight, _ in first.transition]
        vectors = [*(bias for _, bias in first.transition), open_gate]
        for layer in rest:
            (gate, gate_bias), second_gate = layer.gate
            both = torch.cat([panels_of(layer.receiver), panels_of(gate)])
            weights += [both, *(panels_of(weight) for weight, _ in (layer.node, *layer.transition, second_gate))]
            none = gate_bias.new_zeros(len(layer.receiver))
            vectors += [none, gate_bias, *(bias for _, bias in (layer.node, *layer.transition, second_gate))]
        self.packed = (
            torch.stack([padded(layer.table) for layer in self.layers]),
            torch.cat([w.flatten() for w in weights]),
            torch.cat([padded(v) for v in vectors]),
            float(self.rcut),
        )
        return self


def padded(x: Tensor) -> Tensor:
    """Columns with zeros up to a multiple of 16."""
    return pad(x, (0, -x.shape[-1] % PANEL))


def panels_of(weight: Tensor) -> Tensor:
    """[n_out, n_in] -> panels of its rows, inputs padded, too: zero inputs meet zero weights."""
    return panels(padded(weight).T)


def hidden(x: Tensor, first: Pair) -> Tensor:
    """ssp(W x + b): ln(1 + e^y) - ln 2 of a first linear layer."""
    return softplus(linear(x, *first), threshold=50.0) - math.log(2.0)


def gate_of(layer: MessageLayer, s: Tensor) -> Tensor:
    """G(s) [n, F]."""
    first, second = layer.gate
    return linear(hidden(s, first), *second)


def message_network(
    first: Tensor, sent: Tensor, pair_offset: Tensor, pair_atom: Tensor, distance: Tensor, network: MessageNetwork
) -> Tensor:
    """The last states [n, F] of points; without gradients.

    Parameters
      first [n_atoms, F] float32 or float64: what atoms send in the first layer, the node network's output
      sent [n_layers - 1, n_atoms, H]: the senders' part of the node network's hidden values in the further layers
      pair_offset [n + 1], pair_atom [n_pairs] int64, distance [n_pairs] float64: as in pair_messages
    The compiled kernel answers on the CPU for a network that has been packed, torch everywhere else.
    Raises TypeError or ValueError naming the argument that is wrong, RuntimeError where gradients are asked for.
    """
    check_message_network(first, sent, pair_offset, pair_atom, distance, network)
    if torch.is_grad_enabled() and (first.requires_grad or sent.requires_grad):
        raise RuntimeError("message_network: has no gradients; use filtered_sums, pair_messages and the layers")
    if network.packed is not None and compiled_for(first.device) and first.device.type == "cpu":
        given = padded(first), padded(sent), pair_offset, pair_atom, distance
        return torch.ops.dcharge.message_network(*given, *network.packed)[:, : first.shape[1]]
    return message_network_reference(first, sent, pair_offset, pair_atom, distance, network)


def check_message_network(first, sent, pair_offset, pair_atom, distance, network: MessageNetwork) -> None:
    """Checks of all arguments of message_network."""
    check_tensor("first", first, (None, None), (torch.float32, torch.float64))
    (n_atoms, n_features), device = first.shape, first.device
    check_tensor("sent", sent, (len(network.layers) - 1, n_atoms, None), first.dtype, device)
    check_tensor("pair_offset", pair_offset, (None,), torch.int64, device)
    check_tensor("pair_atom", pair_atom, (None,), torch.int64, device)
    check_tensor("distance", distance, (len(pair_atom),), torch.float64, device)
    for layer in network.layers:
        check_tensor("table", layer.table, (None, n_features), first.dtype, device)
    check_pairs(pair_offset, pair_atom, distance, n_atoms, network.rcut)


@torch.no_grad()
def message_network_reference(first, sent, pair_offset, pair_atom, distance, network) -> Tensor:
    """The specification of message_network in torch, with the ops of the sums."""
    where = pair_offset, pair_atom, distance
    s = first.new_zeros((len(pair_offset) - 1, first.shape[1]))
    for t, layer in enumerate(network.layers):
        if t == 0:
            sums = filtered_sums(first, *where, layer.table, rcut=network.rcut)
        else:
            sums = pair_messages(sent[t - 1], s @ layer.receiver.T, *where, *layer.node, layer.table, rcut=network.rcut)
        first_of, second_of = layer.transition
        to = linear(hidden(sums, first_of), *second_of)
        s = to + torch.sigmoid(gate_of(layer, s)) * (s - to)
    return s


if loaded():

    @torch.library.register_fake("dcharge::message_network")
    def _(first, sent, pair_offset, pair_atom, distance, table, weights, vectors, rcut):
        return first.new_empty((pair_offset.shape[0] - 1, first.shape[1]))
