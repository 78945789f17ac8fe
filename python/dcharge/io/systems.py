"""A system: the frames behind one path - a file, a folder, a pattern, a tar file, a list of these, point data.

Listing a system reads names only; a frame's structure comes from its file's header when first asked for.
"""

from __future__ import annotations

import glob
import io
import os
import re
import tarfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..density import Density, PointDensity
from ..errors import InputError, UnsupportedFormat, counted, say_once
from ..grid import Grid
from ..structure import Structure
from . import formats, vasp
from .header import Header
from .source import Source, compression, stem

TAR = re.compile(r"\.(tar|tar\.(gz|xz|bz2)|tgz|txz)$", re.IGNORECASE)


def as_pbc(pbc):
    """[3] bool from [1, 1, 0], ["T", "T", "F"] or "T T F"; None stays None."""
    if pbc is None:
        return None
    words = pbc.replace(",", " ").split() if isinstance(pbc, str) else list(np.ravel(pbc))
    table = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
    out = [table.get(str(w).lower()) for w in words]
    if len(out) != 3 or None in out:
        raise InputError(f"pbc {pbc}: three of T and F expected, such as T T F")
    return np.array(out)


def as_field(value):
    """[3] float64 V/Angstrom; None stays None."""
    if value is None:
        return None
    try:
        out = np.array(value.replace(",", " ").split() if isinstance(value, str) else value, dtype=np.float64).ravel()
    except ValueError:
        out = np.empty(0)
    if out.shape != (3,) or not np.isfinite(out).all():
        raise InputError(f"field {value}: three numbers in V/Angstrom expected")
    return out


@dataclass(eq=False)
class Frame:
    """One density of a system, read when asked.

    name   stable name for people: "si64_04.cube.gz", "data.h5#3"
    source, format, index  where it lies
    pbc, field  overrides, or None
    """

    name: str
    source: Source
    format: object
    index: int = 0
    pbc: np.ndarray | None = None
    field: np.ndarray | None = field(default=None)

    def _override(self, structure: Structure) -> Structure:
        return structure.with_(pbc=self.pbc, field=self.field)

    @cached_property
    def header(self) -> Header:
        """What the file's header tells; the values are not read."""
        with self._silent():
            return self.format.read_header(self.source, self.index)

    def _silent(self):
        from .tag import periodicity_given

        return periodicity_given(self.pbc is not None)

    @property
    def path(self) -> str:
        """The file (or member) it comes from."""
        return self.source.name

    @cached_property
    def structure(self) -> Structure:
        """The structure, from the header alone."""
        return self._override(self.header.structure)

    @property
    def grid(self) -> Grid | None:
        """The grid, or None for free points."""
        return self.header.grid

    @property
    def kind(self) -> str:
        """ "density" or "response"."""
        return self.header.kind

    @property
    def n_points(self) -> int:
        """Number of points."""
        return self.header.n_points

    @property
    def n_electrons(self) -> float | None:
        """Number of electrons the file states, or None."""
        return self.header.n_electrons

    def read(self, dtype=np.float64) -> Density | PointDensity:
        """The whole frame, values as `dtype`."""
        with self._silent():
            density = self.format.read(self.source, self.index, dtype)
        density.structure = self._override(density.structure)
        density.source["name"] = self.name
        return density

    def values_at(self, index) -> np.ndarray:
        """Values [n_channels, n] at flat indices; HDF5 and point data fetch these points only."""
        if hasattr(self.format, "values_at"):
            return self.format.values_at(self.source, self.index, np.asarray(index))
        return self.read().values_at(index)

    def points(self, index=None) -> np.ndarray:
        """Coordinates [n, 3] Angstrom of flat indices (all if None)."""
        if self.grid is not None:
            return self.grid.points(index)
        return self.format.points(self.source, self.index, index)


@dataclass(eq=False)
class System:
    """The frames behind one path, in a stable order."""

    path: str
    frames: list[Frame]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self):
        return iter(self.frames)


def frames_of(source: Source, name: str, pbc=None, field=None) -> list[Frame]:
    """Frames of one file or point-data folder."""
    module = formats.of_source(source)
    n = module.n_frames(source)
    many = n > 1 or module.NAME in ("hdf5", "points")
    return [Frame(f"{name}#{i}" if many else name, source, module, i, pbc, field) for i in range(n)]


def _density_file(name: str) -> bool:
    text = stem(name)
    if name.startswith(".") or name.endswith("~"):
        return False
    if text.lower().endswith((".h5", ".hdf5")):
        return not compression(name)
    try:
        return formats.by_name(text) is not None
    except UnsupportedFormat:
        return False


