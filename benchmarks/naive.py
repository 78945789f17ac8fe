"""The yardstick: Deep Charge's prediction as one writes it in plain torch, every tensor materialised.

    python -m benchmarks.naive [--threads 1]      # points per second

Fixed: float32, neighbours padded to the most of a chunk and found by dense distances to the periodic images around the
chunk, the embedding net at every pair, D = A^T A_<, the fitting net (Lv et al., PRB 108, 235159, Eqs. 2-7).
It takes its weights from a model with `"embedding": "exact"`, whose density it reproduces (tests/test_benchmarks.py).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

CHUNK = 512  # points at once: 8 x 8 x 8 of a grid; larger chunks leave the caches and are slower
R_MIN = 0.01  # Angstrom; 1/r closer to a nucleus is that of this distance


def dense(layer, x: Tensor) -> Tensor:
    """One layer with DeePMD-kit's skip connections: x [..., n_in] -> [..., n_out]."""
    y = torch.tanh(x @ layer.weight.T + layer.bias)
    if layer.dt is not None:
        y = y * layer.dt
    n_in, n_out = x.shape[-1], y.shape[-1]
    if n_out == n_in:
        return y + x
    return y + torch.cat([x, x], -1) if n_out == 2 * n_in else y


def smooth(r: Tensor, rcut: float, rcut_smth: float) -> Tensor:
    """DeepPot-SE's switch: one below rcut_smth, zero beyond rcut."""
    u = ((r - rcut_smth) / (rcut - rcut_smth)).clamp(0.0, 1.0)
    return u**3 * (-6.0 * u**2 + 15.0 * u - 10.0) + 1.0


class Naive:
    """Prediction of one structure with the weights of an exact, unstandardised DeepCharge model."""

    def __init__(self, model, structure):
        if not model.exact or model.baseline is not None or model.l_max != 1:
            raise ValueError("embedding 'exact', baseline 'none' and l_max 1 expected")
        self.model, self.structure = model, structure
        d = model.config["descriptor"]
        self.rcut, self.rcut_smth, self.soft, self.axis = d["rcut"], d["rcut_smth"], d["soft"], d["axis_neuron"]
        self.images, self.image_type = self._periodic_images()

    def _periodic_images(self) -> tuple[Tensor, Tensor]:
        """Positions [n, 3] and types [n] of all atoms within rcut of the cell (orthogonal heights give the range)."""
        s = self.structure
        heights = 1.0 / np.linalg.norm(np.linalg.inv(s.cell), axis=0)
        span = [np.arange(-n, n + 1) for n in np.where(s.pbc, np.ceil(self.rcut / heights) + 1, 0).astype(int)]
        shifts = np.stack(np.meshgrid(*span, indexing="ij"), -1).reshape(-1, 3)
        fractional = (s.positions @ np.linalg.inv(s.cell))[None] + shifts[:, None]
        near = np.all((fractional > -self.rcut / heights) & (fractional < 1 + self.rcut / heights), axis=-1)
        types = np.broadcast_to(s.types(self.model.type_map), near.shape)[near]
        return torch.as_tensor(fractional[near] @ s.cell), torch.as_tensor(types.copy())

    def neighbours(self, points: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, n_neighbours, 3] and distances [n, n_neighbours], padded with distances of rcut and more."""
        distance = torch.cdist(points, candidates)
        most = int((distance < self.rcut).sum(1).max()) if len(candidates) else 0
        vector = candidates[distance.topk(most, dim=1, largest=False, sorted=False).indices] - points[:, None]
        return vector, vector.norm(dim=-1)  # cdist rounds more than the density near a nucleus allows

    def chunk(self, points: Tensor) -> Tensor:
        """Density [n, 1] at points [n, 3] float64 inside the cell, near each other."""
        model = self.model
        low, high = points.amin(0) - self.rcut, points.amax(0) + self.rcut
        inside = ((self.images > low) & (self.images < high)).all(1)
        origin = points.mean(0)
        points = (points - origin).float()
        a = torch.zeros(len(points), 4, model.config["descriptor"]["neuron"][-1])
        for t, net in enumerate(model.embedding):
            candidates = (self.images[inside & (self.image_type == t)] - origin).float()
            vector, r = self.neighbours(points, candidates)
            if not vector.shape[1]:
                continue
            length = (r**2 + self.soft**2).sqrt() if self.soft > 0 else r.clamp_min(R_MIN)
            s = smooth(r, self.rcut, self.rcut_smth) / length
            environment = torch.cat([s[..., None], s[..., None] * vector / length[..., None]], -1)
            environment = environment / model.pair_scale[[0, 1, 1, 1]]
            g = s[..., None] / model.pair_scale[0]
            for layer in net:
                g = dense(layer, g)
            a = a + environment.transpose(1, 2) @ g
        d = (a.transpose(1, 2) @ a[..., : self.axis]).flatten(1) * model.norm**2
        rho = self._fit(d)
        if model.zero_vacuum:
            return (rho - self._fit(torch.zeros(1, d.shape[1]))) * model.output_scale
        return rho * model.output_scale + model.output_mean

    def _fit(self, x: Tensor) -> Tensor:
        for layer in self.model.fitting:
            x = dense(layer, x)
        return x @ self.model.output.weight.T + self.model.output.bias

    @torch.inference_mode()
    def predict(self, grid, tiles) -> Tensor:
        """Density [n] of the given tiles (flat index arrays of `grid`), one after another."""
        return torch.cat([self.chunk(torch.as_tensor(grid.points(index))) for index in tiles])[:, 0]


def some_tiles(grid, n_points: int, size: int = CHUNK) -> list[np.ndarray]:
    """Tiles of a grid, `size` points or fewer each, evenly spread over it, about n_points together."""
    count = sum(1 for _ in grid.tiles(size))  # not a list: of a large grid it would take a gigabyte
    wanted = max(1, min(count, round(n_points / size)))
    chosen = set(np.linspace(0, count - 1, wanted).astype(int).tolist())
    return [tile for i, tile in enumerate(grid.tiles(size)) if i in chosen]


def paper_model(structure):
    """The paper's model to the letter: no baseline, no standardisation, no softening, the net at every pair."""
    from .cases import RCUT, deep_charge

    return deep_charge(
        structure, embedding="exact", standardize=False, vacuum="paper", baseline={"type": "none"},
        descriptor={"rcut": RCUT, "soft": 0.0},
    )  # fmt: skip


def main() -> None:
    """Points per second of this yardstick alone."""
    from dcharge import Grid

    from .cases import report, silicon, timed

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--points", type=int, default=16384, help="how many points (default: 16384)")
    parser.add_argument("--size", type=int, default=100, help="grid points along each edge (default: 100)")
    parser.add_argument("--chunk", type=int, default=CHUNK, help=f"points at once (default: {CHUNK})")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    structure = silicon()
    naive, grid = Naive(paper_model(structure), structure), Grid((args.size,) * 3, structure.cell)
    tiles = some_tiles(grid, args.points, args.chunk)
    naive.predict(grid, tiles[:1])
    time = timed(lambda: naive.predict(grid, tiles)).wall
    n = sum(map(len, tiles))
    report({f"naive torch, {args.threads} threads": {"value": n / time, "unit": "points/s", "seconds": time}})


if __name__ == "__main__":
    main()
