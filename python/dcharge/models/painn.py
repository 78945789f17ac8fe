"""DeepDFT's equivariant family: PaiNN messages with scalar and vector states (Jorgensen, Bhowmik 2022).

With d = r_receiver - r_sender, r = |d|, e_k(r) = sin(k pi r/rcut)/r, f the cutoff function, per feature:

    (w_vv, w_vs, w_s) = f(r) (W e(r) + b),  (phi_vv, phi_vs, phi_s) = mlp(s_sender)
    Ds = sum P w_s,   Dv = sum R w_vv + Q w_vs (x) u;   P = s phi_s (paper_message: phi_s), Q = phi_vs, R = v phi_vv
    atoms:  s <- s + Ds, v <- v + Dv;   points:  s <- G_s s + (1 - G_s) Ds, likewise v;  G = sigmoid(mlp(Ds))
    update: (a_ss, a_sv, a_vv) = mlp(s, |V v|),  s <- s + a_ss + a_sv <U v, V v>,  v <- v + a_vv U v

P, Q, R are functions of the atoms alone, so that a point needs one pass over its neighbours for all layers. u = d/r as
published (`soft` 0), or d/sqrt(r^2 + soft^2), which has a limit on a nucleus; |V v| is then softened, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..nn import TwoLayers, linear, silu
from ..ops import probe_messages, switch
from ..ops.bases import safe_norm
from ..ops.probe_messages import ON_NUCLEUS
from .deepdft import DeepDFT, DeepDFTCode, differentiated, most_pairs
from .pairs import frame_pairs
from .point_states import PointStates, Weights
from .radial import cosine_cutoff, sinc_basis

# softened |V v| = sqrt(|V v|^2 + NORM_FLOOR^2): on a site of high symmetry v vanishes, and its length would have a kink
NORM_FLOOR = 0.01
# of the filters' table over the distance; several for every half wave of the fastest radial function
KNOTS, KNOTS_PER_WAVE = 1024, 34
# points whose states stay in the second-level cache
BLOCK = 512
# points asked of the op at once: the message sums of more (6 kB each) are memory new to the process at every call
POINTS = 4096


class Sender(nn.Module):
    """What atoms of state (s, v) send: filters of the distance and factors of the state."""

    def __init__(self, n_radial: int, n_features: int, paper: bool, dtype, generator):
        super().__init__()
        self.paper = paper
        self.filter = linear(n_radial, 3 * n_features, dtype, generator)  # rows vv, vs, s
        self.mlp = TwoLayers((n_features, n_features, 3 * n_features), silu, dtype, generator)

    def factors(self, s: Tensor, v: Tensor) -> Tensor:
        """(P, Q, R_x, R_y, R_z) [n_atoms, 5, n_features] of states s [n_atoms, n_features], v [n_atoms, 3, ...]."""
        phi_vv, phi_vs, phi_s = self.mlp(s).chunk(3, 1)
        scalars = torch.stack([phi_s if self.paper else s * phi_s, phi_vs], 1)
        return torch.cat([scalars, v * phi_vv[:, None]], 1)

    def filters(self, basis: Tensor) -> tuple[Tensor, ...]:
        """w_s, w_vv, w_vs [e, n_features] from f(r) (e(r), 1) [e, n_radial + 1]."""
        vv, vs, s = (basis @ self.filter_rows().T).chunk(3, 1)
        return s, vv, vs

    def filter_rows(self) -> Tensor:
        """(W, b) [3 n_features, n_radial + 1], rows vv, vs, s."""
        return torch.cat([self.filter.weight, self.filter.bias[:, None]], 1)


class Update(nn.Module):
    """PaiNN's update of a state by itself."""

    def __init__(self, n_features: int, floor: float, dtype, generator):
        super().__init__()
        self.floor = floor
        self.u = linear(n_features, n_features, dtype, generator, bias=False)
        self.v = linear(n_features, n_features, dtype, generator, bias=False)
        self.mlp = TwoLayers((2 * n_features, n_features, 3 * n_features), silu, dtype, generator)

    def forward(self, s: Tensor, v: Tensor, last: bool = False) -> tuple[Tensor, Tensor | None]:
        """(s [n, n_features], v [n, 3, n_features]) -> the same; `last`: no further layer needs v, which is None."""
        n = s.shape[1]
        uv, vv = (v @ torch.cat([self.u.weight, self.v.weight]).T).split(n, 2)
        weight, bias = self.mlp.first.weight, self.mlp.first.bias
        hidden = silu(torch.addmm(torch.addmm(bias, s, weight[:, :n].T), self.length(vv), weight[:, n:].T))
        rows = 2 * n if last else 3 * n  # a_ss, a_sv, a_vv
        a = torch.addmm(self.mlp.second.bias[:rows], hidden, self.mlp.second.weight[:rows].T)
        s = torch.addcmul(s + a[:, :n], a[:, n : 2 * n], products(uv, vv))
        return s, None if last else torch.addcmul(v, a[:, None, 2 * n :], uv)

    def length(self, v: Tensor) -> Tensor:
        """|v| [n, n_features] over the components [n, 3, n_features]."""
        square = products(v, v)
        if self.floor:
            return (square + self.floor**2).sqrt()
        return safe_norm(v.movedim(1, -1)) if square.requires_grad else square.sqrt()


