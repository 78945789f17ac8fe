"""DeepDFT: messages among atoms, then one-way messages from atoms to grid points (Jorgensen, Bhowmik 2020, 2022).

What its two families share: `painn` (equivariant, models/painn.py) and `schnet` (invariant, models/schnet.py). A point
("probe") begins with a zero state and receives one message sum per layer, from the atoms' states of that layer:

    rho(r) = readout(state of the point after the last layer)

Atoms see atoms, points see atoms, nothing sees points. So the atoms are encoded once, and all layers' states are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from ..batch import Batch
from ..nn import TwoLayers
from .base import CALIBRATION_POINTS, Encoded, Model
from .baseline import AdditiveBaseline

BASELINE = {"rcut_smth": 0.0, "soft": 0.5, "n_radial": 20}
N_NUMBERS = 119  # rows of the embedding, one for every atomic number, as in the public code
# pairs whose filters lie in memory at once: in the caches in prediction; with gradients all are kept anyway
PAIRS, PAIRS_WITH_GRADIENTS = 4096, 1 << 16


@dataclass
class DeepDFTCode(Encoded):
    """Of a point without neighbours.

    lonely [1, n_features]: its final state; vacuum [1, 1]: the network's output, where it is subtracted
    """

    lonely: Tensor | None = None
    vacuum: Tensor | None = None


class DeepDFT(Model):
    """A family defines `encode_atoms` and `probe_states`; embedding, readout, constants and baseline are here.

    vacuum "zero": the network's output without neighbours is subtracted, so that rho = 0 there exactly.
    ignore_pbc: atoms have no images, whatever the structure says (published models for molecules are trained so).
    """

    encodes_atoms = True

    def __init__(self, config: dict, generator: torch.Generator, activation):
        super().__init__(config)
        self.rcut, self.soft = config["rcut"], config["soft"]
        self.n_features, self.n_layers = config["n_features"], config["n_layers"]
        self.smooth_cutoff = config["cutoff_function"] == "smooth"
        self.exact = config["filters"] == "exact"
        self.zero_vacuum, self.ignore_pbc = config["vacuum"] == "zero", config["ignore_pbc"]
        self.embedding = nn.Embedding(N_NUMBERS, self.n_features, dtype=self.dtype)
        drawn = torch.randn(self.embedding.weight.shape, generator=generator, dtype=torch.float64)
        self.embedding.weight.data.copy_(drawn)
        widths = self.n_features, self.n_features, self.n_channels
        self.readout = TwoLayers(widths, activation, self.dtype, generator)
        numbers = torch.tensor([atomic_numbers[symbol] for symbol in self.type_map])
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("output_scale", torch.ones((), dtype=self.dtype))
        self.register_buffer("output_mean", torch.zeros((), dtype=self.dtype))
        if config["baseline"]["type"] == "additive":
            self.baseline = AdditiveBaseline(
                self.n_types, self.rcut, **BASELINE, ridge=config["baseline"]["ridge"], dtype=self.dtype
            )

    @property
    def reach(self) -> float:
        """Cutoff radius of a point, Angstrom; through the atoms it sees n_layers times as far beyond."""
        return self.rcut

    def seen(self, batch: Batch) -> Batch:
        """The batch as the model sees it."""
        return replace(batch, pbc=torch.zeros_like(batch.pbc)) if self.ignore_pbc else batch

    def embedded(self, batch: Batch) -> Tensor:
        """First states of the atoms [n_atoms, n_features]."""
        return self.embedding(self.numbers[batch.atom_type])

    def encode_atoms(self, batch: Batch) -> DeepDFTCode:
        """The states of all atoms in all layers, and what else depends on atoms and weights alone."""
        raise NotImplementedError

    def probe_states(self, code: DeepDFTCode, points: Tensor, point_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Final states [n_points, n_features], and which points have neighbours [n_points, 1]."""
        raise NotImplementedError

    def lonely_state(self, code: DeepDFTCode) -> Tensor:
        """The final state [1, n_features] of a point without neighbours."""
        raise NotImplementedError

    def encode(self, batch: Batch) -> DeepDFTCode:
        """States of the atoms in all layers; the network's output in vacuum."""
        code = self.encode_atoms(self.seen(batch))
        code.lonely = self.lonely_state(code)
        if self.zero_vacuum:
            code.vacuum = self.readout(code.lonely)
        return code

    def geometry(self, batch: Batch, points: Tensor, point_frame: Tensor) -> Tensor | None:
        """The baseline's density [n_points, 1], a constant once it is fitted; None without a baseline."""
        return None if self.baseline is None else self.baseline_density(batch, points, point_frame, None)

    def baseline_density(self, batch: Batch, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The baseline's part [n_points, 1], e/Angstrom^3."""
        if geometry is not None:
            return geometry
        return super().baseline_density(self.seen(batch), points, point_frame, None)

    def residual(self, cache: DeepDFTCode, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The network's part of the density [n_points, 1], e/Angstrom^3."""
        states, near = self.probe_states(cache, points, point_frame)
        rho = self.readout(states)
        if not self.zero_vacuum:
            return rho * self.output_scale + self.output_mean
        # matrix products round one row and many rows differently: without neighbours zero is put in by hand
        return torch.where(near, (rho - cache.vacuum) * self.output_scale, 0.0)

    def features(self, cache: DeepDFTCode, points: Tensor, point_frame: Tensor) -> Tensor:
        """Final states of the points, float64 [n_points, n_features]."""
        return self.probe_states(cache, points, point_frame)[0].double()

    @torch.no_grad()
    def calibrate(self, batch: Batch, points: Tensor, point_frame: Tensor, target: Tensor, weight: Tensor) -> None:
        """Baseline by regression; scale (vacuum "paper": mean) of the output."""
        points, point_frame, target, weight = (t[:CALIBRATION_POINTS] for t in (points, point_frame, target, weight))
        rest = target.to(self.dtype)
        if self.baseline is not None:
            moments = self.baseline.moments(self.seen(batch), points, point_frame, self.dtype)
            self.baseline.fit(moments, target, weight)
            rest = rest - self.baseline(moments)
        if self.zero_vacuum:
            self.output_scale.copy_(rest.double().square().mean().sqrt().clamp_min(1e-12))
        else:
            self.output_mean.copy_(rest.double().mean())


def most_pairs() -> int:
    """How many pairs to treat at once."""
    return PAIRS_WITH_GRADIENTS if torch.is_grad_enabled() else PAIRS


def differentiated(*positions: Tensor) -> bool:
    """Whether derivatives by positions are recorded: filters are then exact, for a table has no second derivative."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in positions)
