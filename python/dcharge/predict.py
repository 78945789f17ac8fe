"""Prediction: a frozen model on whole grids or free points, in tiles, with bounded memory. `dcharge predict`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from .batch import Batch
from .coarse import check as check_coarse
from .coarse import tiles as coarse_tiles
from .density import Density, PointDensity
from .device import WithinMemory, choose_device
from .errors import InputError, counted, log, warn_once
from .freeze import load_frozen
from .grid import Grid
from .io.replacing import check_folder
from .models import Model
from .precision import check as check_precision
from .progress import track
from .request import (
    asked,
    check_electrons,
    check_field,
    check_free,
    check_inside,
    check_learned,
    choose_grid,
    rescaling,
)
from .structure import Structure, warn_of_field
from .symmetry import unfold

# points decoded at once: enough for good matrix products; larger tiles fall out of the caches and of the allocator's
# reuse (8192 points ran at two thirds of the rate)
TILE = 2048
TILE_CUDA = 65536  # a GPU wants many points at once


class Predictor:
    """A frozen model ready for use: `dcharge.load("frozen.pth").predict(atoms, spacing=0.1)`.

    precision  bf16: operands of matrix products rounded to bfloat16 (see `dcharge.precision`); None: as trained
    """

    has_deviation = False  # as `Ensemble` has

    def __init__(
        self, model: Model, meta: dict | None = None, device="cpu", tile: int | None = None, precision=None
    ):  # fmt: skip
        self.model, self.meta, self.device = model.to(device), meta or {}, torch.device(device)
        self.tile = tile or (TILE_CUDA if self.device.type == "cuda" else model.tile or TILE)
        self.evaluations = 0  # points the network has been evaluated at
        self.within_memory = WithinMemory(self.device)
        if precision == "bf16":
            self.model.use_bf16()
        elif precision is not None:
            raise InputError(f"precision: 'bf16' or None expected, {precision!r} given")

    def as_seen(self, structure: Structure) -> Structure:
        """The structure as the model takes it: without periodic images where it was trained so (`ignore_pbc`)."""
        return structure.with_(pbc=(False, False, False)) if self.model.config.get("ignore_pbc") else structure

    @torch.inference_mode()
    def encode(self, structure: Structure):
        """(batch, cache) of a structure, for `residual` and `baseline`."""
        if structure.field is not None and np.any(structure.field) and not self.model.sees_field:
            family = self.model.config["type"]
            warn_once("field", f"the model ({family}) does not see the electric field; it is ignored")
        if self.model.sees_field:
            warn_of_field(structure, structure.formula)
            if self.model.config["target"] == "response" and (structure.field is None or not structure.field.any()):
                text = "the model predicts the response to an electric field and the structure has none: it is zero"
                warn_once("no-field", f"{text} (give --field X Y Z, V/Angstrom)")
        structure.check_apart()
        check_learned(self.model, self.meta, structure)
        batch = Batch.collate([structure], self.model.type_map, self.device)
        return batch, self.model.encode(batch)

    def _evaluate(self, compute, points: np.ndarray) -> list[np.ndarray]:
        """Arrays [k, n] of compute(points [n, 3], point_frame [n]), which gives tensors [n, k]."""

        def part(points):
            points = torch.as_tensor(points, dtype=torch.float64).to(self.device)
            frame = torch.zeros(len(points), dtype=torch.int64, device=self.device)
            return [t.T.cpu().numpy() for t in compute(points, frame)]

        parts = self.within_memory(part, points)
        return parts[0] if len(parts) == 1 else [np.concatenate(each, axis=1) for each in zip(*parts, strict=True)]

    @torch.inference_mode()
    def residual(self, encoded, points: np.ndarray) -> np.ndarray:
        """The network's part of the density [n_channels, n] at points [n, 3] (Angstrom), e/Angstrom^3."""
        batch, cache = encoded
        self.evaluations += len(points)

        def compute(points, frame):
            return [_finite(self.model.residual(cache, points, frame, self.model.geometry(batch, points, frame)))]

        return self._evaluate(compute, points)[0]

    @torch.inference_mode()
    def baseline(self, encoded, points: np.ndarray) -> np.ndarray:
        """The baseline's part of the density [1, n] at points [n, 3] (Angstrom), e/Angstrom^3."""
        return self._evaluate(lambda *at: [self.model.baseline_density(encoded[0], *at, None)], points)[0]

    def decode(self, batch, cache, points: np.ndarray) -> np.ndarray:
        """The density [n_channels, n] at points [n, 3] (Angstrom) of what `encode` gave, e/Angstrom^3."""
        return self._decode(batch, cache, points, parts=False)[0]

    @torch.inference_mode()
    def _decode(self, batch, cache, points: np.ndarray, parts: bool):
        self.evaluations += len(points)

        def compute(points, frame):
            geometry = self.model.geometry(batch, points, frame)
            rho = [_finite(self.model.decode(cache, points, frame, geometry))]
            return rho + [self.model.baseline_density(batch, points, frame, geometry)] if parts else rho

        rho, *base = self._evaluate(compute, points)
        return rho, base[0] if parts else None

    @torch.inference_mode()
    def tiles(self, structure: Structure, grid: Grid, parts: bool = False, coarse=1, symmetry: bool = False):
        """Density tile by tile: yields (flat index [n], rho [n_channels, n], baseline [1, n] or None), e/Angstrom^3.

        coarse    1, 2, 3, 4 or "auto": the residual on a grid coarser by this factor (see `dcharge.coarse`)
        symmetry  only symmetry-irreducible points are evaluated (see `dcharge.symmetry`)
        """
        structure = self.as_seen(structure)
        if coarse != 1:
            yield from coarse_tiles(self, structure, grid, coarse, parts, symmetry)
            return
        batch, cache = self.encode(structure)
        if symmetry:

            def both(points):
                rho, base = self._decode(batch, cache, points, parts)
                return rho if base is None else np.concatenate([rho, base])

            for index, rows in unfold(structure, grid, self.tile, both):
                yield index, *((rows[:-1], rows[-1:]) if parts else (rows, None))
            return
        for index in grid.tiles(self.tile):
            yield index, *self._decode(batch, cache, grid.points(index), parts)

    def outputs(self, structure: Structure, grid: Grid, coarse=1, symmetry: bool = False):
        """What is written of a structure, tile by tile: yields (flat index [n], rho [n_channels, n])."""
        for index, rho, _ in self.tiles(structure, grid, coarse=coarse, symmetry=symmetry):
            yield index, rho

    @torch.inference_mode()
    def at(self, structure: Structure, points, parts: bool = False):
        """Density [n_channels, n] at points [n, 3] (Angstrom); with `parts` also the baseline's [1, n]."""
        points = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        batch, cache = self.encode(structure)
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
        progress: bool = False, coarse=1, symmetry: bool = False,
    ) -> Density | PointDensity:  # fmt: skip
        """Density of a structure.

        atoms      ase.Atoms or Structure; atoms of the pseudo-species X (see `insert_grid`) are taken as the points
        one of     shape (n1, n2, n3); spacing in Angstrom; grid; like, a Density whose grid is used; points [n, 3]
        electrons  rescale so that the grid sum integrates to this number
        coarse, symmetry  as in `tiles`: fewer evaluations of the network
        Returns a Density (float32 by default), or a PointDensity for free points. e/Angstrom^3
        """
        structure, points = asked(atoms, points)
        source = {"file": "prediction", "code": "dcharge", "model": self.meta.get("checkpoint", "")}
        if points is not None:
            check_free(electrons, (shape, spacing, like, grid), coarse, symmetry)
            kind = self.model.config["target"]
            return PointDensity(structure, points, self.at(structure, points), kind=kind, source=source)
        check_electrons(self, electrons)
        grid = choose_grid(structure, shape=shape, spacing=spacing, like=like, grid=grid)
        check_inside(self.as_seen(structure), grid)
        values = np.empty((self.model.n_channels, grid.n_points), dtype=dtype)
        tiles = self.tiles(structure, grid, coarse=coarse, symmetry=symmetry)
        if progress:
            tiles = track_points(tiles, grid.n_points)
        for index, rho, _ in tiles:
            values[:, index] = rho
        if electrons is not None:
            values *= rescaling(float(values[0].sum(dtype=np.float64) * grid.dv), electrons)
        return Density(structure, grid, values.reshape(-1, *grid.shape), self.model.config["target"], source)


