"""DeePMD-kit style point data: one folder per composition, numpy arrays in set.*; Angstrom, e/Angstrom^3.

type.raw, type_map.raw      species of every atom
nopbc                       empty file: no axis is periodic;  pbc.raw (three 0/1): some are
kind.raw                    "density" or "response"
set.000/coord.npy           [n_frames, n_atoms*3]
set.000/box.npy             [n_frames, 9] rows
set.000/grid.npy            [n_frames, n_points, 3]
set.000/density.npy         [n_frames, n_points, n_channels]
set.000/weight.npy          [n_frames, n_points], optional, mean 1
set.000/field.npy           [n_frames, 3] V/Angstrom, optional
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ..density import KINDS, PointDensity
from ..errors import InputError, nearest
from ..structure import Structure
from .header import Header
from .source import Source

NAME = "points"


def _words(path: Path, what: str) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        raise InputError(f"{path}: missing ({what})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text ({what}): {error}") from None


def _array(path: Path, shape: tuple, needed: str | None):
    """Memory map of a .npy file, checked against `shape` (-1: any); None where it is absent and not needed."""
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        if needed is None:
            return None
        raise InputError(f"{path}: missing; {needed} expected") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable .npy file ({str(error).splitlines()[0][:80]})") from None
    if data.dtype.kind not in "fiu":
        raise InputError(f"{path}: numbers expected, found dtype {data.dtype}")
    fits = data.ndim == len(shape) and all(b in (-1, a) for a, b in zip(data.shape, shape, strict=True))
    if not fits:
        raise InputError(f"{path}: shape {list(data.shape)}; {[n if n >= 0 else 'any' for n in shape]} expected")
    return data


class _Set:
    """The arrays of one set.* folder."""

    def __init__(self, folder: Path, n_atoms: int, nopbc: bool):
        self.folder = folder
        self.coord = _array(folder / "coord.npy", (-1, n_atoms * 3), "[n_frames, n_atoms*3] Angstrom")
        n = len(self.coord)
        self.box = _array(folder / "box.npy", (n, 9), None if nopbc else "[n_frames, 9] Angstrom")
        grid, density = folder / "grid.npy", folder / "density.npy"
        self.grid = self._either(grid, (n, -1, 3), "[n_frames, n_points, 3] Angstrom")
        n_points = self.grid.shape[1]
        self.density = self._either(density, (n, n_points, -1), "the label, [n_frames, n_points, 1] e/Angstrom^3,")
        if self.density.shape[2] not in (1, 2):
            raise InputError(f"{density}: {self.density.shape[2]} channels; 1 (total) or 2 (total, spin) expected")
        self.weight = _array(folder / "weight.npy", (n, n_points), None)
        self.field = _array(folder / "field.npy", (n, 3), None)

    @staticmethod
    def _either(path: Path, shape, needed):
        """The array, also when its last two axes are written as one."""
        try:
            return _array(path, shape, needed)
        except InputError as first:
            try:
                flat = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError):
                raise first from None
            n, points, last = shape
            width = 1 if last == -1 else last
            if flat.ndim != 2 or len(flat) != n or flat.shape[1] % width or points not in (-1, flat.shape[1] // width):
                raise first from None
            return flat.reshape(n, flat.shape[1] // width, width)


class _Folder:
    """A system folder: species, periodicity, sets."""

    def __init__(self, path: Path):
        self.path = path
        types = _words(path / "type.raw", "the type of every atom")
        names = _words(path / "type_map.raw", "the symbol of every type")
        try:
            types = np.array([int(t) for t in types], dtype=np.int64)
        except ValueError:
            raise InputError(f"{path / 'type.raw'}: whole numbers expected") from None
        if len(types) and not 0 <= types.min() <= types.max() < len(names):
            raise InputError(
                f"{path / 'type.raw'}: type {types.max() if types.min() >= 0 else types.min()}, "
                f"but type_map.raw names {len(names)} types"
            )
        for name in names:
            if name not in atomic_numbers:
                raise InputError(
                    f"{path / 'type_map.raw'}: '{name}' is not a chemical symbol{nearest(name, chemical_symbols[1:])}"
                )
        self.numbers = np.array([atomic_numbers[n] for n in names], dtype=np.int64)[types]
        self.pbc = np.array([not (path / "nopbc").exists()] * 3)
        if (path / "pbc.raw").exists():
            words = _words(path / "pbc.raw", "three 0 or 1")
            if len(words) != 3 or set(words) - {"0", "1"}:
                raise InputError(f"{path / 'pbc.raw'}: three 0 or 1 expected")
            self.pbc = np.array([w == "1" for w in words])
        self.kind = "density"
        if (path / "kind.raw").exists():
            self.kind = " ".join(_words(path / "kind.raw", f"one of {KINDS}"))
            if self.kind not in KINDS:
                raise InputError(f"{path / 'kind.raw'}: '{self.kind}'; one of {KINDS} expected")
        self.sets = [_Set(p, len(self.numbers), not self.pbc.any()) for p in sorted(path.glob("set.*"))]
        if not self.sets:
            raise InputError(f"{path}: no set.* folder")
        self.starts = np.cumsum([0] + [len(s.coord) for s in self.sets])

    def at(self, index: int) -> tuple[_Set, int]:
        """Set and index within it of frame `index`."""
        if not 0 <= index < self.starts[-1]:
            raise InputError(f"{self.path}: frame {index} asked for; there are {self.starts[-1]}")
        s = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.sets[s], index - int(self.starts[s])


@lru_cache(maxsize=64)
def _opened(path: str, stamp) -> _Folder:
    return _Folder(Path(path))


def _folder(source: Source) -> _Folder:
    files = (
        sorted(source.path.glob("set.*/*.npy")) + sorted(source.path.glob("*.raw")) + sorted(source.path.glob("nopbc"))
    )
    return _opened(str(source.path), tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files))


def n_frames(source: Source) -> int:
    """Number of frames in all sets."""
    return int(_folder(source).starts[-1])


def read_header(source: Source, index: int = 0) -> Header:
    """Structure and number of points of frame `index`."""
    folder = _folder(source)
    data, i = folder.at(index)
    positions = data.coord[i].reshape(-1, 3)
    cell = np.eye(3) if data.box is None else data.box[i].reshape(3, 3)
    try:
        structure = Structure(
            folder.numbers, positions, cell, folder.pbc, None if data.field is None else data.field[i]
        )
    except InputError as error:
        raise InputError(f"{source.name}#{index}: {error}") from None
    return Header(structure, None, data.grid.shape[1], data.density.shape[2], folder.kind)


def read(source: Source, index: int = 0, dtype=np.float64) -> PointDensity:
    """Frame `index`, e/Angstrom^3."""
    header = read_header(source, index)
    data, i = _folder(source).at(index)
    weight = None if data.weight is None else np.array(data.weight[i], dtype=np.float64)
    return PointDensity(
        header.structure,
        np.array(data.grid[i], dtype=np.float64),
        np.array(data.density[i].T, dtype),
        weight,
        header.kind,
        {"file": f"{source.name}#{index}", "format": NAME},
    )


def values_at(source: Source, index: int, points) -> np.ndarray:
    """Values [n_channels, n] at point indices, without reading the frame."""
    data, i = _folder(source).at(index)
    values = np.array(data.density[i][points].T)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InputError(f"{data.folder / 'density.npy'}: frame {i}: {bad} values are not finite numbers (nan or inf)")
    return values


def points(source: Source, index: int, which=None) -> np.ndarray:
    """Coordinates [n, 3] of points (all if None), Angstrom."""
    data, i = _folder(source).at(index)
    return np.array(data.grid[i] if which is None else data.grid[i][which], dtype=np.float64)


def write(density, path, **options) -> None:
    """Write one density (points, or a whole grid) as a system folder."""
    from .points_writer import PointWriter

    with PointWriter(path, **options) as writer:
        writer.append(density)
