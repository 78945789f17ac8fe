"""Prediction: a frozen model evaluated on whole grids or free points, in tiles, with bounded memory. `dcharge predict`."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms

from .batch import Batch
from .density import Density, PointDensity
from .errors import InputError, log
from .freeze import load_frozen
from .grid import Grid
from .models import Model
from .progress import track
from .structure import Structure

# points decoded at once: large enough for good matrix products, small enough to stay near the caches
TILE = 8192


class Predictor:
    """A frozen model ready for use: `dcharge.load("frozen.pth").predict(atoms, spacing=0.1)`."""

    def __init__(self, model: Model, meta: dict | None = None, device="cpu", tile: int = TILE):
        self.model, self.meta, self.device, self.tile = model.to(device), meta or {}, torch.device(device), tile

    @torch.inference_mode()
    def _decode(self, batch, cache, points: np.ndarray, parts: bool):
        points = torch.as_tensor(points, dtype=torch.float64).to(self.device)
        frame = torch.zeros(len(points), dtype=torch.int64, device=self.device)
        geometry = self.model.geometry(batch, points, frame)
        rho = self.model.decode(cache, points, frame, geometry)
        if not parts:
            return rho.T.cpu().numpy(), None
        return rho.T.cpu().numpy(), self.model.baseline_density(batch, points, frame, geometry).T.cpu().numpy()

    @torch.inference_mode()
    def tiles(self, structure: Structure, grid: Grid, parts: bool = False):
        """Density tile by tile: yields (flat index [n], rho [n_channels, n], baseline [1, n] or None), e/Angstrom^3."""
        batch = Batch.collate([structure], self.model.type_map, self.device)
        cache = self.model.encode(batch)
        for index in grid.tiles(self.tile):
            yield index, *self._decode(batch, cache, grid.points(index), parts)

    @torch.inference_mode()
    def at(self, structure: Structure, points, parts: bool = False):
        """Density [n_channels, n] at points [n, 3] (Angstrom); with `parts` also the baseline's [1, n]."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        batch = Batch.collate([structure], self.model.type_map, self.device)
        cache = self.model.encode(batch)
        rho = np.empty((self.model.n_channels, len(points)), dtype=np.float64)
        base = np.empty((1, len(points)), dtype=np.float64)
        for start in range(0, len(points), self.tile):
            span = slice(start, start + self.tile)
            rho[:, span], part = self._decode(batch, cache, points[span], parts)
            if parts:
                base[:, span] = part
        return (rho, base) if parts else rho

    def predict(
        self, atoms, *, shape=None, spacing=None, like=None, points=None, grid=None, electrons=None, dtype=np.float32,
        progress: bool = False,
    ) -> Density | PointDensity:  # fmt: skip
        """Density of a structure.

        atoms      ase.Atoms or Structure; atoms of the pseudo-species X (see `insert_grid`) are taken as the points
        one of     shape (n1, n2, n3); spacing in Angstrom; grid; like, a Density whose grid is used; points [n, 3]
        electrons  rescale so that the grid sum integrates to this number
        Returns a Density (float32 by default), or a PointDensity for free points. e/Angstrom^3
        """
        structure = Structure.from_ase(atoms) if isinstance(atoms, Atoms) else atoms
        real = structure.numbers > 0
        if not real.all():
            points = structure.positions[~real]
            structure = structure.with_(numbers=structure.numbers[real], positions=structure.positions[real])
        source = {"file": "prediction", "code": "dcharge", "model": self.meta.get("checkpoint", "")}
        if points is not None:
            return PointDensity(structure, points, self.at(structure, points), source=source)
        grid = choose_grid(structure, shape=shape, spacing=spacing, like=like, grid=grid)
        values = np.empty((self.model.n_channels, grid.n_points), dtype=dtype)
        tiles = self.tiles(structure, grid)
        if progress:
            tiles = track_points(tiles, grid.n_points)
        for index, rho, _ in tiles:
            values[:, index] = rho
        if electrons is not None:
            values *= rescaling(float(values[0].sum(dtype=np.float64) * grid.dv), electrons)
        return Density(structure, grid, values.reshape(-1, *grid.shape), self.model.config["target"], source)


def track_points(tiles, n_points: int):
    """The tiles, with a progress bar that counts points."""
    bar = track(None, total=n_points, desc="predicting", unit="points")
    with bar:
        for tile in tiles:
            yield tile
            bar.update(len(tile[0]))


def rescaling(integral: float, electrons: float) -> float:
    """Factor that makes `integral` equal `electrons`; said in the log. InputError where it makes no sense."""
    if not electrons > 0 or not integral > 0:
        raise InputError(f"--electrons {electrons:g}: the predicted density integrates to {integral:g} e, cannot rescale")
    factor = electrons / integral
    log.info(f"electrons: predicted {integral:.6f}, rescaled by {factor:.8f} to {electrons:g}")
    return factor


def choose_grid(structure: Structure, *, shape=None, spacing=None, like=None, grid=None) -> Grid:
    """The grid asked for; exactly one of shape, spacing, like, grid. Spans the structure's cell unless given whole."""
    given = [name for name, x in (("shape", shape), ("spacing", spacing), ("like", like), ("grid", grid)) if x is not None]
    if len(given) != 1:
        raise InputError(f"grid: give exactly one of shape, spacing, like, points (got {', '.join(given) or 'none'})")
    if grid is not None:
        return grid
    if like is not None:
        return like.grid
    if structure.volume < 1e-6:
        raise InputError(
            "grid: the structure has no cell to span; give it one (for a molecule, e.g. atoms.center(vacuum=4)) or use --like"
        )
    return Grid(tuple(shape), structure.cell) if shape is not None else Grid.from_spacing(structure.cell, spacing)


def load(path, device="cpu") -> Predictor:
    """Frozen model from a file, ready to predict."""
    model, meta = load_frozen(path, device)
    return Predictor(model, meta, device)