def _finite(rho):
    if not torch.isfinite(rho).all():
        raise InputError("the model's density is not a finite number (nan or inf): its weights are damaged or diverged")
    return rho


def track_points(tiles, n_points: int):
    """The tiles, with a progress bar that counts points."""
    bar = track(None, total=n_points, desc="predicting", unit="points")
    with bar:
        for tile in tiles:
            yield tile
            bar.update(len(tile[0]))


def load(path, device="auto", precision=None):
    """Frozen model from a file, ready to predict; device: auto (a GPU where there is one), cpu, cuda or cuda:N.

    path       a list of files: an `Ensemble`, which predicts mean and standard deviation
    precision  bf16: faster on some CPUs; refused unless `dcharge test --precision bf16 --store` has accepted it
    """
    if isinstance(path, (list, tuple)):
        from .ensemble import load_models

        return load_models(path, device, precision)
    device = choose_device(device)
    model, meta = load_frozen(path, device)
    if precision == "bf16":
        check_precision(meta, path)
    return Predictor(model, meta, device, precision=precision)


def write_prediction(
    predictor, writer, structure: Structure, grid: Grid, electrons=None, coarse=1, symmetry: bool = False
) -> float:
    """Predict into `writer` (put); returns the factor for `close`/`end` that gives the wanted number of electrons."""
    for tile in track_points(predictor.outputs(structure, grid, coarse, symmetry), grid.n_points):
        writer.put(*tile)
    if electrons is None:
        what = "electrons" if predictor.model.config["target"] == "density" else "electrons of the response"
        log.info(f"{what}: {writer.electrons:.6f}")
        return 1.0
    return rescaling(writer.electrons, electrons)


