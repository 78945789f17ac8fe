"""What the two crystal-graph families share: gated convolutions with foldable norms, species, last net, constants.

`cgcnn` (models/cgcnn.py) is the published network, in which the point is a node of a graph of its own; `cgcnn_probe`
(models/cgcnn_probe.py) is another, faster one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import Batch
from ..errors import InputError, log
from ..nn import linear
from ..ops import CrystalLayer
from ..ops.local_environments import TIE
from .base import CALIBRATION_POINTS, Encoded, Model
from .baseline import AdditiveBaseline
from .deepdft import BASELINE
from .elements import N_PROPERTIES, element_row
from .environments import Edges, EdgeSums
from .norm import BatchNorm

# of the edge part's table over the distance; several for every Gaussian
KNOTS, KNOTS_PER_STEP = 1024, 25
SMALLEST = -69.0  # exponent of 1e-30
PROBE = "He"  # whose row a probe has, as in the public script


class Convolution(nn.Module):
    """One gated convolution; `full` maps (x_i, x_j, g(d_ij)) to gate and core."""

    def __init__(self, n_features: int, n_gaussians: int, dtype, generator):
        super().__init__()
        self.full = linear(2 * n_features + n_gaussians, 2 * n_features, dtype, generator)
        self.norm_edges = BatchNorm(2 * n_features, dtype)
        self.norm_nodes = BatchNorm(n_features, dtype)

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of centre, neighbour [2 n_features, n_features] and edge [2 n_features, n_gaussians]."""
        n = self.full.out_features // 2
        return self.full.weight.split([n, n, self.full.in_features - 2 * n], 1)

    def folded(self, knot_basis: Tensor) -> Folded:
        """The convolution with the stored statistics of its norms; knot_basis [n_knots, n_gaussians]."""
        of_center, of_neighbor, of_edge = self.parts()
        scale, shift = self.norm_edges.stored()
        center = (of_center * scale[:, None], torch.addcmul(shift, self.full.bias, scale))
        table = (knot_basis @ of_edge.T) * scale
        return Folded(*center, of_neighbor * scale[:, None], table, *self.norm_nodes.stored())

    def forward(self, x: Tensor, edges: Edges, sums: EdgeSums, knot_basis: Tensor, n: int | None = None) -> Tensor:
        """New states of the first n nodes (None: of all) from x [n_nodes, n_features], with statistics of this batch,
        which the norms note."""
        of_center, of_neighbor, of_edge = self.parts()
        center, neighbor = nn.functional.linear(x, of_center, self.full.bias), x @ of_neighbor.T
        scale, shift = self.norm_edges.of(*sums.moments(center, neighbor, of_edge), sums.n)
        table = (knot_basis @ of_edge.T) * scale
        total = edges.convolution(torch.addcmul(shift, center, scale), neighbor * scale, table)[:n]
        variance, mean = torch.var_mean(total, 0, correction=0)
        scale, shift = self.norm_nodes.of(mean, variance, len(total))
        return nn.functional.softplus(x[:n] + torch.addcmul(shift, total, scale))


class Folded(CrystalLayer):
    """A convolution as prediction takes it; `scale` and `shift` are those of the nodes' norm."""

    def __call__(self, x: Tensor, edges: Edges, n: int | None = None) -> Tensor:
        """New states of the first n nodes (None: of all) from x [n_nodes, n_features]."""
        total = edges.convolution(torch.addmm(self.bias, x, self.center.T), x @ self.neighbor.T, self.table)[:n]
        return nn.functional.softplus(torch.addcmul(self.shift, total, self.scale).add_(x[:n]))


@dataclass
class CrystalCode(Encoded):
    """What does not depend on the points: species [n_types + 1, n_features], the first states of the species and, last,
    of the probe; folded: the convolutions, or None where batches have statistics of their own (training)."""

    species: Tensor | None = None
    folded: list[Folded] | None = None


