"""DeepDFT's invariant family: SchNet messages whose node network sees sender and receiver (Jorgensen, Bhowmik 2020).

With g_k(r) Gaussians of width and spacing `gaussian_step`, h the cutoff function, ln(1 + e^x) - ln 2 in all networks:

    message from j to i = mlp_node(s_j, s_i) h(r) mlp_edge(g(r)),  D_i = sum_j of them
    atoms:  s <- s + mlp(D);   points:  s <- G s + (1 - G) mlp(D),  G = sigmoid(mlp(s)), the state before

mlp_node's first layer is a sum of a sender's and a receiver's part: the first is kept for every atom. A point's first
state is zero, so that its first messages have nothing of its own. `soft`: r becomes sqrt(r^2 + soft^2) in g and h, for
a Gaussian of r has a kink on a nucleus; 0 is as published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..nn import TwoLayers, shifted_softplus
from ..ops import MessageLayer, MessageNetwork, filtered_sums, message_network, pair_messages, switch
from ..ops.bases import safe_norm
from ..ops.library import compiled_for
from .deepdft import DeepDFT, DeepDFTCode, differentiated, most_pairs
from .pairs import blocks, frame_pairs
from .radial import gaussians, n_gaussians, sigmoid_cutoff

# of the filters' table over the distance; several for every Gaussian
KNOTS, KNOTS_PER_STEP = 1024, 25
# pairs of the points treated at once, where ops add them up and nothing is kept for a pair
PAIRS = 1 << 14


class Messenger(nn.Module):
    """Messages of one layer."""

    def __init__(self, n_basis: int, n_features: int, dtype, generator):
        super().__init__()
        self.edge = TwoLayers((n_basis, n_features, n_features), shifted_softplus, dtype, generator)
        self.node = TwoLayers((2 * n_features, 2 * n_features, n_features), shifted_softplus, dtype, generator)

    def sent(self, s: Tensor) -> Tensor:
        """The sender's part of the node network's first layer [n_atoms, 2 n_features], its bias included."""
        first = self.node.first
        return torch.addmm(first.bias, s, first.weight[:, : s.shape[1]].T)

    def received(self, s: Tensor) -> Tensor:
        """The receiver's part [n, 2 n_features]."""
        return s @ self.node.first.weight[:, s.shape[1] :].T


class AtomLayer(nn.Module):
    """One layer among the atoms."""

    def __init__(self, n_basis: int, n_features: int, dtype, generator):
        super().__init__()
        self.messenger = Messenger(n_basis, n_features, dtype, generator)
        self.transition = TwoLayers((n_features,) * 3, shifted_softplus, dtype, generator)


class ProbeLayer(AtomLayer):
    """One layer from atoms to points."""

    def __init__(self, n_basis: int, n_features: int, dtype, generator):
        super().__init__(n_basis, n_features, dtype, generator)
        self.gate = TwoLayers((n_features,) * 3, shifted_softplus, dtype, generator)

    def forward(self, s: Tensor, message: Tensor) -> Tensor:
        """New states [n, n_features] of the points from the old ones [n or 1, n_features] and the message sums."""
        return torch.lerp(self.transition(message), s, torch.sigmoid(self.gate(s)))


@dataclass
class SchnetCode(DeepDFTCode):
    """What atoms send in every probe layer.

    first [n_atoms, n_features]: the node network's output in the first layer; sent, one [n_atoms, 2 n_features] per
    layer: the sender's part of its first layer; table, the same of [n_knots, n_features]: h(r) mlp_edge(g(r)), or None;
    network: all layers for `message_network`, where its kernel answers: on a CPU, without gradients
    """

    first: Tensor | None = None
    sent: Tensor | None = None
    table: list[Tensor] | None = None
    network: MessageNetwork | None = None


