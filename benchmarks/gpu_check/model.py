"""A Deep Charge model of the paper's sizes on random atoms: a training step, a whole grid."""

from __future__ import annotations

import copy

import numpy as np
import torch

# `dcharge.config.normalize_model` fills it from {"type": "deep_charge", "type_map": ["O", "Si"], "descriptor":
# {"rcut": 4.0}}; written out, as the package behind it may be absent (a test compares)
CONFIG = {
    "type": "deep_charge",
    "type_map": ["O", "Si"],
    "precision": "float32",
    "target": "density",
    "baseline": {"type": "additive", "ridge": 0.0001},
    "descriptor": {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 0.0,
        "neuron": [20, 40, 80],
        "axis_neuron": 16,
        "n_radial": 20,
        "l_max": 1,
        "gram": "joint",
        "soft": 0.5,
        "env_protection": 0.0,
        "resnet_dt": False,
        "set_davg_zero": True,
        "activation_function": "tanh",
    },
    "fitting_net": {"neuron": [200, 200, 200], "resnet_dt": True, "activation_function": "tanh"},
    "embedding": "interpolated",
    "standardize": True,
    "vacuum": "zero",
}


class Setting:
    """Model, structure, points and made-up densities; the same numbers whatever the device."""

    def __init__(self, device, precision: str, n_points: int = 512):
        from dcharge import Structure
        from dcharge.batch import Batch
        from dcharge.models import make_model

        rng = np.random.default_rng(3)
        cell = np.array([[4.4, 0.2, 0.0], [1.1, 4.1, -0.3], [-0.6, 0.5, 4.9]])
        self.structure = Structure(rng.choice([8, 14], 7), rng.random((7, 3)) @ cell, cell, (True, True, True))
        batch = Batch.collate([self.structure], CONFIG["type_map"])
        points = torch.as_tensor(rng.random((n_points, 3)) @ cell)
        target = 0.5 * torch.exp(-torch.cdist(points, batch.atoms).amin(1, keepdim=True))
        frame, weight = torch.zeros(n_points, dtype=torch.int64), torch.ones(n_points, dtype=torch.float64)
        model = make_model({**copy.deepcopy(CONFIG), "precision": precision}, 1)
        model.calibrate(batch, points, frame, target, weight)
        self.device, self.model, self.batch = device, model.to(device), batch.to(device)
        self.points, self.frame, self.target = points.to(device), frame.to(device), target.to(device)

    def step(self) -> tuple[float, dict[str, torch.Tensor]]:
        """Loss and gradients of one training step; the optimiser moves the parameters."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        rho = self.model.decode(self.model.encode(self.batch), self.points, self.frame)
        loss = (rho - self.target.to(rho.dtype)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        gradients = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        return float(loss.detach()), gradients

    def grid(self, shape=(13, 12, 11)) -> np.ndarray:
        """Predicted density on a whole grid."""
        from dcharge.predict import Predictor

        predictor = Predictor(self.model.eval(), device=self.device)
        return predictor.predict(self.structure, shape=shape, dtype=np.float64).values
