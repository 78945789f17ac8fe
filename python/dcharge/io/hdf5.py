"""Reading dcharge's HDF5: frames of any size in one file, values flat in /rho (docs/formats.md has the schema).

`values_at` reads single points through a map of the file, without reading the frame.
"""

from __future__ import annotations

import json
import mmap
from functools import lru_cache

import h5py
import numpy as np

from ..density import KINDS, Density
from ..errors import InputError
from ..grid import Grid
from ..structure import Structure
from .electrons import check_electrons
from .header import Header
from .source import Source, compression

NAME = "hdf5"
FORMAT, VERSION = "dcharge-density", 1
PER_FRAME = (
    "offset",
    "shape",
    "n_channels",
    "grid_cell",
    "origin",
    "cell",
    "pbc",
    "field",
    "kind",
    "n_electrons",
    "atom_offset",
    "n_atoms",
    "name",
    "source",
    "extra",
)


class _File:
    """Metadata of all frames, and where the chunks of /rho lie in the file."""

    def __init__(self, path: str):
        self.path = path
        with h5py.File(path, "r") as f:
            if f.attrs.get("format") != FORMAT:
                raise InputError(f"{path}: an HDF5 file, but not of dcharge (no attribute format = '{FORMAT}')")
            version = int(f.attrs.get("version", 0))
            if not 1 <= version <= VERSION:
                raise InputError(f"{path}: version {version} of the format; this dcharge reads up to {VERSION}")
            missing = [k for k in (*PER_FRAME, "rho", "numbers", "positions") if k not in f]
            if missing:
                raise InputError(f"{path}: dataset /{missing[0]} is missing")
            self.meta = {k: f[k].asstr()[...] if k in ("name", "source", "extra") else f[k][...] for k in PER_FRAME}
            self.n_frames = len(self.meta["offset"])
            rho = f["rho"]
            sizes = self.meta["n_channels"].astype(np.int64) * self.meta["shape"].astype(np.int64).prod(axis=1)
            if self.n_frames and (self.meta["offset"] + sizes).max() > len(rho):
                raise InputError(
                    f"{path}: /rho holds {len(rho)} values, the frames need {int((self.meta['offset'] + sizes).max())}"
                )
            self.dtype, self.chunk = rho.dtype, (rho.chunks or (0,))[0]
            self.mapped = None
            if self.chunk and rho.compression is None and not rho.shuffle and hasattr(rho.id, "chunk_iter"):
                self._map(rho)

    def _map(self, rho):
        addresses = np.full(-(-len(rho) // self.chunk), -1, dtype=np.int64)

        def found(info):
            addresses[info.chunk_offset[0] // self.chunk] = info.byte_offset

        rho.id.chunk_iter(found)
        if len(addresses) and addresses.min() >= 0:
            with open(self.path, "rb") as stream:
                self.mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self.addresses = addresses

    def gather(self, position: np.ndarray) -> np.ndarray:
        """Values of /rho at flat positions [n]."""
        out = np.empty(len(position), dtype=self.dtype)
        order = np.argsort(position, kind="stable")
        chunk = position[order] // self.chunk if self.chunk else np.zeros(len(position), dtype=np.int64)
        cuts = np.flatnonzero(np.r_[True, chunk[1:] != chunk[:-1], True]) if len(chunk) else np.zeros(1, dtype=int)
        f = None if self.mapped is not None else h5py.File(self.path, "r")
        try:
            for a, b in zip(cuts[:-1], cuts[1:], strict=True):
                where, c = order[a:b], int(chunk[a])
                first = c * self.chunk
                if f is None:
                    values = np.frombuffer(self.mapped, self.dtype, self.chunk, int(self.addresses[c]))
                else:
                    values = f["rho"][first : first + self.chunk] if self.chunk else f["rho"][...]
                out[where] = values[position[where] - first]
        finally:
            if f is not None:
                f.close()
        return out


@lru_cache(maxsize=16)
def _opened(path: str, stamp) -> _File:
    return _File(path)


def _file(source: Source) -> _File:
    path = str(source.path)
    if compression(path):
        raise InputError(f"{source.name}: a compressed HDF5 file is not read; unpack it first")
    try:
        stat = source.path.stat()
        return _opened(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except FileNotFoundError:
        raise InputError(f"{source.name}: no such file") from None
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{source.name}: not a readable HDF5 file ({str(error).splitlines()[0][:100]})") from error


def n_frames(source: Source) -> int:
    """Number of frames in the file."""
    return _file(source).n_frames


def read_header(source: Source, index: int = 0) -> Header:
    """Structure, grid and provenance of frame `index`."""
    file = _file(source)
    if not 0 <= index < file.n_frames:
        raise InputError(f"{source.name}: frame {index} asked for; the file holds {file.n_frames}")
    meta = {k: v[index] for k, v in file.meta.items()}
    with source.errors(), h5py.File(file.path, "r") as f:
        atoms = slice(int(meta["atom_offset"]), int(meta["atom_offset"]) + int(meta["n_atoms"]))
        numbers, positions = f["numbers"][atoms], f["positions"][atoms]
    field = None if np.isnan(meta["field"]).any() else meta["field"]
    kind = str(KINDS[int(meta["kind"])]) if int(meta["kind"]) < len(KINDS) else "?"
    try:
        structure = Structure(numbers, positions, meta["cell"], meta["pbc"].astype(bool), field)
        grid = Grid(tuple(meta["shape"]), meta["grid_cell"], meta["origin"])
    except InputError as error:
        raise InputError(f"{source.name}#{index}: {error}") from None
    n_electrons = None if np.isnan(meta["n_electrons"]) else float(meta["n_electrons"])
    more = {"offset": int(meta["offset"]), "source": meta["source"], "extra": meta["extra"]}
    return Header(structure, grid, grid.n_points, int(meta["n_channels"]), kind, n_electrons, str(meta["name"]), more)


def read(source: Source, index: int = 0, dtype=np.float64) -> Density:
    """The density of frame `index`, e/Angstrom^3."""
    header = read_header(source, index)
    values = np.empty((header.n_channels, *header.grid.shape), dtype=dtype)
    first = header.more["offset"]
    with source.errors(), h5py.File(str(source.path), "r") as f:
        f["rho"].read_direct(values.reshape(-1), np.s_[first : first + values.size])
    info = {"file": f"{source.name}#{index}", "format": NAME}
    for text, into in ((header.more["source"], info), (header.more["extra"], extra := {})):
        into.update({k: v for k, v in json.loads(text or "{}").items() if k not in info})
    density = Density(header.structure, header.grid, values, header.kind, info, extra)
    check_electrons(density, header.n_electrons)
    return density


def values_at(source: Source, index: int, points) -> np.ndarray:
    """Values [n_channels, n] of frame `index` at flat point indices, without reading the frame."""
    header = read_header(source, index)
    points = np.asarray(points, dtype=np.int64)
    if len(points) and not (0 <= points.min() and points.max() < header.n_points):
        raise InputError(f"{source.name}#{index}: a point outside the grid was asked for")
    first = header.more["offset"] + np.arange(header.n_channels) * header.n_points
    file = _file(source)
    values = file.gather((first[:, None] + points).reshape(-1)).reshape(header.n_channels, len(points))
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InputError(f"{source.name}#{index}: {bad} density values are not finite numbers (nan or inf)")
    return values


def write(density: Density, path, *, dtype=None, n_electrons=None) -> None:
    """Write one density as a file of one frame. dtype: float32 or float64 (default: that of the values)."""
    from .hdf5_writer import HDF5Writer

    with HDF5Writer(path, dtype or density.values.dtype) as writer:
        writer.append(density, n_electrons=n_electrons)
