"""Several models of one system: the mean of their densities and the standard deviation, point by point.

The deviation is that of the models at hand, sqrt(mean_m |rho_m - mean|^2) with 1/M, as DeePMD-kit's model deviation.
Where it is large, the models were not taught what the density is (Smith et al., J. Chem. Phys. 148, 241733).
"""

from __future__ import annotations

import os

import numpy as np

from .density import Density, PointDensity
from .errors import InputError
from .grid import Grid
from .predict import Predictor, load, track_points
from .request import asked, check_electrons, check_free, check_inside, choose_grid, rescaling
from .structure import Structure
from .symmetry import unfold


class Ensemble:
    """Two or more predictors whose models are asked together: `dcharge.load(["a.pth", "b.pth", "c.pth"])`.

    What differs beyond the weights may not: type map, cutoff, target and whether the electric field is seen.
    Every tile is evaluated by all models in turn; memory holds one tile of each.

    predictors  list of Predictor
    names       what messages call them
    """

    has_deviation = True

    def __init__(self, predictors: list[Predictor], names):
        self.predictors, self.names = predictors, [str(n) for n in names]
        if len(predictors) < 2:
            raise InputError("an ensemble needs two models or more: -m a.pth b.pth c.pth (the same input, other seeds)")
        self.model, self.device = predictors[0].model, predictors[0].device
        self.tile = min(p.tile for p in predictors)
        for predictor in predictors:
            predictor.tile = self.tile  # so that all go through a grid in the same tiles
        for what, of in _EQUAL.items():
            values = [of(p.model) for p in predictors]
            for name, value in zip(self.names, values, strict=True):
                if value != values[0]:
                    raise InputError(
                        f"ensemble: {what} of {self.names[0]} is {_text(values[0])}, that of {name} {_text(value)}; "
                        "the models of an ensemble are of one input, trained with other seeds"
                    )

    def as_seen(self, structure: Structure) -> Structure:
        """The structure as all models take it (see `Predictor.as_seen`)."""
        return self.predictors[0].as_seen(structure)

    def __len__(self) -> int:
        return len(self.predictors)

    @property
    def evaluations(self) -> int:
        """Points that the networks have been evaluated at, all models counted."""
        return sum(p.evaluations for p in self.predictors)

    def members(self, structure: Structure, grid: Grid, coarse=1):
        """Every model's density tile by tile: yields (flat index [n], rho and baseline [n_models, n_channels, n])."""
        each = [p.tiles(structure, grid, parts=True, coarse=coarse) for p in self.predictors]
        for tiles in zip(*each, strict=True):
            yield tiles[0][0], np.stack([rho for _, rho, _ in tiles]), np.stack([base for *_, base in tiles])

    def members_at(self, structure: Structure, points):
        """The same at free points [n, 3] (Angstrom): rho and baseline [n_models, n_channels, n]."""
        both = [p.at(structure, points, parts=True) for p in self.predictors]
        return np.stack([rho for rho, _ in both]), np.stack([base for _, base in both])

    def outputs(self, structure: Structure, grid: Grid, coarse=1, symmetry: bool = False):
        """Tile by tile: yields (flat index [n], mean [n_channels, n], standard deviation [n_channels, n]).

        coarse, symmetry  as in `Predictor.tiles`; with `coarse` every model holds its own residual on the fine grid
        """
        if symmetry and coarse == 1:
            yield from self._irreducible(structure, grid)
            return
        each = [p.tiles(structure, grid, coarse=coarse, symmetry=symmetry) for p in self.predictors]
        for tiles in zip(*each, strict=True):
            yield tiles[0][0], *mean_and_deviation([rho for _, rho, _ in tiles])

    def _irreducible(self, structure: Structure, grid: Grid):
        structure = self.as_seen(structure)
        encoded = self.encode(structure)

        def both(points):
            pairs = zip(self.predictors, encoded, strict=True)
            return np.concatenate(mean_and_deviation([p.decode(*code, points) for p, code in pairs]))

        for index, rows in unfold(structure, grid, self.tile, both):
            yield index, *np.split(rows, 2)

    def encode(self, structure: Structure) -> list:
        """What every model makes of the atoms, for `decode`."""
        return [p.encode(structure) for p in self.predictors]

    def decode(self, encoded, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [n_channels, n] at points [n, 3] (Angstrom), tile by tile; float64."""
        found = np.empty((2, self.model.n_channels, len(points)))
        for start in range(0, len(points), self.tile):
            span = slice(start, start + self.tile)
            pairs = zip(self.predictors, encoded, strict=True)
            rho = np.stack([p.decode(*code, points[span]) for p, code in pairs])
            found[..., span] = mean_and_deviation(rho.astype(np.float64))
        return found[0], found[1]

    def at(self, structure: Structure, points) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [n_channels, n] at points [n, 3] (Angstrom), e/Angstrom^3."""
        points = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        return self.decode(self.encode(structure), points)

    def predict(
        self, atoms, *, shape=None, spacing=None, like=None, points=None, grid=None, electrons=None, dtype=np.float32,
        progress: bool = False, coarse=1, symmetry: bool = False,
    ):  # fmt: skip
        """Mean density and its standard deviation, two Density (at free points: PointDensity) objects.

        Arguments as in `Predictor.predict`; `electrons` scales both by the factor that the mean asks for.
        """
        structure, points = asked(atoms, points)
        kind, source = self.model.config["target"], {"file": "prediction", "code": "dcharge", "model": self.names}
        sources = source, source | {"file": "standard deviation of the prediction"}
        if points is not None:
            check_free(electrons, (shape, spacing, like, grid), coarse, symmetry)
            found = self.at(structure, points)
            return tuple(
                PointDensity(structure, points, values, kind=kind, source=s)
                for values, s in zip(found, sources, strict=True)
            )
        check_electrons(self, electrons)
        grid = choose_grid(structure, shape=shape, spacing=spacing, like=like, grid=grid)
        check_inside(self.as_seen(structure), grid)
        values = np.empty((2, self.model.n_channels, grid.n_points), dtype=dtype)
        tiles = self.outputs(structure, grid, coarse, symmetry)
        for index, *both in track_points(tiles, grid.n_points) if progress else tiles:
            values[..., index] = both
        if electrons is not None:
            values *= rescaling(float(values[0, 0].sum(dtype=np.float64) * grid.dv), electrons)
        return tuple(
            Density(structure, grid, each.reshape(-1, *grid.shape), kind, s)
            for each, s in zip(values, sources, strict=True)
        )


_EQUAL = {
    "the target": lambda model: model.config["target"],
    "the type map": lambda model: model.type_map,
    "the cutoff": lambda model: float(model.reach),
    "the electric field": lambda model: "seen" if model.sees_field else "not seen",
    "the baseline": lambda model: model.config["baseline"]["type"],
    "model/ignore_pbc": lambda model: bool(model.config.get("ignore_pbc")),
}


def _text(value) -> str:
    return f"{value:g} Angstrom" if isinstance(value, float) else str(value)


def mean_and_deviation(rho) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1/M) over the first axis of rho [M, ...], taken in float64, in the type of rho."""
    rho = np.asarray(rho)
    mean = rho.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(np.square(rho - mean).mean(axis=0))
    return mean.astype(rho.dtype), deviation.astype(rho.dtype)


def load_models(models, device="auto", precision=None) -> Predictor | Ensemble:
    """The predictor of one frozen model, or the ensemble of several. models: a path or a list of paths."""
    models = [models] if isinstance(models, (str, os.PathLike)) else list(models)
    if not models:
        raise InputError("-m: a frozen model expected")
    real = [os.path.realpath(m) for m in models]
    twice = next((m for i, m in enumerate(models) if real[i] in real[:i]), None)
    if twice is not None:
        raise InputError(f"-m: {twice} is given twice; the models of an ensemble must differ")
    predictors = [load(m, device, precision) for m in models]
    return predictors[0] if len(models) == 1 else Ensemble(predictors, models)
