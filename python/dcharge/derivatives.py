"""Gradient and Hessian of a model's density with respect to the place where it is asked for.

By autograd through encode and decode, in float64: first derivatives by the ops' kernels, second ones by the torch
references that their adjoints fall back to (exact, at the references' speed). Points are taken in blocks with a bounded
number of pairs of point and atom, because that is what the graph of a block grows with.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from .batch import Batch
from .density import Density
from .errors import InputError, warn_once
from .grid import Grid
from .io import read_structures
from .models import Model, make_model
from .ops import neighbors
from .predict import Predictor
from .request import check_field, check_inside, check_learned, choose_grid
from .structure import Structure

PAIRS = 8192  # pairs of point and atom in a block: about 0.2 GB of graph for the largest descriptors
POINTS = 512  # points of a block at most
ROUGH = ("relu", "relu6")  # activations with a kink


def density_derivatives(model, structure: Structure, points, order: int = 2):
    """Density of a model at points, and its derivatives with respect to them, float64.

    Parameters
      model      Model or Predictor of any family, in any precision: its weights are used in float64
      structure  Structure
      points     [n, 3], Angstrom
      order      1: rho and gradient; 2: the Hessian too
    Returns rho [n] e/Angstrom^3, gradient [n, 3] e/Angstrom^4 and, with order 2, the symmetric Hessian [n, 3, 3]
    e/Angstrom^5 (numpy), of the total density (or of the response).
    Raises InputError where the model's density has no such derivatives (`check_smooth`), or a value is not finite.
    """
    return Derivatives(model, order)(structure, points)


class Derivatives:
    """`density_derivatives` of one model, its float64 copy made once: called with structure and points.

    smooth  whether a model with cusps is refused (`check_smooth`)
    """

    def __init__(self, model, order: int = 2, smooth: bool = True):
        if order not in (1, 2):
            raise InputError(f"order {order}: 1 (gradient) or 2 (and Hessian) expected")
        if getattr(model, "has_deviation", False):
            raise InputError("derivatives: one model expected, an ensemble given; take its predictors one by one")
        self.model, self.order = in_float64(getattr(model, "model", model)), order
        self.meta = getattr(model, "meta", {})
        check_bends(self.model)
        if smooth:
            check_smooth(self.model)

    def encode(self, structure: Structure):
        """The structure with its atoms encoded, for `at`: once, however many points follow."""
        structure.check_apart()
        check_learned(self.model, self.meta, structure)
        batch = Batch.collate([structure], self.model.type_map, self.model.device)
        with torch.no_grad():
            return batch, self.model.encode(batch)

    def __call__(self, structure: Structure, points):
        """rho [n], gradient [n, 3], with order 2 Hessian [n, 3, 3], at points [n, 3] (Angstrom)."""
        return self.at(self.encode(structure), points)

    def tiles(self, structure: Structure, grid: Grid, tile: int):
        """Of a whole grid, about `tile` points at a time: yields (flat index [n], rho, gradient, Hessian)."""
        encoded = self.encode(structure)
        for index in grid.tiles(tile):
            yield index, *self.at(encoded, grid.points(index))

    def at(self, encoded, points):
        """The same of what `encode` gave."""
        batch, cache = encoded
        points = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        found = [np.empty((len(points), *[3] * k)) for k in range(self.order + 1)]
        for block in self.blocks(batch, points):
            for out, values in zip(found, self._block(cache, points[block]), strict=True):
                out[block] = values
        if not all(np.isfinite(x).all() for x in found):
            raise InputError("a derivative of the density is not a finite number (nan or inf)")
        return tuple(found)

    def blocks(self, batch: Batch, points: np.ndarray):
        """Slices of points with at most PAIRS pairs together (one point may have more)."""
        for start in range(0, len(points), POINTS):
            part = torch.as_tensor(points[start : start + POINTS]).to(batch.atoms.device)
            near = batch.near(part, self.model.reach)
            (i, _), _ = neighbors(near.atoms, batch.cell[0], batch.pbc[0], self.model.reach, part)
            total = np.cumsum(torch.bincount(i, minlength=len(part)).cpu().numpy())
            first = 0
            while first < len(part):
                before = total[first - 1] if first else 0
                last = max(first + 1, int(np.searchsorted(total, before + PAIRS, side="right")))
                yield slice(start + first, start + last)
                first = last

    def _block(self, cache, points: np.ndarray) -> list[np.ndarray]:
        model = self.model
        with torch.enable_grad():
            r = torch.as_tensor(points).to(model.device).requires_grad_()
            rho = model.decode(cache, r, torch.zeros(len(r), dtype=torch.int64, device=model.device))[:, 0]
            found = [rho]
            if rho.requires_grad:
                found += torch.autograd.grad(rho.sum(), r, create_graph=self.order > 1)
            else:  # no point has a neighbour
                found.append(torch.zeros_like(r))
            if self.order > 1:
                rows = [self._row(found[1][:, a], r) for a in range(3)]
                hessian = torch.stack(rows, dim=1)
                found.append(0.5 * (hessian + hessian.mT))
        return [x.detach().cpu().numpy() for x in found]

    @staticmethod
    def _row(component, r):
        if not component.requires_grad:
            return torch.zeros_like(r)
        (row,) = torch.autograd.grad(component.sum(), r, retain_graph=True, allow_unused=True)
        return torch.zeros_like(r) if row is None else row


def in_float64(model: Model) -> Model:
    """A copy of a model in float64, for evaluation: none of its parameters asks for gradients."""
    config = copy.deepcopy(model.config) | {"precision": "float64"}
    out = make_model(config).to(model.device).eval()
    out.load_state_dict(model.state_dict())
    return out.requires_grad_(False)


def roughness(model: Model) -> tuple[str, str] | None:
    """Where single places of a model's density have no second derivatives: (what is so, what to train with), or None.

    That is on the nuclei (cusps), or at the cutoff distance from one (a step in the curvature, or in the value). The
    models of the published programs are so.
    """
    config = model.config
    for path, section in (("model", config), ("model/descriptor", config.get("descriptor", {}))):
        if section.get("soft", 1.0) == 0:
            return f"the model has {path}/soft 0, its density has cusps at the nuclei", "soft 0.5"
    if (kind := config.get("cutoff_function", "smooth")) != "smooth":
        return f"with model/cutoff_function {kind} the density's second derivatives jump at the cutoff", "smooth"
    return None


def check_smooth(model: Model) -> None:
    """InputError unless the model's density is twice continuously differentiable everywhere."""
    if found := roughness(model):
        what, instead = found
        raise InputError(f"derivatives: {what}, and no second derivatives there; train with {instead}")