class Schnet(DeepDFT):
    """Scalar states; one sweep over the neighbours of a point for every layer."""

    def __init__(self, config: dict, seed: int = 1):
        generator = torch.Generator().manual_seed(seed)
        super().__init__(config, generator, shifted_softplus)
        self.step = config["gaussian_step"]
        sizes = n_gaussians(self.rcut, self.step), self.n_features, self.dtype, generator
        self.atom_layers = nn.ModuleList(AtomLayer(*sizes) for _ in range(self.n_layers))
        self.probe_layers = nn.ModuleList(ProbeLayer(*sizes) for _ in range(self.n_layers))
        n_knots = max(KNOTS, math.ceil(KNOTS_PER_STEP * self.rcut / self.step) + 1)
        knots = torch.linspace(0.0, self.rcut, n_knots, dtype=torch.float64)
        self.register_buffer("knots", knots, persistent=False)
        self._packed: tuple[list | None, MessageNetwork] | None = None

    def radial(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussians [e, n_basis] and cutoff function [e, 1] of vectors [e, 3]."""
        square = vector.square().sum(-1)
        r = (square + self.soft**2).sqrt() if self.soft else safe_norm(vector)
        if self.smooth_cutoff:
            cutoff = switch(safe_norm(vector), self.rcut, 0.25 * self.rcut)
        else:
            cutoff = sigmoid_cutoff(r, self.rcut)
        return gaussians(r, self.rcut, self.step).to(self.dtype), cutoff.to(self.dtype)[:, None]

    def filters(self, messenger: Messenger, vector: Tensor) -> Tensor:
        """h(r) mlp_edge(g(r)) [e, n_features] of vectors [e, 3]."""
        basis, cutoff = self.radial(vector)
        return messenger.edge(basis) * cutoff

    def atom_states(self, batch: Batch):
        """States [n_atoms, n_features] of the atoms after every layer."""
        pairs = frame_pairs(batch, None, None, self.rcut)
        s = self.embedded(batch)
        for layer in self.atom_layers:
            messenger = layer.messenger
            sent, received, sums = messenger.sent(s), messenger.received(s), torch.zeros_like(s)
            for i, j, vector in zip(*(x.split(most_pairs()) for x in pairs), strict=True):
                node = messenger.node.after_first(added(sent, j, received, i))
                sums = sums.index_add_(0, i, node * self.filters(messenger, vector))
            s = s + layer.transition(sums)
            yield s

    def encode_atoms(self, batch: Batch) -> SchnetCode:
        """What the atoms send in every probe layer."""
        states = zip(self.probe_layers, self.atom_states(batch), strict=True)
        code = SchnetCode(batch, sent=torch.stack([layer.messenger.sent(s) for layer, s in states]))
        code.first = self.probe_layers[0].messenger.node.after_first(code.sent[0].clone())
        if not self.exact and not torch.is_grad_enabled() and not code.first.is_cuda and compiled_for(self.device):
            code.network = self.packed()
            code.table = [layer.table for layer in code.network.layers]
        elif not self.exact:
            code.table = self.tables()
        return code

    def tables(self) -> list[Tensor]:
        """h(r) mlp_edge(g(r)) [n_knots, n_features] of every layer on the knots."""
        vector = torch.zeros((len(self.knots), 3), dtype=torch.float64, device=self.knots.device)
        vector[:, 0] = self.knots
        basis, cutoff = self.radial(vector)
        return [layer.messenger.edge(basis) * cutoff for layer in self.probe_layers]

    def packed(self) -> MessageNetwork:
        """All layers for `message_network`; made anew where weights have changed, or may change unseen."""
        weights = list(self.probe_layers.parameters())
        # weights made in inference mode have no version
        key = (
            None
            if any(w.requires_grad or w.is_inference() for w in weights)
            else [(w.data_ptr(), w._version) for w in weights]
        )
        if key is not None and self._packed is not None and self._packed[0] == key:
            return self._packed[1]
        layers = []
        for t, (layer, table) in enumerate(zip(self.probe_layers, self.tables(), strict=True)):
            node = layer.messenger.node
            pairs = [
                tuple((x.weight, x.bias) for x in (two.first, two.second)) for two in (layer.transition, layer.gate)
            ]
            receiver = node.first.weight[:, self.n_features :], (node.second.weight, node.second.bias)
            layers.append(MessageLayer(table, *pairs, *(receiver if t else ())))
        self._packed = key, MessageNetwork(layers, self.rcut).pack()
        return self._packed[1]

    def states(self, code: SchnetCode, n: int, i: Tensor, j: Tensor, vector: Tensor):
        """States [n, n_features] of n points after every layer; their pairs (i, j, vector) [e], i increasing."""
        tabulated = code.table is not None and not differentiated(vector)
        if tabulated:
            counts, distance = torch.bincount(i, minlength=n), vector.norm(dim=1).clamp_max(self.rcut)
            pairs = torch.cat([counts.new_zeros(1), counts.cumsum(0)]), j, distance
        s = self.embedding.weight.new_zeros((1, self.n_features))
        for t, layer in enumerate(self.probe_layers):
            node, received = layer.messenger.node, layer.messenger.received(s)
            if tabulated and t == 0:
                sums = filtered_sums(code.first, *pairs, code.table[0], rcut=self.rcut)
            elif tabulated:
                second = node.second.weight, node.second.bias
                sums = pair_messages(code.sent[t], received, *pairs, *second, code.table[t], rcut=self.rcut)
            else:
                values = node.after_first(added(code.sent[t], j, received, i)) if t else code.first.index_select(0, j)
                values = values * self.filters(layer.messenger, vector)
                sums = s.new_zeros((n, self.n_features)).index_add_(0, i, values)
            s = layer(s, sums)
            yield s

    def lonely_state(self, code: SchnetCode) -> Tensor:
        """The final state [1, n_features] of a point without neighbours."""
        none = self.numbers.new_zeros(0)
        if code.network is not None and not torch.is_grad_enabled():
            return message_network(
                code.first, code.sent[1:], self.numbers.new_zeros(2), none, self.knots[:0], code.network
            )
        *_, s = self.states(code, 1, none, none, self.knots.new_zeros((0, 3)))
        return s

    def probe_states(self, code: SchnetCode, points: Tensor, point_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Final states [n_points, n_features], and which points have neighbours [n_points, 1]."""
        index = code.batch.near_index(points, self.rcut)
        i, j, vector = frame_pairs(code.batch.atoms_only(index), points, point_frame, self.rcut)
        if index is not None:
            code = replace(code, first=code.first[index], sent=code.sent[:, index])
        i, order = torch.sort(i, stable=True)
        j, vector = j[order], vector[order]
        counts = torch.bincount(i, minlength=len(points))
        near = counts > 0
        # all others are alike, but for derivatives by positions, whose graph every point belongs to
        shown = torch.ones_like(near) if differentiated(vector) else near
        which = torch.nonzero(shown)[:, 0]
        i = (shown.cumsum(0) - 1)[i]
        parts = []
        if code.network is not None and not torch.is_grad_enabled():
            offset = torch.cat([counts.new_zeros(1), counts[which].cumsum(0)])
            distance = vector.norm(dim=1).clamp_max(self.rcut)
            parts += (
                [message_network(code.first, code.sent[1:], offset, j, distance, code.network)] if len(which) else []
            )
        else:
            most = most_pairs() if code.table is None else max(PAIRS, most_pairs())
            for start, stop, pairs in blocks(counts[which], most):
                *_, s = self.states(code, stop - start, i[pairs] - start, j[pairs], vector[pairs])
                parts.append(s)
        if len(which) < len(points) or not parts:
            lonely = code.lonely.expand(len(points), -1)
            return lonely.index_copy(0, which, torch.cat(parts)) if parts else lonely, near[:, None]
        return torch.cat(parts), near[:, None]


def added(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
    """a[i] + b[j] [e, n]; in one pass where no gradient is recorded and a copy of the rows is small beside that."""
    if torch.is_grad_enabled() or len(a) + len(b) > len(i):
        return a.index_select(0, i) + b.index_select(0, j)
    return torch.nn.functional.embedding_bag(torch.stack([i, len(a) + j], 1), torch.cat([a, b]), mode="sum")