def _one_per_calculation(names: list[str], folder: str) -> list[str]:
    """Of CHGCAR, CHG, AECCAR and PARCHG of one calculation keep the first kind that is there."""

    def kind(name):
        found = vasp.DENSITY.search(name)
        return found[2].upper() if found and not name.lower().split(".")[-1].startswith("cub") else None

    present = {kind(n) for n in names}
    best = next((k for k in ("CHGCAR", "CHG") if k in present), None)
    kept = [n for n in names if kind(n) in (None, best)]
    left = sorted(set(names) - set(kept))
    if left:
        say_once(
            f"io.left:{folder}",
            f"{folder}: {', '.join(left[:4])} not used" + (f" beside {best}" if best else "; name the file to use it"),
        )
    return kept


def _folder_sources(folder: Path) -> list[tuple[Source, str]]:
    """Density files and point-data folders below a folder, sorted, with names relative to it."""
    found = []
    if (folder / "type.raw").exists():
        return [(Source(folder), folder.name)]
    for where, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(b for b in below if not b.startswith("."))
        relative = Path(where).relative_to(folder)
        for name in list(below):
            if (Path(where) / name / "type.raw").exists():
                found.append((Source(Path(where) / name), str(relative / name)))
                below.remove(name)
        other = sorted(n for n in names if vasp.OTHER.search(stem(n)) and not _density_file(n))
        if other:
            say_once(f"io.other:{where}", f"{where}: {', '.join(other[:4])} hold no density and are not used")
        names = _one_per_calculation(sorted(n for n in names if _density_file(n)), where)
        found += [(Source(Path(where) / n), str(relative / n)) for n in names]
    return sorted(found, key=lambda pair: pair[1])


def _tar_sources(path: Path) -> list[tuple[Source, str]]:
    """Density files in a tar file; a compressed tar is unpacked member by member in memory."""
    found, others = [], []
    try:
        with tarfile.open(path, "r:*") as archive:
            plain = isinstance(archive.fileobj, io.BufferedReader)
            for member in archive:
                if not member.isfile() or not _density_file(os.path.basename(member.name)):
                    others += [] if member.isdir() else [member.name]
                    continue
                if member.name.lower().endswith((".h5", ".hdf5")):
                    raise InputError(f"{path}:{member.name}: HDF5 inside a tar file is not read; unpack it first")
                offset = member.offset_data if plain else -1
                found.append((Source(path, f"{path}:{member.name}", offset, member.size), member.name))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a readable tar file ({error})") from error
    if others:
        say_once(
            f"io.tar:{path}", f"{path}: {counted(len(others), 'member')} of other names not used: {others[0]}, ..."
        )
    return found  # in the order of the archive, which published lists of frames count


def _listed_sources(path: Path) -> list[tuple[Source, str]]:
    """Everything behind the paths in a text file, one on each line, relative to its folder (data sets of DeepDFT).

    Nothing where no line names a file or folder: it is no list.
    """
    if path.suffix.lower() != ".txt" or any(module.looks(Source(path).head()) for module in (formats.cube, vasp)):
        return []
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    places = {number: path.parent / line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    missing = [number for number, place in places.items() if "\0" in str(place) or not os.path.exists(place)]
    if len(missing) == len(places):
        return []
    found = []
    for number, place in places.items():
        name = os.path.relpath(place, path.parent)
        if number in missing:
            raise InputError(f"{path}: line {number}: {name[:80]}: no such file or folder")
        inside = place.is_dir() or TAR.search(place.name)
        found += [(s, f"{name}/{n}" if inside else name) for s, n in sources(place)]
    return found


def sources(path) -> list[tuple[Source, str]]:
    """(Source, name) of everything behind a path: file, folder, pattern, tar."""
    text = os.path.expanduser(str(path))
    if not os.path.exists(text):
        if glob.has_magic(text):
            matches = [Path(m) for m in sorted(glob.glob(text, recursive=True))]
            if not matches:
                raise InputError(f"{path}: no file matches")
            found = []
            for match in matches:
                inside = match.is_dir() or TAR.search(match.name)
                found += [(s, f"{match.name}/{n}" if inside and n != match.name else n) for s, n in sources(match)]
            if len({n for _, n in found}) < len(found):
                base = os.path.commonpath([str(s.path.parent) for s, _ in found])
                found = [(s, os.path.relpath(s.name, base)) for s, _ in found]
            return found
        raise InputError(f"{path}: no such file or folder")
    if os.path.isdir(text):
        found = _folder_sources(Path(text))
        if not found:
            raise InputError(f"{path}: no density in this folder; expected {formats.KNOWN}")
        return found
    if TAR.search(text):
        found = _tar_sources(Path(text))
        if not found:
            raise InputError(f"{path}: no density in this tar file; expected {formats.KNOWN}")
        return found
    return _listed_sources(Path(text)) or [(Source(text), os.path.basename(text))]


def open_system(path, *, pbc=None, field=None) -> System:
    """The frames behind a path: a density file, a folder of them or of point data, a pattern, a .tar, a .txt list.

    pbc: [3] bool (or "T T F") and field: [3] V/Angstrom override what the files say.
    """
    pbc, field = as_pbc(pbc), as_field(field)
    frames = []
    for source, name in sources(path):
        frames += frames_of(source, name, pbc, field)
    return System(str(path), frames)