def same_atoms(structure: Structure, template: Density) -> None:
    """InputError unless the template has the same species in the same order (augmentation belongs to atoms)."""
    if not np.array_equal(structure.numbers, template.structure.numbers):
        raise InputError(
            f"--like {template.name}: holds {template.structure.formula} in its order, the structure is "
            f"{structure.formula}; augmentation occupancies belong to atoms, so both must agree"
        )


def run(
    model, structures, *, shape=None, spacing=None, like=None, output=None, pattern=None, electrons=None, every=1,
    dtype="float32", type_map=None, pbc=None, field=None, coarse=1, symmetry=False, device="auto",
    precision=None,
) -> int:  # fmt: skip
    """Predict structure files into density files (`dcharge predict`); returns the number of frames written.

    model       path, or a list of them: mean, and standard deviation beside it (`io.writers.deviation_name`)
    structures  paths of anything `io.read_structures` reads; the other arguments as on the command line.
    """
    from itertools import chain, islice

    from .io import HDF5Writer, open_system, open_writer, read_structures
    from .io.tag import periodicity_given
    from .io.writers import deviation_name

    models = [model] if isinstance(model, (str, Path)) else list(model)
    predictor = load(models, device, precision)
    model = ", ".join(map(str, models))
    check_field(predictor, field)
    check_electrons(predictor, electrons)
    if coarse != 1:
        for each in getattr(predictor, "predictors", [predictor]):
            check_coarse(each.model, coarse)
    with periodicity_given(True):  # a template's is not used
        template = open_system(like).frames[0].read() if like else None
    frames = chain.from_iterable(
        read_structures(path, type_map=type_map, every=every, pbc=pbc, field=field) for path in structures
    )
    first = list(islice(frames, 2))
    if not first:
        raise InputError(f"{structures[0]}: no structure found")
    target = output if output is not None else pattern_name(pattern, 0)
    check_target(target, [*structures, like])
    if predictor.has_deviation and (beside := deviation_name(target)) is not None:
        check_target(beside, [*structures, like])
    hdf5 = output is not None and str(output).endswith((".h5", ".hdf5"))
    if len(first) > 1 and not pattern and not hdf5:
        raise InputError(f"{output}: holds one frame, the input has more; use an .h5 file or --pattern rho.%06d.cube")
    kind, n = predictor.model.config["target"], 0
    source, extra = {"code": "dcharge", "model": str(model), "comment": "dcharge prediction"}, {}
    kept = getattr(template, "extra", {}).get("vasp", {})
    if any("augmentation" in tail for tail in kept.get("tails", [])):
        source["comment"] += f"; augmentation occupancies copied from {template.name}"
        # of a spin-polarised file those of the total density, which is what is predicted
        extra = {"vasp": {**kept, "tails": kept["tails"][: predictor.model.n_channels]}}
    whole = HDF5Writer(output, dtype, deviation=predictor.has_deviation) if hdf5 else None
    try:
        for name, structure in chain(first, frames):
            try:
                structure.types(predictor.model.type_map)
                structure.check_apart()
                grid = choose_grid(structure, shape=shape, spacing=spacing, like=template)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            check_inside(predictor.as_seen(structure), grid)
            if extra:
                same_atoms(structure, template)
            source["structure"] = name
            log.info(f"{name}: {len(structure)} atoms, grid {'x'.join(map(str, grid.shape))}")
            if whole is not None:
                whole.begin(structure, grid, predictor.model.n_channels, kind, dict(source), extra)
                whole.end(write_prediction(predictor, whole, structure, grid, electrons, coarse, symmetry))
            else:
                path = pattern_name(pattern, n) if pattern else output
                with open_writer(
                    path, structure, grid, predictor.model.n_channels, kind, dict(source), extra, np.dtype(dtype),
                    predictor.has_deviation,
                ) as writer:  # fmt: skip
                    writer.close(write_prediction(predictor, writer, structure, grid, electrons, coarse, symmetry))
                beside = deviation_name(path) if predictor.has_deviation else None
                log.info(f"written: {path}" + (f" and {beside}" if beside else ""))
            n += 1
        if whole is not None:
            whole.close()
            log.info(f"written: {output} ({counted(n, 'frame')})")
    except BaseException:
        if whole is not None:
            whole.abort()
        raise
    return n


def check_target(path, inputs) -> None:
    """InputError, before anything is computed, where the folder of `path` is missing or `path` is one of the inputs."""
    path = Path(path)
    check_folder(path)
    for other in inputs:
        if other is not None and path.is_file() and Path(other).is_file() and path.samefile(other):
            raise InputError(f"{path}: is read by this command and would be overwritten; give the output another name")


def pattern_name(pattern: str, n: int) -> str:
    """File name of frame n; InputError for a pattern without exactly one %d, %06d, ..."""
    if not re.fullmatch(r"([^%]|%%)*%\d*d([^%]|%%)*", pattern):
        raise InputError(f"--pattern {pattern}: a frame number such as %06d expected in it")
    return pattern % n