def products(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products [n, n_features] over the components of a, b [n, 3, n_features]; faster than a sum of an axis."""
    return (a[:, 0] * b[:, 0]).addcmul_(a[:, 1], b[:, 1]).addcmul_(a[:, 2], b[:, 2])


class AtomLayer(nn.Module):
    """One layer among the atoms."""

    def __init__(self, sizes, floor, dtype, generator):
        super().__init__()
        self.sender = Sender(*sizes, dtype, generator)
        self.update = Update(sizes[1], floor, dtype, generator)


class ProbeLayer(AtomLayer):
    """One layer from atoms to points: the gate decides how much of the old state stays."""

    def __init__(self, sizes, floor, dtype, generator):
        super().__init__(sizes, floor, dtype, generator)
        n = sizes[1]
        self.gate = TwoLayers((n, 2 * n, 2 * n), silu, dtype, generator)

    def forward(self, state: tuple[Tensor, Tensor] | None, ds: Tensor, dv: Tensor, last: bool):
        """State (s, v) of the points from the one before (None: zeros) and the messages ds, dv."""
        gate = self.gate(ds)
        if state is None:
            keep_s, keep_v = torch.sigmoid(-gate).chunk(2, 1)
            s, v = keep_s * ds, keep_v[:, None] * dv
        else:
            gate_s, gate_v = torch.sigmoid(gate).chunk(2, 1)
            s, v = torch.lerp(ds, state[0], gate_s), torch.lerp(dv, state[1], gate_v[:, None])
        return self.update(s, v, last)

    def weights(self, last: bool) -> Weights:
        """What `PointStates` computes this layer from."""
        gate, update, rows = self.gate, self.update, 2 * self.gate.first.in_features if last else None
        return Weights(
            gate.first.weight,
            gate.first.bias,
            gate.second.weight,
            gate.second.bias,
            torch.cat([update.u.weight, update.v.weight]),
            update.mlp.first.weight,
            update.mlp.first.bias,
            update.mlp.second.weight[:rows],
            update.mlp.second.bias[:rows],
        )


@dataclass
class PainnCode(DeepDFTCode):
    """What atoms send in every probe layer.

    factors [n_atoms, n_layers, 5, n_features]: (P, Q, R_x, R_y, R_z); table [n_layers, 3, n_knots, n_features]: w_s,
    w_vv, w_vs r/sqrt(r^2 + soft^2) over the distance, or None
    """

    factors: Tensor | None = None
    table: Tensor | None = None


class Painn(DeepDFT):
    """Scalar and vector states; one pass over the neighbours of a point serves all layers."""

    def __init__(self, config: dict, seed: int = 1):
        generator = torch.Generator().manual_seed(seed)
        super().__init__(config, generator, silu)
        self.n_radial = config["n_radial"]
        sizes = self.n_radial, self.n_features, config["paper_message"]
        options = sizes, NORM_FLOOR if self.soft else 0.0, self.dtype, generator
        self.atom_layers = nn.ModuleList(AtomLayer(*options) for _ in range(self.n_layers))
        self.probe_layers = nn.ModuleList(ProbeLayer(*options) for _ in range(self.n_layers))
        # functions of the knots, filters are linear in them: u of a vector along x, of unit length on a nucleus too
        vector = torch.zeros((max(KNOTS, KNOTS_PER_WAVE * self.n_radial), 3), dtype=torch.float64)
        vector[:, 0] = torch.linspace(0.0, -self.rcut, len(vector), dtype=torch.float64)
        basis, u = self.radial(vector)
        softened = basis * u[:, :1] if self.soft else basis
        self.register_buffer("knot_basis", torch.stack([basis, basis, softened]), persistent=False)  # of s, vv, vs

    def radial(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """f(r) (e_1(r) .. e_n(r), 1) [e, n_radial + 1] and u [e, 3] of vectors [e, 3] from receiver to sender."""
        square = vector.square().sum(-1)
        r = safe_norm(vector)
        cutoff = switch(r, self.rcut, 0.0) if self.smooth_cutoff else cosine_cutoff(square, self.rcut)
        basis = torch.cat([sinc_basis(square, self.rcut, self.n_radial), torch.ones_like(r)[:, None]], 1)
        if self.soft:
            u = vector / -(square + self.soft**2).sqrt()[:, None]
        else:  # on a nucleus rounding must not choose a direction; the same limit as in the op
            apart = r > ON_NUCLEUS
            u = torch.where(apart[:, None], vector / -torch.where(apart, r, 1.0)[:, None], 0.0)
        return (cutoff[:, None] * basis).to(self.dtype), u.to(self.dtype)

    def parts(self, pairs):
        """Pairs as `frame_pairs` gives them, part by part: (i [e], j [e], basis [e, n_radial + 1], u [e, 3])."""
        for i, j, vector in zip(*(x.split(most_pairs()) for x in pairs), strict=True):
            yield i, j, *self.radial(vector)

    def messages(self, layers, factors: Tensor, parts, n: int) -> Tensor:
        """Sums of messages [n, n_layers, 4, n_features] (Ds, Dv) at n receivers, pair by pair.

        layers: n_layers Senders; factors [n_atoms, n_layers, 5, n_features]; parts: of the pairs
        """
        sums = [factors.new_zeros((n, 4, self.n_features)) for _ in layers]
        for i, j, basis, u in parts:
            for t, layer in enumerate(layers):
                w_s, w_vv, w_vs = (w[:, None] for w in layer.filters(basis))
                p, q, r = factors[:, t].index_select(0, j).split((1, 1, 3), 1)
                vector = torch.addcmul(w_vs * q * u[:, :, None], w_vv, r)
                sums[t] = sums[t].index_add_(0, i, torch.cat([w_s * p, vector], 1))
        return torch.stack(sums, 1)

    def atom_states(self, batch: Batch):
        """States (s [n_atoms, n_features], v [n_atoms, 3, n_features]) of the atoms after every layer."""
        pairs = frame_pairs(batch, None, None, self.rcut)
        # one part's functions of the distance are kept for all layers; those of many pairs would fill the memory
        kept = list(self.parts(pairs)) if len(pairs[0]) <= most_pairs() else None
        s = self.embedded(batch)
        v = s.new_zeros((len(s), 3, self.n_features))
        for layer in self.atom_layers:
            factors = layer.sender.factors(s, v)[:, None]
            sums = self.messages([layer.sender], factors, kept or self.parts(pairs), len(s))
            ds, dv = sums[:, 0].split((1, 3), 1)
            s, v = layer.update(s + ds[:, 0], v + dv)
            yield s, v

    def encode_atoms(self, batch: Batch) -> PainnCode:
        """Factors of the atoms for the probe layers."""
        states = zip(self.probe_layers, self.atom_states(batch), strict=True)
        factors = torch.stack([layer.sender.factors(*state) for layer, state in states], 1)
        return PainnCode(batch, factors=factors, table=None if self.exact else self.table())

    def table(self) -> Tensor:
        """Filters of the probe layers on the knots [n_layers, 3, n_knots, n_features], for `ops.probe_messages`."""
        rows = torch.stack([layer.sender.filter_rows() for layer in self.probe_layers])
        w_vv, w_vs, w_s = rows.chunk(3, 1)
        return self.knot_basis @ torch.stack([w_s, w_vv, w_vs], 1).mT

    def point_messages(self, code: PainnCode, points: Tensor, point_frame: Tensor) -> Tensor:
        """Message sums of all layers [n_points, n_layers, 4, n_features]."""
        index = code.batch.near_index(points, self.rcut)
        batch = code.batch.atoms_only(index)
        # the interpolant's slope is less exact than its value, and it has no second derivative
        if code.table is not None and not differentiated(points, batch.atoms):
            factors = code.factors if index is None else code.factors[index]
            where = points, point_frame, batch.atoms, batch.atom_frame, batch.cell, batch.pbc
            return probe_messages(*where, factors, code.table, rcut=self.rcut)
        i, j, vector = frame_pairs(batch, points, point_frame, self.rcut)
        j = j if index is None else index[j]
        senders = [layer.sender for layer in self.probe_layers]
        return self.messages(senders, code.factors, self.parts((i, j, vector)), len(points))

    def final_state(self, messages: Tensor) -> Tensor:
        """Final scalar states [n, n_features] from message sums [n, n_layers, 4, n_features]."""
        state = None
        for t, layer in enumerate(self.probe_layers):
            state = layer(state, messages[:, t, 0], messages[:, t, 1:], t == self.n_layers - 1)
        return state[0]

    def block_states(self, messages: Tensor, rows: Tensor | None) -> Tensor:
        """`final_state` of these rows (None: all) with an adjoint of its own: faster on a CPU; first derivatives."""
        last = self.n_layers - 1
        weights = [w for t, layer in enumerate(self.probe_layers) for w in layer.weights(t == last)]
        return PointStates.apply(self.probe_layers[0].update.floor, messages, rows, *weights)

    def lonely_state(self, code: PainnCode) -> Tensor:
        """The final state [1, n_features] of a point without neighbours."""
        return self.final_state(code.factors.new_zeros((1, self.n_layers, 4, self.n_features)))

    def probe_states(self, code: PainnCode, points: Tensor, point_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Final scalar states [n_points, n_features], and which points have neighbours [n_points, 1]."""
        states, near = [], []
        twice = differentiated(points, code.batch.atoms)  # derivatives by positions may be differentiated again
        for part in zip(points.split(POINTS), point_frame.split(POINTS), strict=True):
            messages = self.point_messages(code, *part)
            near.append(messages[:, 0, 0].ne(0).any(1))
            # points in the vacuum share one state; in training, messages that vanish all may also tell of filters that
            # are zero as yet
            rows = near[-1].nonzero()[:, 0]
            if len(rows) == len(messages) or not len(rows) and messages.requires_grad:
                rows = None
            if messages.requires_grad and not messages.is_cuda and not twice:
                found = self.block_states(messages, rows)
            else:
                sent = messages if rows is None else messages.index_select(0, rows)
                size = max(1, len(sent)) if torch.is_grad_enabled() else BLOCK
                found = torch.cat([self.final_state(block) for block in sent.split(size)])
            if rows is not None:
                found = code.lonely.expand(len(messages), -1).index_copy(0, rows, found)
            states.append(found)
        return torch.cat(states), torch.cat(near)[:, None]
