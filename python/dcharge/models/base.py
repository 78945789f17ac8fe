"""Model: what every family shares. Encode the atoms of a structure once, then decode points in any number and order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..errors import InputError
from .baseline import AdditiveBaseline

DTYPES = {"float32": torch.float32, "float64": torch.float64}

# standardisation and baseline are estimated from at most this many points
CALIBRATION_POINTS = 50_000


@dataclass
class Encoded:
    """What `encode` returns: the batch, and whatever a family computes from the atoms alone."""

    batch: Batch


class Model(nn.Module):
    """rho(r) = baseline(r) + residual(r); a family defines `reach`, `encode`, `residual` and `features`.

    config: the `model` section of the input, all defaults filled.
    A density model has one output channel, the total density in e/Angstrom^3.
    """

    n_channels = 1
    sees_field = False  # whether the electric field enters
    smooth = True  # whether the density has derivatives everywhere (settings may still spoil them)
    encodes_atoms = False  # whether the time of `encode` grows with the number of atoms
    tile: int | None = None  # points decoded at once on a CPU; None: the usual number
    bf16 = False  # whether matrix products round their operands to bfloat16, in prediction only

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        self.type_map: list[str] = list(config["type_map"])
        self.dtype = DTYPES[config["precision"]]
        self.baseline: AdditiveBaseline | None = None

    @property
    def n_types(self) -> int:
        """Number of species."""
        return len(self.type_map)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    @property
    def reach(self) -> float:
        """How far a point sees, Angstrom."""
        raise NotImplementedError

    def use_bf16(self) -> None:
        """Round the operands of matrix products to bfloat16 from now on; InputError where the family cannot."""
        raise InputError(f"--precision bf16: the model family {self.config['type']} has no bfloat16 path")

    def encode(self, batch: Batch) -> Encoded:
        """Everything that does not depend on the points, computed once per structure (in training: per step)."""
        return Encoded(batch)

    def geometry(self, batch: Batch, points: Tensor, point_frame: Tensor) -> Tensor | None:
        """Parameter-free per-point tensor [n_points, ...] that a trainer may cache, or None."""
        return None

    def residual(self, cache: Encoded, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The network's part of the density [n_points, n_channels], e/Angstrom^3."""
        raise NotImplementedError

    def features(self, cache: Encoded, points: Tensor, point_frame: Tensor) -> Tensor:
        """Input of the last shared network, float64 [n_points, n_features]."""
        raise NotImplementedError

    def baseline_density(self, batch: Batch, points: Tensor, point_frame: Tensor, geometry: Tensor | None) -> Tensor:
        """The baseline's part [n_points, 1], e/Angstrom^3; zeros without a baseline."""
        if self.baseline is None:
            return torch.zeros((len(points), 1), dtype=self.dtype, device=points.device)
        return self.baseline(self.baseline.moments(batch, points, point_frame, self.dtype))

    def decode(self, cache: Encoded, points: Tensor, point_frame: Tensor, geometry: Tensor | None = None) -> Tensor:
        """Density at points.

        cache: from `encode`; points # [n_points, 3] float64, Angstrom; point_frame # [n_points] int64; geometry: as
        returned by `geometry` for these points, if at hand. -> [n_points, n_channels] e/Angstrom^3
        """
        if geometry is None:
            geometry = self.geometry(cache.batch, points, point_frame)
        rho = self.residual(cache, points, point_frame, geometry)
        if self.baseline is not None:
            rho = rho + self.baseline_density(cache.batch, points, point_frame, geometry)
        return rho

    def calibrate(self, batch: Batch, points: Tensor, point_frame: Tensor, target: Tensor, weight: Tensor) -> None:
        """Set the stored constants (baseline, standardisation) from training points. Called once, before training.

        points # [n, 3], point_frame # [n], target # [n, 1] e/Angstrom^3, weight # [n] mean 1
        """
        raise NotImplementedError
