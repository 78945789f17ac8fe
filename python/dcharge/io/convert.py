"""Converting frames from any format into any other, one frame in memory at a time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..density import Density, PointDensity
from ..errors import InputError, log
from . import formats
from .electrons import check_electrons
from .hdf5_writer import HDF5Writer
from .minus import Pairs
from .points_writer import PointWriter
from .replacing import replacing
from .source import stem
from .systems import Frame, open_system

SUFFIX = {"cube": ".cube", "chgcar": ".CHGCAR"}


def sample(frame: Frame, n: int, seed: int, number: int, dtype=np.float64, pairs: Pairs | None = None) -> PointDensity:
    """n points of a frame, uniformly without replacement; the same for the same (seed, number). Points keep weights.

    pairs: subtracts the frame's reference first
    """
    if n > frame.n_points:
        raise InputError(f"{frame.name}: {n} points asked for, the frame has {frame.n_points}")
    index = np.sort(np.random.default_rng([seed, number]).choice(frame.n_points, n, replace=False))
    weight, kind = None, frame.kind if pairs is None else "response"
    if frame.format.NAME == "hdf5" and pairs is None:
        values, positions = frame.values_at(index).astype(dtype), frame.points(index)
    else:
        density = frame.read(dtype) if pairs is None else pairs.read(frame, dtype)
        values, positions = density.values_at(index), density.points(index)
        weight = getattr(density, "weight", None)
        weight = None if weight is None else weight[index] / weight[index].mean()
    return PointDensity(frame.structure, positions, values, weight, kind, {"file": frame.name})


class _Files:
    """One file per frame, named by `name_of(number, frame)`."""

    def __init__(self, name_of):
        self.name_of, self.module = name_of, None

    def append(self, density: Density, number: int, frame: Frame) -> None:
        path = self.name_of(number, frame)
        formats.for_writing(path).write(density, path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def _pattern(target: str):
    """Function number -> file name for a pattern such as rho.%03d.cube."""
    try:
        if target % 1 == target % 2:
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"{target}: one %d (or %03d, ...) expected in the pattern") from None
    return lambda number, frame: target % number


def _in_folder(folder: Path, suffix: str):
    """Function (number, frame) -> file name in a folder, after the frame's own name."""
    used = set()

    def name(number, frame):
        base = stem(frame.name.replace("#", "_").replace(os.sep, "_"))
        for ending in (".cube", ".cub", ".CHGCAR"):
            base = base.removesuffix(ending)
        if base + suffix in used:
            base = f"{base}_{number:04d}"
        used.add(base + suffix)
        return folder / (base + suffix)

    return name


def _check(target: str, frames: list[Frame], format, points) -> str:
    """What to write: "points", "hdf5", "pattern", "folder" or "file". Raises InputError where that cannot be."""
    if format == "points" or (points and format is None and not Path(stem(target)).suffix):
        return "points"
    if points:
        raise InputError(f"{target}: --points makes point data, which is written into a folder (a name without suffix)")
    if format is not None:
        return "folder"
    module = formats.by_name(stem(target))
    if module is None:
        if Path(stem(target)).suffix:
            raise InputError(f"{target}: the name tells no format; expected {formats.KNOWN}")
        return "points"
    if module.NAME == "hdf5":
        return "hdf5"
    if "%" in target:
        return "pattern"
    if len(frames) > 1:
        raise InputError(
            f"{target}: {len(frames)} frames for one file; write .h5, a pattern such as rho.%03d.cube, or a "
            "folder with --format cube"
        )
    return "file"


def convert(
    sources,
    target,
    *,
    format=None,
    points=None,
    seed=0,
    electrons=None,
    dtype=None,
    compress=None,
    kind=None,
    pbc=None,
    field=None,
    minus=None,
) -> int:
    """Read every frame of `sources` and write them to `target`; returns the number of frames.

    format     None (the name of `target` says it), "cube", "chgcar" (target is a folder) or "points"
    points     keep this many random points of every frame, drawn with `seed`
    electrons  known electron count: a warning where a frame differs by more than 1 %
    dtype      "float32" or "float64" of HDF5 (default float32) and point data (default float64)
    pbc, field, kind  override what the files say
    minus      densities without electric field: every frame becomes a response, itself minus the one of the same atoms
               and points; pbc holds for both, field for `sources`
    """
    target = str(target)
    if minus is not None and (electrons is not None or kind is not None):
        raise InputError("convert: with --minus the result is a response; --electrons and --kind make no sense")
    frames = [
        f
        for s in ([sources] if isinstance(sources, str | Path) else sources)
        for f in open_system(s, pbc=pbc, field=field).frames
    ]
    pairs = None if minus is None else Pairs(open_system(minus, pbc=pbc).frames)
    what = _check(target, frames, format, points)
    names = {"pattern": lambda: _pattern(target), "file": lambda: lambda number, frame: target}
    if what == "points":
        _run(frames, PointWriter(target, dtype or np.float64), points, seed, electrons, kind, dtype, pairs=pairs)
    elif what == "hdf5":
        writer = HDF5Writer(target, dtype or "float32", compress)
        _run(frames, writer, None, seed, electrons, kind, dtype or "float32", target, pairs)
    elif what == "folder":
        with replacing(target, folder=True) as folder:
            _run(frames, _Files(_in_folder(folder, SUFFIX[format])), None, seed, electrons, kind, None, target, pairs)
    else:
        _run(frames, _Files(names[what]()), None, seed, electrons, kind, None, target, pairs)
    log.info(f"{target}: {len(frames)} frame{'s' if len(frames) > 1 else ''} written")
    return len(frames)


def _run(frames, writer, points, seed, electrons, kind, dtype, grid_target=None, pairs=None) -> None:
    from ..progress import track

    dtype = np.dtype(dtype or np.float64)
    with writer:
        for number, frame in enumerate(track(frames, desc="converting", unit="frames")):
            if points:
                density = sample(frame, points, seed, number, dtype, pairs)
            else:
                density = frame.read(dtype) if pairs is None else pairs.read(frame, dtype)
            if grid_target and isinstance(density, PointDensity):
                raise InputError(
                    f"{frame.name}: free points have no grid; {grid_target} needs one "
                    "(point data is written into a folder)"
                )
            if kind is not None:
                density.kind = kind
            if electrons is not None:
                check_electrons(density, electrons)
            if isinstance(writer, _Files):
                writer.append(density, number, frame)
            elif isinstance(writer, HDF5Writer):
                known = electrons if electrons is not None or pairs is not None else frame.n_electrons
                writer.append(density, frame.name, known)
            else:
                writer.append(density)
