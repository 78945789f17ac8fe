"""Writing dcharge's HDF5, frame by frame and, within a frame, tile by tile, with bounded memory."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import math
import os
import shutil
import sys
import traceback

import h5py
import numpy as np

from .. import __version__
from ..density import KINDS, Density
from ..errors import InputError
from ..grid import Grid
from ..structure import Structure
from .hdf5 import FORMAT, PER_FRAME, VERSION
from .replacing import replacing

CHUNK = 65536
UNITS = {
    "rho": "e/Angstrom^3",
    "positions": "Angstrom",
    "cell": "Angstrom",
    "grid_cell": "Angstrom",
    "origin": "Angstrom",
    "field": "V/Angstrom",
}
TEXT = h5py.string_dtype()
COLUMNS = {
    "offset": ((), "i8"),
    "shape": ((3,), "i8"),
    "n_channels": ((), "i8"),
    "grid_cell": ((3, 3), "f8"),
    "origin": ((3,), "f8"),
    "cell": ((3, 3), "f8"),
    "pbc": ((3,), "u1"),
    "field": ((3,), "f8"),
    "kind": ((), "u1"),
    "n_electrons": ((), "f8"),
    "atom_offset": ((), "i8"),
    "n_atoms": ((), "i8"),
    "name": ((), TEXT),
    "source": ((), TEXT),
    "extra": ((), TEXT),
}


class Slabs:
    """Collects the values of a grid, given point by point in any order, and hands out whole x planes.

    Memory holds the planes that are begun but not complete: with the order of `Grid.tiles`, about eight.
    """

    def __init__(self, n_channels: int, shape, done):
        self.n_channels, self.n_planes, self.plane = n_channels, shape[0], shape[1] * shape[2]
        self.done = done  # called with (first plane, values [n_channels, planes, n2*n3])
        self.left = np.full(self.n_planes, self.plane, dtype=np.int64)
        self.slot = np.full(self.n_planes, -1, dtype=np.int64)
        self.buffer = np.empty((0, n_channels, self.plane))
        self.free: list[int] = []

    def put(self, index: np.ndarray, values: np.ndarray) -> None:
        """values [n_channels, n] at flat indices [n]."""
        which = index // self.plane
        begun = np.unique(which)
        for p in begun[self.slot[begun] < 0]:
            if not self.free:
                more = max(8, len(self.buffer) // 2)
                self.free = list(range(len(self.buffer), len(self.buffer) + more))
                self.buffer = np.concatenate([self.buffer, np.empty((more, *self.buffer.shape[1:]))])
            self.slot[p] = self.free.pop(0)
        rows, columns = self.slot[which], index - which * self.plane
        for c in range(self.n_channels):
            self.buffer[rows, c, columns] = values[c]
        self.left -= np.bincount(which, minlength=self.n_planes)
        if (self.left[begun] < 0).any():
            raise ValueError("a point was put twice")
        for p in begun[self.left[begun] == 0]:
            self.done(int(p), self.buffer[self.slot[p]])
            self.free.append(int(self.slot[p]))


class HDF5Writer:
    """A file of densities under construction; it appears under its name when closed.

        with HDF5Writer("rho.h5", "float32") as file:
            file.append(density)                      # a whole frame, or
            file.begin(structure, grid)               # tile by tile, in any order
            file.put(index, values)
            file.end(scale=1.0)

    dtype: float32 or float64 of /rho. compress: None or "gzip" (smaller, slow random access).
    deviation: a second dataset /std of the same layout, the standard deviation of every value, given to `put`.
    """

    def __init__(self, path, dtype="float32", compress: str | None = None, deviation: bool = False):
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise InputError(f"{path}: dtype {dtype}; float32 or float64 expected")
        self.path, self.n_frames, self.electrons = path, 0, 0.0
        self._frame = None
        self._target = replacing(path)
        self.part, self._needed = self._target.__enter__(), 0
        try:
            self.file = h5py.File(self.part, "w", rdcc_nbytes=16 << 20)
            self._reserve(4 << 20)
            attrs = self.file.attrs
            attrs["format"], attrs["version"], attrs["creator"] = FORMAT, VERSION, f"dcharge {__version__}"
            attrs["kinds"], attrs["grid_order"] = list(KINDS), "C (z fastest)"
            filters = {"compression": compress, "shuffle": compress is not None}
            # /rho first, /std behind it
            self.values = [
                self.file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), **filters)
                for name in ("rho", "std")[: 1 + deviation]
            ]
            for name in PER_FRAME:
                shape, kind = COLUMNS[name]
                self.file.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(256, *shape))
            self.file.create_dataset("numbers", (0,), "u1", maxshape=(None,), chunks=(16384,))
            self.file.create_dataset("positions", (0, 3), "f8", maxshape=(None, 3), chunks=(4096, 3))
            for name, unit in UNITS.items():
                self.file[name].attrs["unit"] = unit
            for values in self.values:
                values.attrs["unit"] = UNITS["rho"]
        except BaseException as error:
            self._leave(error)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            self.close()
        else:
            self._leave(error)

    def _leave(self, error: BaseException) -> None:
        """Remove what was written and raise `error`, as one line where it came from the disk."""
        self._frame = None
        if self._target is not None:
            with _silence():
                if getattr(self, "file", None):
                    with contextlib.suppress(OSError):
                        os.truncate(self.part, 0)  # makes room on a full disk, so that HDF5 can let go of the file
                    with contextlib.suppress(OSError, RuntimeError, ValueError):
                        self.file.close()
                self.file = self.values = None
                traceback.clear_frames(error.__traceback__)
                gc.collect()
        target, self._target = self._target, None
        if target is not None and not target.__exit__(type(error), error, error.__traceback__):
            raise error

    def _reserve(self, n_bytes: int) -> None:
        """Take room on the disk before HDF5 writes: HDF5 itself cannot get out of a full disk in one piece."""
        self._needed += n_bytes
        if not hasattr(os, "posix_fallocate"):
            if shutil.disk_usage(self.part.parent).free < n_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        descriptor = os.open(self.part, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, self._needed)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        finally:
            os.close(descriptor)

    def abort(self) -> None:
        """Give up: nothing is left on the disk."""
        with contextlib.suppress(_Abort):
            self._leave(_Abort())

    def _extend(self, name: str, rows) -> None:
        data = self.file[name]
        data.resize(len(data) + len(rows), axis=0)
        data[len(data) - len(rows) :] = rows

    def begin(
        self,
        structure: Structure,
        grid: Grid,
        n_channels: int = 1,
        kind: str = "density",
        source=None,
        extra=None,
        n_electrons: float | None = None,
        name: str = "",
    ) -> None:
        """Begin a frame; its values follow by `put`."""
        if self._frame is not None:
            raise ValueError("the previous frame is not ended")
        if kind not in KINDS:
            raise InputError(f"density kind '{kind}': one of {KINDS} expected")
        source, extra = (json.dumps(x or {}, default=str) for x in (source, extra))
        try:
            size = n_channels * grid.n_points
            self._reserve(
                len(self.values) * size * self.values[0].dtype.itemsize
                + 64 * len(structure)
                + 2 * len(source + extra)
                + 4096
            )
            offset = len(self.values[0])
            for values in self.values:
                values.resize(offset + size, axis=0)
            field = np.full(3, math.nan) if structure.field is None else structure.field
            row = {
                "offset": offset,
                "shape": grid.shape,
                "n_channels": n_channels,
                "grid_cell": grid.cell,
                "origin": grid.origin,
                "cell": structure.cell,
                "pbc": structure.pbc,
                "field": field,
                "kind": KINDS.index(kind),
                "n_electrons": math.nan if n_electrons is None else n_electrons,
                "atom_offset": len(self.file["numbers"]),
                "n_atoms": len(structure),
                "name": name,
                "source": source,
                "extra": extra,
            }
            for key, value in row.items():
                self._extend(key, np.array([value], dtype=object) if COLUMNS[key][1] is TEXT else np.array([value]))
            self._extend("numbers", structure.numbers)
            self._extend("positions", structure.positions)
        except BaseException as error:
            self._leave(error)
        self._frame = (offset, n_channels, grid, Slabs(len(self.values) * n_channels, grid.shape, self._plane))
        self.electrons, self._sum = 0.0, 0.0

    def _plane(self, p: int, values: np.ndarray) -> None:
        offset, n_channels, grid, slabs = self._frame
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise InputError(f"{self.path}: {bad} values of plane {p} are nan or inf; nothing is written")
        for row, plane in enumerate(values):
            which, channel = divmod(row, n_channels)
            first = offset + channel * grid.n_points + p * slabs.plane
            self.values[which][first : first + slabs.plane] = plane
        self._sum += float(values[0].sum())
        self.electrons = self._sum * grid.dv

    def put(self, index, values, std=None) -> None:
        """values [n_channels, n] (or [n] for one channel), e/Angstrom^3, at flat indices [n] of the open frame.

        std: their standard deviations, the same shape, in a file made with `deviation`.
        """
        _, n_channels, _, slabs = self._frame
        index = np.asarray(index, dtype=np.int64)
        try:
            if (std is None) != (len(self.values) == 1):
                raise ValueError(f"{self.path}: standard deviations {'missing' if std is None else 'not expected'}")
            rows = [np.asarray(x).reshape(n_channels, len(index)) for x in (values, std) if x is not None]
            slabs.put(index, rows[0] if std is None else np.concatenate(rows))
        except BaseException as error:
            self._leave(error)

    def end(self, scale: float = 1.0) -> None:
        """End the open frame; `scale` multiplies its values (for an exact electron count)."""
        offset, n_channels, grid, slabs = self._frame
        missing = int(slabs.left.sum())
        try:
            if missing:
                raise ValueError(f"{self.path}: {missing} of {grid.n_points} points were never put")
            if scale != 1.0:
                stop = offset + n_channels * grid.n_points
                for values in self.values:
                    for first in range(offset, stop, 16 * CHUNK):
                        last = min(first + 16 * CHUNK, stop)
                        values[first:last] = values[first:last].astype(np.float64) * scale
        except BaseException as error:
            self._leave(error)
        self._frame = None
        self.n_frames += 1

    def append(self, density: Density, name: str | None = None, n_electrons: float | None = None) -> None:
        """Add a whole frame, to a file without standard deviations."""
        if len(self.values) > 1:
            self._leave(ValueError(f"{self.path}: a whole frame has no standard deviations"))
        name = density.source.get("name", density.name) if name is None else name
        self.begin(
            density.structure,
            density.grid,
            len(density.values),
            density.kind,
            density.source,
            density.extra,
            n_electrons,
            name,
        )
        try:
            offset = self._frame[0]
            self.values[0][offset : offset + density.values.size] = np.ascontiguousarray(density.values).reshape(-1)
        except BaseException as error:
            self._leave(error)
        self._frame = None
        self.n_frames += 1

    def close(self) -> None:
        """Finish; the file now appears under its name."""
        if self._target is None:
            return
        if self._frame is not None:
            self._leave(ValueError(f"{self.path}: closed inside a frame"))
        try:
            self.file.close()
            os.truncate(self.part, _end(self.part))
        except BaseException as error:
            self._leave(error)
        target, self._target = self._target, None
        target.__exit__(None, None, None)


def _end(path) -> int:
    """Where an HDF5 file says it ends (in its superblock)."""
    with open(path, "rb") as stream:
        head = stream.read(64)
    at = {0: 40, 1: 44, 2: 28, 3: 28}[head[8]]
    return int.from_bytes(head[at : at + 8], "little")


@contextlib.contextmanager
def _silence():
    """Keep h5py quiet while it cleans up behind a failed write: it prints tracebacks nobody can act on."""
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook = sys.unraisablehook = lambda *_: None
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = hooks


class _Abort(Exception):
    pass