class CrystalModel(Model):
    """A family defines `pooled`, the vector of every point. vacuum "zero": no density where no atom is near."""

    smooth = False

    def __init__(self, config: dict, seed: int = 1):
        super().__init__(config)
        generator = torch.Generator().manual_seed(seed)
        self.rcut, self.n_neighbors = config["rcut"], config["n_neighbors"]
        self.n_features, self.n_layers = config["n_features"], config["n_layers"]
        self.zero_vacuum = config["vacuum"] == "zero"
        self._set_species(generator)
        step = config["gaussian_step"]
        n_gaussians = round(2 * self.rcut / step) + 1
        sizes = self.n_features, n_gaussians, self.dtype, generator
        self.convolutions = nn.ModuleList(Convolution(*sizes) for _ in range(self.n_layers))
        widths = [self.n_features, *config["fitting_net"]["neuron"]]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.hidden = nn.ModuleList(linear(a, b, self.dtype, generator) for a, b in pairs)
        self.output = linear(widths[-1], self.n_channels, self.dtype, generator)
        centers = step * torch.arange(n_gaussians, dtype=torch.float64)
        self.gaussians = Gaussians(centers, step)
        n_knots = max(KNOTS, math.ceil(KNOTS_PER_STEP * self.cutoff / step) + 1)
        knots = torch.linspace(0.0, self.cutoff, n_knots, dtype=torch.float64)
        self.register_buffer("knot_basis", self.gaussians(knots, self.dtype), persistent=False)
        self.register_buffer("output_scale", torch.ones((), dtype=self.dtype))
        self.register_buffer("output_mean", torch.zeros((), dtype=self.dtype))
        if config["baseline"]["type"] == "additive":
            self.baseline = AdditiveBaseline(
                self.n_types, self.rcut, **BASELINE, ridge=config["baseline"]["ridge"], dtype=self.dtype
            )

    def _set_species(self, generator: torch.Generator) -> None:
        """First states: fixed vectors of the elements through a linear layer, or a learned state for every species."""
        if self.config["species"] == "learned":
            drawn = torch.randn((self.n_types + 1, self.n_features), generator=generator, dtype=torch.float64)
            self.states = nn.Parameter(drawn.to(self.dtype))
            return
        rows = np.array([element_row(symbol) for symbol in [*self.type_map, PROBE]])
        rows = torch.as_tensor(rows, dtype=self.dtype)
        if len(torch.unique(rows[:-1], dim=0)) < self.n_types:
            raise InputError("model/type_map: two species have the same element data; set model/species 'learned'")
        self.register_buffer("rows", rows[:-1])
        if self.config["probe"] == "learned":
            self.probe = nn.Parameter(rows[-1:])
        else:
            self.register_buffer("probe", rows[-1:])
        self.embedding = linear(N_PROPERTIES, self.n_features, self.dtype, generator)

    @property
    def reach(self) -> float:
        """Cutoff radius of a point, Angstrom."""
        return self.rcut

    @property
    def radius(self) -> float:
        """Atoms nearer than this to a point are in its graph, Angstrom: also those at rcut, whatever rounding does."""
        return self.rcut + TIE

    @property
    def cutoff(self) -> float:
        """No edge is longer, Angstrom."""
        return 2 * self.radius

    @property
    def learns_statistics(self) -> bool:
        """Whether norms take the statistics of a batch and note them: in a step of training, not in validation."""
        return self.training and torch.is_grad_enabled()

    def encode(self, batch: Batch) -> CrystalCode:
        """First states of all species; the convolutions, folded where their statistics are known."""
        learned = self.config["species"] == "learned"
        species = self.states if learned else self.embedding(torch.cat([self.rows, self.probe]))
        if self.learns_statistics:
            return CrystalCode(batch, species)
        return CrystalCode(batch, species, [c.folded(self.knot_basis) for c in self.convolutions])

    def convolved(self, code: CrystalCode, t: int, x: Tensor, edges: Edges, sums: EdgeSums | None, n=None) -> Tensor:
        """States after convolution t of the first n nodes (None: of all) from the states x [n_nodes, n_features]."""
        if code.folded:
            return code.folded[t](x, edges, n)
        return self.convolutions[t](x, edges, sums, self.knot_basis, n)

    def sums(self, code: CrystalCode, edges: Edges) -> EdgeSums | None:
        """What the statistics of a batch need of the edges."""
        return None if code.folded else EdgeSums(edges, self.gaussians, self.dtype)

    def pooled(self, code: CrystalCode, points: Tensor, point_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of the points [n, n_features], and which points have atoms near [n, 1]."""
        raise NotImplementedError

    def residual(self, cache: CrystalCode, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The network's part of the density [n_points, 1], e/Angstrom^3."""
        if points.requires_grad or cache.batch.atoms.requires_grad:
            raise InputError(
                f"{self.config['type']}: the density is not continuous (atoms come near a point in steps), it has no "
                "derivatives by positions"
            )
        x, near = self.pooled(cache, points, point_frame)
        for layer in self.hidden:
            x = layer(nn.functional.softplus(x))
        rho = self.output(nn.functional.softplus(x)) * self.output_scale + self.output_mean
        return torch.where(near, rho, 0.0) if self.zero_vacuum else rho

    def features(self, cache: CrystalCode, points: Tensor, point_frame: Tensor) -> Tensor:
        """Vectors of the points, float64 [n_points, n_features]."""
        return self.pooled(cache, points, point_frame)[0].double()

    def geometry(self, batch: Batch, points: Tensor, point_frame: Tensor) -> Tensor | None:
        """The baseline's density [n_points, 1], a constant once it is fitted; None without a baseline."""
        return None if self.baseline is None else self.baseline_density(batch, points, point_frame, None)

    def baseline_density(self, batch: Batch, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The baseline's part [n_points, 1], e/Angstrom^3."""
        return super().baseline_density(batch, points, point_frame, None) if geometry is None else geometry

    @torch.no_grad()
    def calibrate(self, batch: Batch, points: Tensor, point_frame: Tensor, target: Tensor, weight: Tensor) -> None:
        """Baseline by regression; mean and deviation of what it leaves, by which the target is standardised."""
        points, point_frame, target, weight = (t[:CALIBRATION_POINTS] for t in (points, point_frame, target, weight))
        rest = target.to(self.dtype)
        if self.baseline is not None:
            moments = self.baseline.moments(batch, points, point_frame, self.dtype)
            self.baseline.fit(moments, target, weight)
            rest = rest - self.baseline(moments)
        self.output_mean.copy_(rest.double().mean())
        self.output_scale.copy_(rest.double().std(correction=0).clamp_min(1e-12))
        log.info(f"standardised targets: mean {self.output_mean:.4g}, deviation {self.output_scale:.4g} e/A^3")


class Gaussians:
    """exp(-(d - center)^2/width^2) of distances d [e] -> [e, n], Angstrom, d in float64; zero below 1e-30, because
    matrix products of denormal numbers take many times as long."""

    def __init__(self, centers: Tensor, width: float):
        self.centers, self.width = centers, width

    def __call__(self, d: Tensor, dtype) -> Tensor:
        exponent = ((d[:, None] - self.centers.to(d)) / self.width).to(dtype).square_().neg_().clamp_(min=SMALLEST)
        return torch.where(exponent > SMALLEST, torch.exp(exponent), 0.0)
