"""Writing a density whose values come piece by piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..density import Density
from ..errors import InputError
from ..grid import Grid
from ..structure import Structure
from . import formats
from .source import stem


class ArrayWriter:
    """Collects all values in one array and writes the file on `close`. Memory: the array.

    electrons: integral of what was put so far, e.
    """

    def __init__(self, module, path, structure, grid, n_channels, kind, source, extra, dtype):
        self.module, self.path, self._left = module, path, grid.n_points
        self._made = (structure, grid, kind, dict(source or {}), dict(extra or {}))
        self.values = np.empty((n_channels, grid.n_points), dtype=dtype)
        self._sum = 0.0

    @property
    def electrons(self) -> float:
        """Integral of the total density put so far, e."""
        return self._sum * self._made[1].dv

    def put(self, index, values) -> None:
        """values [n_channels, n] (or [n] for one channel), e/Angstrom^3, at flat indices [n]."""
        index = np.asarray(index)
        values = np.asarray(values).reshape(len(self.values), len(index))
        self.values[:, index] = values
        self._sum += float(values[0].sum(dtype=np.float64))
        self._left -= len(index)

    def close(self, scale: float = 1.0) -> None:
        """Write the file, values multiplied by `scale`."""
        if self._left:
            raise ValueError(
                f"{self.path}: {self._left} points were never put"
                if self._left > 0
                else f"{self.path}: {-self._left} points were put twice"
            )
        structure, grid, kind, source, extra = self._made
        if scale != 1.0:
            self.values *= scale
        self.module.write(
            Density(structure, grid, self.values.reshape(-1, *grid.shape), kind, source, extra), self.path
        )
        self.values = self.values[:, :0]

    def abort(self) -> None:
        """Forget everything; nothing was written."""
        self.values = self.values[:, :0]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None and self.values.size:
            self.close()
        elif error is not None:
            self.abort()


class HDF5FrameWriter:
    """One frame in an HDF5 file, streamed to the disk plane by plane."""

    def __init__(self, path, structure, grid, n_channels, kind, source, extra, dtype, deviation=False):
        from .hdf5_writer import HDF5Writer

        self.file = HDF5Writer(path, dtype, deviation=deviation)
        self.file.begin(structure, grid, n_channels, kind, source, extra)
        self.put, self.abort = self.file.put, self.file.abort
        self._open = True

    @property
    def electrons(self) -> float:
        """Integral of the total density of the planes completed so far, e."""
        return self.file.electrons

    def close(self, scale: float = 1.0) -> None:
        """End the frame and the file."""
        self._open = False
        self.file.end(scale)
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None and self._open:
            self.close()
        elif error is not None:
            self.abort()


class DeviationWriter:
    """A density in one text file and its standard deviation in another (`deviation_name`)."""

    def __init__(self, path, structure, grid, n_channels, kind, source, extra, dtype):
        given = (structure, grid, n_channels, kind)
        self.mean = open_writer(path, *given, source, extra, dtype)
        # what belongs to a density, such as augmentation occupancies, is no deviation's
        words = {**(source or {}), "comment": f"standard deviation of {Path(path).name}"}
        self.deviation = open_writer(deviation_name(path), *given, words, {}, dtype)

    @property
    def electrons(self) -> float:
        """Integral of the total density put so far, e."""
        return self.mean.electrons

    def put(self, index, values, std) -> None:
        """values and their standard deviations [n_channels, n], e/Angstrom^3, at flat indices [n]."""
        self.mean.put(index, values)
        self.deviation.put(index, std)

    def close(self, scale: float = 1.0) -> None:
        """Write both files, all values multiplied by `scale`."""
        self.deviation.close(scale)
        self.mean.close(scale)

    def abort(self) -> None:
        """Forget everything."""
        self.mean.abort()
        self.deviation.abort()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.abort()
        elif self.mean.values.size:
            self.close()


def deviation_name(path) -> Path | None:
    """Where the standard deviation of a density goes: x.std.cube of x.cube, CHGCAR.std of CHGCAR (before .gz and the
    like); None for HDF5, which holds it itself."""
    return None if formats.for_writing(path).NAME == "hdf5" else with_word(path, "std")


def with_word(path, word: str) -> Path:
    """The path with a word in its name, which still tells the format: x.word.cube, CHGCAR.word, x.word.cube.gz."""
    path = Path(path)
    bare = stem(path.name)
    packed = path.name[len(bare) :]
    if formats.for_writing(path).NAME != "vasp":
        bare, dot, suffix = bare.rpartition(".")
        packed = dot + suffix + packed
    return path.with_name(f"{bare}.{word}{packed}")


def open_writer(
    path,
    structure: Structure,
    grid: Grid,
    n_channels: int = 1,
    kind: str = "density",
    source=None,
    extra=None,
    dtype=np.float32,
    deviation: bool = False,
):
    """A writer with `put(index, values)`, `electrons`, `close(scale=1)`, `abort()`; also a context manager.

    path       names the format: cube, CHGCAR (the values are kept in one array until `close`) or .h5 (streamed)
    structure, grid, n_channels, kind, source, extra   as in Density
    dtype      of the array, or of /rho
    deviation  standard deviations are written too: `put(index, values, std)`

    The file appears whole on `close`; after an exception nothing is left.
    """
    module = formats.for_writing(path)
    if module.NAME == "hdf5":
        return HDF5FrameWriter(path, structure, grid, n_channels, kind, source, extra, dtype, deviation)
    if module.NAME == "cube" and n_channels > 1:
        raise InputError(f"{path}: a cube holds one channel, not {n_channels}; write CHGCAR or .h5")
    if deviation:
        return DeviationWriter(path, structure, grid, n_channels, kind, source, extra, dtype)
    return ArrayWriter(module, path, structure, grid, n_channels, kind, source, extra, dtype)
