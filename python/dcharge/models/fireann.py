"""FIREANN-ED: embedded atom densities with recursion and an electric field (Feng, Zhang, Jiang 2024).

Orbital of atom j seen from a centre i (an atom or a grid point), v = r_j - r_i, r~ = sqrt(r^2 + soft^2):

    phi_ij[k, m] = A_k(v) exp(alpha_Zm (r~ - r_Zm)^2) f_c(r)                                        (Eq. 2)
    S_i[k, m]    = sum_j c_j[m] phi_ij[k, m] + c_field[m] A_k(field)
    rho_i[n]     = sum_l sum_{k of l} (sum_m D_l[m, n] S_i[k, m])^2                                 (Eq. 1)
    c_j          <- c_j + g_Zj(rho_j), n_iterations times, beginning with a constant of the species  (Eq. 4)

rho_i is linear in the products S^T S of each l, so the map from products to features is one matrix M that the first
layer of every net takes in: exact, and the features themselves are never formed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..nn import Bend, BlockNetwork, Linear, Norm
from ..ops import EadNetwork, ead_network, orbital_gram, orbital_sums
from ..ops.bases import cartesian_monomials, n_monomials
from ..ops.orbitals import MOST_DEGREE
from .base import CALIBRATION_POINTS, Model
from .baseline import AdditiveBaseline
from .fireann_code import FireannCode, State, by_species, spread, twice

BASELINE = {"rcut_smth": 0.0, "soft": 0.5, "n_radial": 20}
BLOCK = 8192
# Nothing of a point is held but its density, and larger tiles share the lists of atoms: molecules of 25 atoms, per CPU
# second, 0.85 M points instead of 0.66 M with 2048
TILE = 16384
# Few atoms in nearly equal surroundings hardly differ: divided by their deviation alone, those of another molecule
# would lie far outside of all that was trained (a water molecule not seen: errors of 1e4 times its response)
FLOOR = 0.3
# Features are squares of sums that hold the coefficients, so that a large change makes a larger one: beyond the
# training data the recursion would run away. Standardised, c begins with 1 and an iteration moves it by less than this.
LARGEST_CHANGE = 3.0
# Fields of a volt per Angstrom are small beside those within atoms, the response is nearly linear. Standardised, fields
# enter divided by this many times those of training: a network of any weights begins nearly linear in them (field
# reversed and doubled, equal time: NMAE 20 % instead of 28 % of held-out frames).
WEAK_FIELD = 10.0


class Fireann(Model):
    """Recursively embedded atom densities, seen by atoms and grid points alike; rho(r) from the features at r.

    standardize: sums S -> (S - center)/scale + shift with constants per kind of centre (a species in one iteration, or
    a point), features -> (rho - center)/scale. Sums lose their sign in a square: the trainable shift keeps terms
    linear in them. Kinds: iteration * n_types + species, the last one is the points.
    Response: F(field) - F(0) with one network.
    """

    encodes_atoms = True

    def __init__(self, config: dict, seed: int = 1):
        super().__init__(config)
        d = config["descriptor"]
        self.l_max, self.n_waves, self.n_iterations = d["l_max"], d["n_waves"], d["n_iterations"]
        self.orbital = {key: d[key] for key in ("rcut", "l_max", "soft", "direction")}
        self.equi, self.standardize = config["variant"] == "equi", config["standardize"]
        self.zero_vacuum, self.sees_field = config["vacuum"] == "zero", config["field"]
        self.response = config["target"] == "response"
        self.tile = TILE if not self.equi and self.l_max <= MOST_DEGREE else None  # as the fused op answers
        orders, n_types, n_waves = self.l_max + 1, self.n_types, self.n_waves
        n_products = n_waves * (n_waves + 1) // 2 * orders
        self.n_features = d["n_features"] or n_products
        generator = torch.Generator().manual_seed(seed)

        drawn = torch.rand((2, n_types, n_waves), generator=generator, dtype=torch.float64)
        if self.standardize:
            # denser and steeper near the nucleus, where the density varies fastest (water, equal time: NMAE 2.38 % of
            # the validation frame instead of 2.53 %)
            wave = torch.arange(n_waves, dtype=torch.float64)
            center = d["rcut"] * ((wave + drawn[0]) / n_waves) ** 1.5
            steep = 3.5 / (wave + 1.0) ** 0.7 * torch.exp(drawn[1] - 0.5)
        else:  # REANN
            center, steep = d["rcut"] * drawn[0], 0.2 + drawn[1]
        self.center = nn.Parameter(center.to(self.dtype))  # r_Zm, Angstrom
        # alpha = -softplus(steepness) stays negative, per square Angstrom
        self.steepness = nn.Parameter(torch.log(torch.expm1(steep)).to(self.dtype))
        self.coefficient = nn.Parameter(torch.ones(n_types, n_waves, dtype=self.dtype))  # c^0
        # one matrix for every l, drawn independently: equal ones span 36 instead of 108 features (8 waves, l_max 2)
        std = (2.0 / (n_waves + self.n_features)) ** 0.5
        drawn = torch.randn((orders, n_waves, self.n_features), generator=generator, dtype=torch.float64)
        self.contraction = nn.Parameter((std * drawn).to(self.dtype))  # D
        if self.sees_field:
            self.field_coefficient = nn.Parameter(torch.ones(n_waves, dtype=self.dtype))
        kinds = self.n_iterations * n_types + 1
        if self.standardize:
            shift = torch.randn((kinds, n_waves), generator=generator, dtype=torch.float64)
            self.shift = nn.Parameter(shift.to(self.dtype))

        def network(keys, n_out):
            return BlockNetwork(
                self.n_features, keys["neuron"], n_out, activation=keys["activation_function"],
                layer_norm=keys["layer_norm"], published=not self.standardize, dtype=self.dtype, generator=generator,
            )  # fmt: skip

        # the nets of all species as one: a step is ruled by the number of calls, not by what they do
        self.orbital_nets = nn.ModuleList(
            BlockNetwork.stacked([network(config["orbital_net"], n_waves) for _ in range(n_types)])
            for _ in range(self.n_iterations)
        )
        self.fitting = network(config["fitting_net"], self.n_channels)
        self.register_buffer("sum_center", torch.zeros(kinds, n_waves, dtype=self.dtype))
        self.register_buffer("sum_scale", torch.ones(kinds, orders, n_waves, dtype=self.dtype))
        self.register_buffer("feature_center", torch.zeros(kinds, self.n_features, dtype=self.dtype))
        self.register_buffer("feature_scale", torch.ones(kinds, self.n_features, dtype=self.dtype))
        self.register_buffer("field_scale", torch.ones((), dtype=torch.float64))  # V/Angstrom
        self.register_buffer("output_scale", torch.ones((), dtype=self.dtype))
        self.register_buffer("output_mean", torch.zeros((), dtype=self.dtype))
        ends = torch.tensor([n_monomials(degree) for degree in range(orders)])
        degrees = torch.bucketize(torch.arange(ends[-1]), ends, right=True)
        self.register_buffer("degrees", degrees, persistent=False)  # l of each component
        pairs = torch.triu_indices(n_waves, n_waves)
        self.register_buffer("pairs", pairs, persistent=False)
        twice = torch.where(pairs[0] == pairs[1], 1.0, 2.0)[:, None].to(self.dtype)
        self.register_buffer("times", twice, persistent=False)  # 2 - delta_mm' of each pair
        if config["baseline"]["type"] == "additive":
            self.baseline = AdditiveBaseline(
                n_types, d["rcut"], **BASELINE, ridge=config["baseline"]["ridge"], dtype=self.dtype
            )

    @property
    def reach(self) -> float:
        """Cutoff radius of a point, Angstrom; through the atoms it sees n_iterations times as far beyond."""
        return self.orbital["rcut"]

    @property
    def point(self) -> int:
        """Kind of the points."""
        return self.n_iterations * self.n_types

    @property
    def exponent(self) -> Tensor:
        """alpha [n_types, n_waves], negative, 1/Angstrom^2."""
        return -torch.nn.functional.softplus(self.steepness)

    def sums(
        self, batch: Batch, points: Tensor, frame: Tensor, coefficients: Tensor, carried, center, exponent,
        point_atom=None,
    ) -> Tensor:  # fmt: skip
        """sum_j c_j phi_ij, and f_c(r_ij) c_j carried_j where given: [n, n_comp, n_waves], not normalised.

        Coefficients, center and exponent of several states lie side by side: one pass over the pairs.
        point_atom: the atoms that the points are, which do not see themselves.
        """
        if point_atom is None and (index := batch.near_index(points, self.reach)) is not None:
            batch, coefficients = batch.atoms_only(index), coefficients[index]
            carried = None if carried is None else carried[index]
        where = (points, frame, *batch.geometry)
        s = orbital_sums(*where, coefficients, center, exponent, point_atom, **self.orbital)
        if carried is not None:
            # a scalar orbital without any radial function but the cutoff
            flat = (coefficients[:, None] * carried).flatten(1)
            none = flat.new_zeros((self.n_types, flat.shape[1]))
            options = self.orbital | {"l_max": 0}
            added = orbital_sums(*where, flat, none, none, point_atom, **options)
            s = s + added.reshape(s.shape)
        return s

    def constants(self) -> Tensor:
        """What is added to the scaled sums of every kind of centre: [n_kinds, n_comp, n_waves]."""
        if self.standardize:
            first = self.shift - self.sum_center / self.sum_scale[:, 0]
        else:
            first = torch.zeros_like(self.sum_center)
        return nn.functional.pad(first[:, None], (0, 0, 0, len(self.degrees) - 1))

    def field_term(self, field: Tensor) -> Tensor | None:
        """What the electric fields [n_frames, 3] add to the scaled sums: [n_frames, n_comp, n_waves]; None: nothing."""
        if not self.sees_field:
            return None
        monomials = cartesian_monomials(field / self.field_scale, self.l_max).to(self.dtype)
        return monomials[:, :, None] * self.field_coefficient

    def map_matrix(self) -> Tensor:
        """M [n_products, n_features]: features are products times M; (2 - delta_mm') D_l[m, n] D_l[m', n]."""
        a, b = self.pairs
        d = self.contraction
        return (self.times * d.index_select(1, a) * d.index_select(1, b)).flatten(0, 1)

    def first_layer(self, network: BlockNetwork, kinds: slice, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [n_nets, n_products, width] and biases [n_nets, 1, width] of first layers that act on products.

        kinds: the centres of the nets; of a single net n_nets is 1.
        """
        weight = network.first.weight.reshape(-1, *network.first.weight.shape[-2:])
        weight = weight / self.feature_scale[kinds, None]
        bias = network.first.bias.reshape(len(weight), 1, -1)
        shift = torch.bmm(self.feature_center[kinds, None], weight.transpose(1, 2))
        return matrix @ weight.transpose(1, 2), bias - shift

    def encode(self, batch: Batch) -> FireannCode:
        """Orbital coefficients of the atoms after all iterations, for every electric field that is needed."""
        matrix, constants, exponent = self.map_matrix(), self.constants(), self.exponent
        n_states = 2 if self.response else 1
        # both states of a response go through the recursion as one batch of twice the frames
        whole = twice(batch, torch.zeros_like(batch.field)) if self.response else batch
        term = self.field_term(whole.field)
        coefficients, carried = self.iterate(whole, matrix, constants, term, exponent)
        constant = constants[self.point :] if term is None else constants[self.point :] + term
        of_states = [x if x is None else x.chunk(n_states) for x in (coefficients, carried, constant)]
        states = [State(*(x if x is None else x[i] for x in of_states)) for i in range(n_states)]
        weight, bias = self.first_layer(self.fitting, slice(self.point, None), matrix)
        center, exponent = (x if n_states == 1 else x.repeat(1, n_states) for x in (self.center, exponent))
        code = FireannCode(batch, states, center, exponent, weight[0], bias[0, 0])
        if not torch.is_grad_enabled() and states[0].carried is None:
            code.fused = self.fused(code)
        return code

    def fused(self, code: FireannCode) -> EadNetwork:
        """What `ead_network` needs beside the orbitals, the output without neighbours taken off where that is asked."""
        net, constant = self.fitting, torch.stack([state.constant for state in code.states], 1)
        layers, bends, norms = (
            [m for m in net.block if isinstance(m, kind)] for kind in (Linear, Bend, Norm)
        )  # fmt: skip
        network = EadNetwork(
            self.sum_scale[self.point, self.degrees],
            constant,
            None,
            [(code.weight.T, code.bias), *((m.weight, m.bias) for m in layers)],
            [(m.alpha, m.beta) for m in (*bends, net.last_activation)],
            [(m.weight, m.bias) for m in norms],
            (net.output.weight, net.output.bias),
            net.last_activation.kind == "tanh_like",
        ).pack()
        if self.zero_vacuum:  # by the same arithmetic as at points, so that nothing is left of it far from all atoms
            none = code.batch.atoms_only(code.batch.atom_type[:0])
            frame = torch.arange(len(constant), device=self.device)
            far = torch.zeros((len(constant), 3), dtype=torch.float64, device=self.device)
            network.vacuum = self.outputs(none, far, frame, code, network)
        return network

    def outputs(self, batch: Batch, points: Tensor, frame: Tensor, code: FireannCode, network: EadNetwork) -> Tensor:
        """Output of the net [n, n_states, n_channels] at points that see the atoms of `batch`."""
        index = batch.near_index(points, self.reach) if len(batch.atoms) else batch.atom_type
        coefficients = torch.cat([state.coefficients for state in code.states], 1)
        if index is not None:
            batch, coefficients = batch.atoms_only(index), coefficients[index]
        where = (points, frame, *batch.geometry)
        return ead_network(*where, coefficients, code.center, code.exponent, network, **self.orbital)

    def iterate(
        self, batch: Batch, matrix: Tensor, constants: Tensor, term: Tensor | None, exponent: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The recursion among the atoms: coefficients [n_atoms, n_waves] and what atoms carry."""
        species, n_types = batch.atom_type, self.n_types
        coefficients, carried = self.coefficient.index_select(0, species), None
        if not self.n_iterations or not len(species):
            return coefficients, carried
        own = torch.arange(len(species), device=species.device)
        place, source = by_species(species, n_types)
        term = None if term is None else term.index_select(0, batch.atom_frame)
        for iteration, nets in enumerate(self.orbital_nets):
            kinds = slice(iteration * n_types, (iteration + 1) * n_types)
            s = self.sums(
                batch, batch.atoms, batch.atom_frame, coefficients, carried, self.center, exponent, own
            )  # fmt: skip
            scale = self.sum_scale[kinds, self.degrees].index_select(0, species)
            s = s / scale + constants[kinds].index_select(0, species)
            s = s if term is None else s + term
            weight, bias = self.first_layer(nets, kinds, matrix)
            products = orbital_gram(s).index_select(0, source).unflatten(0, (n_types, -1))
            change = nets.output(nets.after_first(torch.baddbmm(bias, products, weight)))
            change = change.flatten(0, 1).index_select(0, place)
            if self.standardize:
                change = LARGEST_CHANGE * torch.tanh(change / LARGEST_CHANGE)
            coefficients = coefficients + change
            if self.equi:
                carried = s if carried is None else carried + s
        return coefficients, carried

    def geometry(self, batch: Batch, points: Tensor, point_frame: Tensor) -> Tensor | None:
        """The baseline's density [n_points, 1], a constant once it is fitted; None without a baseline."""
        return None if self.baseline is None else super().baseline_density(batch, points, point_frame, None)

    def baseline_density(self, batch: Batch, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The baseline's part [n_points, 1], e/Angstrom^3."""
        return super().baseline_density(batch, points, point_frame, None) if geometry is None else geometry

    def point_sums(self, code: FireannCode, points: Tensor, point_frame: Tensor) -> tuple[list[Tensor], Tensor]:
        """Normalised sums [n_points, n_comp, n_waves] for every state, and which points have neighbours [n_points, 1].

        Several states share one pass over the pairs: their coefficients lie side by side as further waves.
        """
        coefficients = torch.cat([state.coefficients for state in code.states], 1)
        carried = None
        if code.states[0].carried is not None:
            carried = torch.cat([state.carried for state in code.states], 2)
        raw = self.sums(code.batch, points, point_frame, coefficients, carried, code.center, code.exponent)
        near = raw[:, 0].detach().any(1, keepdim=True)
        scale = self.sum_scale[-1][self.degrees]
        return [
            s / scale + spread(state.constant, point_frame)
            for s, state in zip(raw.split(self.n_waves, 2), code.states, strict=True)
        ], near

    def network(self, code: FireannCode, products: Tensor) -> Tensor:
        """The net's output [n, n_channels] from products [n, n_products]."""
        hidden = self.fitting.after_first(torch.addmm(code.bias, products, code.weight))
        return self.fitting.output(hidden)

    def residual(self, code: FireannCode, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The network's part of the density, or the response: [n_points, 1], e/Angstrom^3."""
        if code.fused is not None and not torch.is_grad_enabled():
            values = self.outputs(code.batch, points, point_frame, code, code.fused).unbind(1)
            if not self.zero_vacuum:
                return values[0] * self.output_scale + self.output_mean
            if not self.response:
                return values[0] * self.output_scale
            seen = code.batch.field.ne(0).any(1, keepdim=True)[point_frame]
            return torch.where(seen, (values[0] - values[1]) * self.output_scale, 0.0)
        sums, near = self.point_sums(code, points, point_frame)
        if not self.zero_vacuum:
            return self.network(code, orbital_gram(sums[0])) * self.output_scale + self.output_mean
        # the output without neighbours, of further rows: a call for them alone would cost as much as for the points
        rows = [*sums, *(state.constant for state in code.states)]
        values = self.network(code, orbital_gram(torch.cat(rows))).split([len(s) for s in rows])
        values, vacuum = values[: len(sums)], values[len(sums) :]
        values = [v - spread(far, point_frame) for v, far in zip(values, vacuum, strict=True)]
        rho = values[0]
        if self.response:
            rho = rho - values[1]
            # zero without field, exactly; its derivative with respect to the field is not
            seen = code.batch.field.ne(0).any(1, keepdim=True)[point_frame]
            rho = torch.where(seen, rho, rho - rho.detach() if code.batch.field.requires_grad else 0.0)
        # matrix products round one row and another differently: zero is put in by hand
        return torch.where(near, rho * self.output_scale, 0.0)

    def features(self, cache: FireannCode, points: Tensor, point_frame: Tensor) -> Tensor:
        """Products of the normalised sums (each pair of waves once, for each l), float64 [n_points, n_products]."""
        sums, _ = self.point_sums(cache, points, point_frame)
        return orbital_gram(sums[0]).double()

    @torch.no_grad()
    def calibrate(self, batch: Batch, points: Tensor, point_frame: Tensor, target: Tensor, weight: Tensor) -> None:
        """Baseline by regression; constants of sums and features; scale (vacuum "paper": and mean) of the output."""
        points, point_frame, target, weight = (t[:CALIBRATION_POINTS] for t in (points, point_frame, target, weight))
        rest = target.to(self.dtype)
        if self.baseline is not None:
            moments = self.baseline.moments(batch, points, point_frame, self.dtype)
            self.baseline.fit(moments, target, weight)
            rest = rest - self.baseline(moments)
        if self.zero_vacuum:
            self.output_scale.copy_(rest.double().square().mean().sqrt().clamp_min(1e-12))
        else:
            self.output_mean.copy_(rest.double().mean())
        few = slice(0, min(BLOCK, len(points)))
        points, point_frame = points[few], point_frame[few]
        strength = batch.field.norm(dim=1)
        if self.standardize and self.sees_field and strength.any():
            self.field_scale.copy_(WEAK_FIELD * strength[strength > 0].square().mean().sqrt())
            if self.response:
                self.output_scale.mul_(WEAK_FIELD)
        if self.standardize:
            self._standardise(batch, points, point_frame)
        else:  # the paper: a constant near the number of neighbours
            ones = torch.ones((len(batch.atoms), 1), dtype=torch.float64, device=points.device)
            flat = ones.new_zeros((self.n_types, 1))
            options = self.orbital | {"l_max": 0}
            near = orbital_sums(points, point_frame, *batch.geometry, ones, flat, flat, **options)
            self.coefficient.fill_(1.0 / max(1.0, near.max().item()))

    def _standardise(self, batch: Batch, points: Tensor, point_frame: Tensor) -> None:
        """Mean and deviation of sums and features: at atoms, by species and iteration, and at points."""
        c, carried = self.coefficient[batch.atom_type], None
        own = torch.arange(len(batch.atoms), device=c.device)
        matrix, term, orbitals = self.map_matrix(), self.field_term(batch.field), (self.center, self.exponent)
        for iteration in range(self.n_iterations):
            s = self.sums(batch, batch.atoms, batch.atom_frame, c, carried, *orbitals, own)
            for species in range(self.n_types):
                rows = torch.nonzero(batch.atom_type == species)[:, 0]
                kind = iteration * self.n_types + species
                s[rows] = self._standardise_kind(kind, s[rows], term, batch.atom_frame[rows], matrix)
            if self.equi:
                carried = s if carried is None else carried + s
        s = self.sums(batch, points, point_frame, c, carried, *orbitals)
        self._standardise_kind(self.point, s, term, point_frame, matrix)

    def _standardise_kind(self, kind: int, s: Tensor, term: Tensor | None, frame: Tensor, matrix: Tensor) -> Tensor:
        """Constants of one kind from the sums s [n, n_comp, n_waves] of its centres; returns the normalised sums."""
        if not len(s):
            return s  # a species that is absent from the training frames keeps 0 and 1
        exact = s.double()
        mean = exact[:, 0].mean(0)
        self.sum_center[kind] = mean
        for degree in range(self.l_max + 1):
            part = exact[:, self.degrees == degree]
            plain = part.square().mean((0, 1)).sqrt()
            std = (part - mean if degree == 0 else part).square().mean((0, 1)).sqrt()
            self.sum_scale[kind, degree] = floored(std, plain)
        s = s / self.sum_scale[kind][self.degrees] + self.constants()[kind]
        s = s if term is None else s + term[frame]
        features = (orbital_gram(s) @ matrix).double()
        self.feature_center[kind] = features.mean(0)
        self.feature_scale[kind] = floored(features.std(0, unbiased=False), features.square().mean(0).sqrt())
        return s


def floored(deviation: Tensor, size: Tensor) -> Tensor:
    """Deviations, but at least FLOOR times the size; 1 for zeros."""
    out = torch.maximum(deviation, FLOOR * size)
    return torch.where(out > 1e-12 * size.max().clamp_min(1e-30), out, torch.ones_like(out))
