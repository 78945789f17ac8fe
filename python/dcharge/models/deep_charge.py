"""Deep Charge: the DeepPot-SE two-body descriptor at grid points and a fitting net (Lv et al., PRB 108, 235159)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..errors import InputError
from ..nn import Network, Output
from ..ops import FittingLayer, MomentsNetwork, contract, gram, moments_network, radial_moments, switch
from .base import CALIBRATION_POINTS, Encoded, Model
from .baseline import AdditiveBaseline
from .pairs import Padding, exact_environment, pair_statistics, slot_statistics


def chebyshev_nodes(n: int, rcut: float, soft: float) -> tuple[Tensor, Tensor]:
    """Interpolation nodes as distances r [n] (Angstrom) and the matrix [n, n] from node values to coefficients.

    x_i = cos(pi (i + 1/2)/n), r from x by the inverse of the map in `ops.radial_moments`;
    c_b = (2 - delta_b0)/n sum_i f(x_i) T_b(x_i), the discrete Chebyshev transform.
    """
    angle = math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    low, high = 1.0 / math.hypot(rcut, soft), 1.0 / soft
    inverse = low + 0.5 * (torch.cos(angle) + 1.0) * (high - low)
    r = torch.sqrt((1.0 / inverse**2 - soft**2).clamp_min(0.0))
    transform = 2.0 / n * torch.cos(torch.arange(n, dtype=torch.float64)[:, None] * angle)
    transform[0] *= 0.5
    return r, transform


@dataclass
class DeepChargeCode(Encoded):
    """Coefficients [n_types, l_max + 1, n_radial, width], offset [width] and output in vacuum [1, 1], where used.

    network: coefficients, offset and fitting net packed for the compiled kernels; None with gradients.
    """

    coefficients: Tensor | None
    offset: Tensor | None
    vacuum: Tensor | None
    network: MomentsNetwork | None = None


class DeepCharge(Model):
    """D = A^T A_< with A = sum_j R_j G(s_j), then the fitting net.

    Interpolated embedding (default): G is expanded in Chebyshev functions of the distance, so that
    A = P.C with parameter-free moments P and C = transform.net(s(nodes)); the model is the interpolant,
    in training and in inference. Exact embedding: the net at every pair, as in the paper.

    Standardisation: P -> (P - center)/scale with stored constants (center for l = 0 only, which keeps invariance).
    Vacuum "zero": the network's output without neighbours is subtracted, so that rho = 0 there exactly.
    `set_davg_zero` false (exact embedding): the mean of s is subtracted and empty rows are summed, as in DeePMD-kit.
    """

    def __init__(self, config: dict, seed: int = 1):
        super().__init__(config)
        d, f = config["descriptor"], config["fitting_net"]
        self.l_max, self.n_radial, self.gram_mode = d["l_max"], d["n_radial"], d["gram"]
        self.exact = config["embedding"] == "exact"
        self.standardize = config["standardize"]
        self.zero_vacuum = config["vacuum"] == "zero"
        self.padded = not d.get("set_davg_zero", True)  # models frozen before the key existed lack it
        self.radial = {"rcut": d["rcut"], "rcut_smth": d["rcut_smth"], "soft": d["soft"]}
        self.pair = {**self.radial, "protection": d.get("env_protection", 0.0)}  # of the exact embedding
        axis = d["axis_neuron"] if isinstance(d["axis_neuron"], list) else [d["axis_neuron"]] * (self.l_max + 1)
        self.axis = axis if self.gram_mode == "per_l" else axis[:1]

        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.ModuleList(
            Network(1, d["neuron"], d["activation_function"], d["resnet_dt"], self.dtype, generator)
            for _ in self.type_map
        )
        width = d["neuron"][-1]
        self.fitting = Network(
            width * sum(self.axis), f["neuron"], f["activation_function"], f["resnet_dt"], self.dtype, generator
        )
        self.output = Output(f["neuron"][-1], self.n_channels, self.dtype, generator)

        n_types, orders = self.n_types, self.l_max + 1
        if self.standardize:
            # The net varies slowly with the distance, the standardised moments do not: what it cannot reach is
            # a table of its own. Silicon, equal steps: NMAE 5.2 % with the net alone, 1.6 % with both.
            table = torch.randn(n_types, orders, self.n_radial, width, generator=generator, dtype=torch.float64)
            self.table = nn.Parameter((table * self.n_radial**-0.5).to(self.dtype))
            # centred moments have lost their sign in a Gram matrix; a constant added to A gives it terms linear in A
            shift = torch.randn(width, generator=generator, dtype=torch.float64)
            self.shift = nn.Parameter(shift.to(self.dtype))
        self.register_buffer("center", torch.zeros(n_types, self.n_radial, dtype=self.dtype))
        self.register_buffer("scale", torch.ones(n_types, orders, self.n_radial, dtype=self.dtype))
        self.register_buffer("pair_scale", torch.ones(orders, dtype=self.dtype))
        if self.padded:
            self.register_buffer("pair_mean", torch.zeros((), dtype=self.dtype))
            self.register_buffer("slots", torch.zeros(n_types, dtype=torch.int64))
        self.register_buffer("norm", torch.ones((), dtype=self.dtype))
        self.register_buffer("output_scale", torch.ones((), dtype=self.dtype))
        self.register_buffer("output_mean", torch.zeros((), dtype=self.dtype))
        if not self.exact:
            r, transform = chebyshev_nodes(self.n_radial, d["rcut"], d["soft"])
            w = switch(r, d["rcut"], d["rcut_smth"])
            s = w / torch.sqrt(r**2 + d["soft"] ** 2)
            self.register_buffer("node_s", s[:, None].to(self.dtype), persistent=False)
            self.register_buffer("transform", transform.to(self.dtype), persistent=False)
        b = config["baseline"]
        if b["type"] == "additive":
            # the baseline shares the descriptor's moments, unless these have no softening to share
            soft = d["soft"] if d["soft"] > 0 else 0.5
            self.baseline = AdditiveBaseline(
                n_types, d["rcut"], d["rcut_smth"], soft, self.n_radial, b["ridge"], self.dtype
            )

    @property
    def reach(self) -> float:
        """Cutoff radius, Angstrom."""
        return self.radial["rcut"]

    def geometry(self, batch: Batch, points: Tensor, point_frame: Tensor) -> Tensor | None:
        """Moments P [n_points, n_types, (l_max + 1)^2, n_radial]; None with the exact embedding."""
        if self.exact:
            return None
        return radial_moments(
            points, point_frame, *batch.near(points, self.reach).geometry, **self.radial, n_radial=self.n_radial,
            l_max=self.l_max, n_types=self.n_types, out_dtype=self.dtype,
        )  # fmt: skip

    def encode(self, batch: Batch) -> DeepChargeCode:
        """Coefficients of the environment, and the network's output in vacuum: functions of the parameters alone."""
        code = DeepChargeCode(batch, None, None, None)
        if not self.exact:
            code.coefficients, code.offset = self.coefficients()
        if self.fused() and not torch.is_grad_enabled():
            code.network = self.network(code)
        if self.zero_vacuum:
            code.vacuum = self._vacuum(code)
        return code

    def _vacuum(self, code: DeepChargeCode) -> Tensor:
        """The network's output [1, 1] without neighbours, on the path that the points take."""
        orders = (self.l_max + 1) ** 2
        if code.network is not None:
            none = self.center.new_zeros((1, self.n_types, orders, self.n_radial))
            return moments_network(none, code.network)
        a = self.center.new_zeros((1, orders, self.embedding[0][-1].weight.shape[0]))
        if code.offset is not None:
            a = torch.cat([code.offset.reshape(1, 1, -1), a[:, 1:]], dim=1)
        return self.output(self.fitting(gram(a, self.axis, self.gram_mode)))

    def use_bf16(self) -> None:
        """Round the operands of the fitting net's products to bfloat16 in prediction."""
        if not self.fused() or self.dtype != torch.float32 or self.device.type != "cpu":
            raise InputError(
                "--precision bf16: needs a model of precision float32 with the interpolated embedding and tanh in the "
                "fitting net, on the CPU"
            )
        self.bf16 = True

    def fused(self) -> bool:
        """Whether `moments_network` can evaluate this model."""
        return not self.exact and self.fitting[0].skip == 0 and all(x.activation is torch.tanh for x in self.fitting)

    def network(self, code: DeepChargeCode) -> MomentsNetwork:
        """All behind the moments, packed for the kernels of the device."""
        layers = [FittingLayer(x.weight, x.bias, x.dt, x.skip) for x in self.fitting]
        output, per_l = (self.output.weight, self.output.bias), self.gram_mode == "per_l"
        found = MomentsNetwork(code.coefficients, code.offset, self.axis, per_l, layers, output, self.bf16)
        return found.pack() if self.device.type == "cpu" else found

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """C [n_types, l_max + 1, n_radial, width] with all stored constants folded in, and offset [width] of l = 0.

        A = norm ((P - center)/scale . (transform.net(s(nodes)) + table) + shift) = P.C + offset
        """
        nodes = self.node_s / self.pair_scale[0]
        c = torch.stack([self.transform @ net(nodes) for net in self.embedding])[:, None]
        if not self.standardize:
            return self.norm * c / self.scale[..., None], torch.zeros_like(c[0, 0, 0])
        folded = self.norm * (c + self.table) / self.scale[..., None]
        return folded, self.norm * self.shift - torch.einsum("tb,tbm->m", self.center, folded[:, 0])

    def descriptor(self, cache: DeepChargeCode, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """D [n_points, width * sum(axis)]."""
        if self.exact:
            padding = Padding(self.pair_mean, self.slots) if self.padded else None
            a = self.norm * exact_environment(
                cache.batch, points, point_frame, self.embedding, self.pair, self.pair_scale, padding
            )
        else:
            a = contract(geometry, cache.coefficients, cache.offset)
        return gram(a, self.axis, self.gram_mode)

    def residual(self, cache: DeepChargeCode, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The network's part of the density [n_points, 1], e/Angstrom^3."""
        if cache.network is not None and not (torch.is_grad_enabled() and geometry.requires_grad):
            return self._prediction(cache, geometry)
        d = self.descriptor(cache, points, point_frame, geometry)
        rho = self.output(self.fitting(d))
        if self.zero_vacuum:
            # matrix products round one row and many rows differently: without neighbours zero is put in by hand
            near = (d if geometry is None else geometry[:, :, 0, 0]).ne(0).any(1, keepdim=True)
            return torch.where(near, (rho - cache.vacuum) * self.output_scale, 0.0)
        return rho * self.output_scale + self.output_mean

    def _prediction(self, cache: DeepChargeCode, moments: Tensor) -> Tensor:
        """`residual` without gradients: points without neighbours cost nothing."""
        if not self.zero_vacuum:
            return moments_network(moments, cache.network) * self.output_scale + self.output_mean
        near = moments[:, :, 0, 0].ne(0).any(1)
        if near.all():
            return (moments_network(moments, cache.network) - cache.vacuum) * self.output_scale
        rho = moments.new_zeros((len(moments), self.n_channels))
        rho[near] = (moments_network(moments[near], cache.network) - cache.vacuum) * self.output_scale
        return rho

    def baseline_density(self, batch: Batch, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The baseline's part [n_points, 1], e/Angstrom^3."""
        if self.baseline is not None and geometry is not None:
            return self.baseline(geometry[:, :, 0])
        return super().baseline_density(batch, points, point_frame, geometry)

    def features(self, cache: DeepChargeCode, points: Tensor, point_frame: Tensor) -> Tensor:
        """Last hidden layer of the fitting net, float64 [n_points, n_hidden]."""
        geometry = self.geometry(cache.batch, points, point_frame)
        return self.fitting(self.descriptor(cache, points, point_frame, geometry)).double()

    @torch.no_grad()
    def calibrate(self, batch: Batch, points: Tensor, point_frame: Tensor, target: Tensor, weight: Tensor) -> None:
        """Baseline by regression; center and scale of the moments; scale (vacuum "paper": and mean) of the output."""
        points, point_frame, target, weight = (t[:CALIBRATION_POINTS] for t in (points, point_frame, target, weight))
        moments = self.geometry(batch, points, point_frame)
        rest = target.to(self.dtype)
        if self.baseline is not None:
            rest = rest - self.fit_baseline(batch, points, point_frame, moments, target, weight)
        if self.zero_vacuum:
            self.output_scale.copy_(rest.double().square().mean().sqrt().clamp_min(1e-12))
        else:
            self.output_mean.copy_(rest.double().mean())
        few = slice(0, min(4096, len(points)))
        if self.padded:
            statistics = batch, points[few], point_frame[few], self.l_max, self.pair, self.n_types
            slots, mean, deviation = slot_statistics(*statistics)
            self.slots.copy_(slots)
            self.pair_mean.copy_(mean)
            self.pair_scale.copy_(deviation)
            self.norm.fill_(1.0 / max(1, int(slots.sum())))
            return
        n_max, deviation = pair_statistics(batch, points[few], point_frame[few], self.l_max, self.pair)
        self.pair_scale.copy_(deviation)
        if self.standardize:
            self._standardise(moments.double())
            d = self.descriptor(self.encode(batch), points[few], point_frame[few], moments[few])
            self.norm.copy_(d.double().std().clamp_min(1e-12).rsqrt())
        else:
            # the paper's normalisation through DeePMD-kit: R/dstd, and the sum over neighbours divided by a constant
            self.scale.copy_(self.pair_scale[None, :, None].expand_as(self.scale))
            self.norm.fill_(1.0 / n_max)

    def fit_baseline(self, batch, points, point_frame, moments, target, weight) -> Tensor:
        """Fit the baseline to `target` [n, 1] and return its density there [n, 1]."""
        if moments is None:
            moments = self.baseline.moments(batch, points, point_frame, self.dtype)[:, :, None]
        self.baseline.fit(moments[:, :, 0], target, weight)
        return self.baseline(moments[:, :, 0])

    def _standardise(self, p: Tensor) -> None:
        """center and scale from moments [n, n_types, n_components, n_radial] float64."""
        self.center.copy_(p[:, :, 0].mean(0))
        for order in range(self.l_max + 1):
            block = p[:, :, order**2 : (order + 1) ** 2]
            if order == 0:
                block = block - p[:, :, :1].mean(0)
            std = block.square().mean(dim=(0, 2)).sqrt()
            # a species that is absent from the training points keeps scale 1
            self.scale[:, order] = torch.where(std > 1e-8 * std.max().clamp_min(1e-30), std, torch.ones_like(std))