def check_bends(model: Model) -> None:
    """InputError where jumps or kinks lie all over space: derivatives taken between them would leave them out."""
    if not model.smooth:
        raise InputError(
            f"derivatives: the density of family {model.config['type']} is not smooth, it jumps where the neighbours "
            "in its graph change; take Fourier derivatives of the grid (--derivatives fft)"
        )
    for section, keys in model.config.items():
        name = keys.get("activation_function") if isinstance(keys, dict) else None
        if name in ROUGH:
            raise InputError(
                f"derivatives: model/{section}/activation_function {name} has a kink, the density no second "
                "derivatives; train with tanh, silu, gelu or softplus"
            )


@dataclass
class PredictedFrame:
    """A structure whose density a model gives: what `dcharge analyze -m` reads in place of a density file."""

    source: PredictedDensities
    name: str
    structure: Structure

    def read(self, dtype=np.float64) -> Density:
        """The density on the grid asked for."""
        return self.source.density(self.name, self.structure, dtype)


class PredictedDensities:
    """Densities, and their derivatives, of structure files by a model, on a grid (shape, spacing or like)."""

    def __init__(self, predictor: Predictor, *, shape=None, spacing=None, like=None, pbc=None, field=None):
        check_field(predictor, field)
        self.predictor, self.options = predictor, {"shape": shape, "spacing": spacing, "like": like}
        self.given = {"pbc": pbc, "field": field}  # in place of what files say
        self._derivatives = None

    def frames(self, path) -> list[PredictedFrame]:
        """The frames of a structure file or trajectory."""
        return [PredictedFrame(self, name, structure) for name, structure in read_structures(path, **self.given)]

    def density(self, name: str, structure: Structure, dtype) -> Density:
        """The prediction, float64 sums of the model's own precision."""
        try:
            structure.types(self.predictor.model.type_map)
            grid = choose_grid(structure, **self.options)
            out = self.predictor.predict(structure, grid=grid, dtype=dtype, progress=True)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        out.source["file"] = name
        return out

    def prepare(self, smooth: bool) -> None:
        """Make `derivatives` ready, before anything is predicted; InputError where the model's density has none.

        smooth  whether they must exist everywhere (`check_smooth`), or single places may be left out
        """
        self._derivatives = Derivatives(self.predictor.model, smooth=smooth)
        if not smooth and (rough := roughness(self.predictor.model)):
            warn_once("rough", f"{rough[0]}: derivatives there are those of one side, or zero; elsewhere exact")

    def derivatives(self, density: Density):
        """Tile by tile: yields (flat index [n], rho [n], gradient [n, 3], Hessian [n, 3, 3]), e and Angstrom."""
        check_inside(self.predictor.as_seen(density.structure), density.grid)
        yield from self._derivatives.tiles(density.structure, density.grid, self.predictor.tile)
