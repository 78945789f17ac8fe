"""What a prediction is asked for: which points, in which field, with how many electrons; and whether that can be."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from .density import Density
from .errors import InputError, log, warn_once
from .grid import Grid
from .structure import Structure


def asked(atoms, points=None) -> tuple[Structure, np.ndarray | None]:
    """The structure of ase.Atoms or a Structure, and the points: those given, or its atoms of the pseudo-species X."""
    structure = Structure.from_ase(atoms) if isinstance(atoms, Atoms) else atoms
    if not isinstance(structure, Structure):
        raise InputError(f"predict: ase.Atoms or dcharge.Structure expected, {type(atoms).__name__} given")
    real = structure.numbers > 0
    if real.all():
        return structure, points
    atoms_alone = structure.with_(numbers=structure.numbers[real], positions=structure.positions[real])
    return atoms_alone, structure.positions[~real]


def choose_grid(structure: Structure, *, shape=None, spacing=None, like=None, grid=None) -> Grid:
    """The grid asked for; exactly one of shape, spacing, like, grid. Spans the structure's cell unless given whole."""
    options = {"shape": shape, "spacing": spacing, "like": like, "grid": grid}
    given = [name for name, x in options.items() if x is not None]
    if len(given) != 1:
        got = ", ".join(given) or "none"
        raise InputError(f"grid: give exactly one of shape, spacing, like, grid, points (got {got})")
    if grid is not None:
        if not isinstance(grid, Grid):
            raise InputError(f"grid: dcharge.Grid expected, {type(grid).__name__} given; numbers of points are shape=")
        return grid
    if like is not None:
        if not isinstance(like, Density):
            raise InputError(f"grid: {like.name} holds free points; a density on a grid expected")
        if not np.allclose(like.structure.cell[structure.pbc], structure.cell[structure.pbc], rtol=0, atol=1e-3):
            n = " ".join(map(str, like.grid.shape))
            raise InputError(f"grid: {like.name} has another cell than the structure; its shape alone is --grid {n}")
        return like.grid
    if structure.volume < 1e-6:
        raise InputError(
            "grid: the structure has no cell to span; give it one (for a molecule, e.g. atoms.center(vacuum=4)) "
            "or use --like"
        )
    return Grid(tuple(shape), structure.cell) if shape is not None else Grid.from_spacing(structure.cell, spacing)


def check_inside(structure: Structure, grid: Grid) -> None:
    """Warn once where atoms lie outside the grid along an axis that is not periodic: their electrons are cut off."""
    inside = (structure.positions - grid.origin) @ np.linalg.inv(grid.cell)
    out = (((inside < -1e-9) | (inside > 1 + 1e-9)) & ~structure.pbc).any(axis=1)
    if out.any():
        warn_once(
            "outside",
            f"{np.count_nonzero(out)} of {len(structure)} atoms (the first: {np.argmax(out) + 1}) lie outside the grid "
            "along an axis that is not periodic: their density is cut off; move them into the cell",
        )


def check_free(electrons, grids, coarse, symmetry) -> None:
    """InputError for what a prediction at free points cannot have."""
    if electrons is not None or any(x is not None for x in grids):
        raise InputError("predict: at free points neither a grid nor a number of electrons can be given")
    if coarse != 1 or symmetry:
        raise InputError("predict: coarse and symmetry need a grid, not free points")


def check_field(predictor, field) -> None:
    """Raise InputError where `field` ([3] V/Angstrom or None) is asked of a model that does not see it.

    A field that comes with the structures is another matter: a warning says that it is ignored.
    """
    from .io.systems import as_field  # here: prediction itself works without the parsers of text files

    if (field := as_field(field)) is not None and field.any() and not predictor.model.sees_field:
        family = predictor.model.config["type"]
        raise InputError(
            f"--field: the model ({family}) does not see the electric field; one with model/field expected"
        )


def check_learned(model, meta: dict, structure: Structure) -> None:
    """Raise InputError where a species stands in the model's type_map that no training frame had.

    meta: of a frozen model; those of older versions and of other programs do not say what was learned.
    """
    known = meta.get("species")
    if known is not None and (strange := sorted((set(structure.symbols) - set(known)) & set(model.type_map))):
        raise InputError(
            f"species {', '.join(strange)}: in the model's type_map, but no training frame had it; only "
            f"{', '.join(known)} are learned"
        )


def check_electrons(predictor, electrons) -> None:
    """Raise InputError where a number of electrons is asked of a model of responses."""
    if electrons is not None and predictor.model.config["target"] == "response":
        raise InputError(f"--electrons {electrons:g}: the model predicts a response, which has no electron count")


def rescaling(integral: float, electrons: float) -> float:
    """Factor that makes `integral` equal `electrons`; said in the log. InputError where it makes no sense."""
    if not electrons > 0 or not integral > 0:
        raise InputError(f"--electrons {electrons:g}: the prediction integrates to {integral:g} e, cannot rescale")
    factor = electrons / integral
    log.info(f"electrons: predicted {integral:.6f}, rescaled by {factor:.8f} to {electrons:g}")
    return factor
