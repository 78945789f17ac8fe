"""Gaussian cube files: Bohr and e/bohr^3, z fastest, voxel vectors; point (i, j, k) lies at origin + i a + j b + k c.

A negative number of voxels along the first axis says that lengths are in Angstrom (the density stays e/bohr^3).
dcharge writes Bohr, six significant digits, and its tag (periodicity, field, kind) in the first comment line.
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from ase.units import Bohr

from .. import _io
from ..density import Density
from ..errors import InputError, say_once
from ..grid import Grid
from ..structure import Structure
from .header import Header
from .replacing import replacing_file
from .source import Lines, Source
from .tag import read_tag, said_periodic, write_tag

NAME = "cube"
PER_LINE, DIGITS = 6, 6


def claims(stem: str) -> bool:
    """Whether a file of this name is a cube."""
    return stem.lower().endswith((".cube", ".cub"))


def looks(head: bytes) -> bool:
    """Whether a file that begins so is a cube."""
    lines = head.split(b"\n")[2:6]
    counts = [_io.numbers(line, 4) for line in lines]
    return len(counts) == 4 and all(len(c) == 4 and c[0] == int(c[0]) and c[0] for c in counts)


def _read_header(stream, label: str):
    """Header and the number of header lines; the stream then stands at the first value."""
    lines = Lines(stream, label)
    comment = [lines.read("a comment line"), lines.read("a comment line")]
    found = lines.numbers("number of atoms and origin (1 integer, 3 numbers)", 4, 5, integers=1)
    n_atoms, origin = found[0], np.array(found[1:4])
    if n_atoms < 0:
        lines.fail("a negative number of atoms announces orbitals; a density was expected")
    if len(found) == 5 and found[4] not in (0, 1):
        lines.fail(f"{found[4]:g} values per voxel; one was expected")
    counts, voxels = [], []
    for axis in "xyz":
        n, *vector = lines.numbers(f"number of voxels and voxel vector along {axis}", 4, integers=1)
        if n == 0:
            lines.fail(f"no voxels along {axis}")
        counts.append(n)
        voxels.append(vector)
    if len({n < 0 for n in counts}) == 2:
        lines.fail("numbers of voxels with different signs: bohr (positive) or Angstrom (negative) for all three")
    unit = 1.0 if counts[0] < 0 else Bohr
    shape = tuple(abs(n) for n in counts)
    numbers, positions = np.empty(n_atoms, dtype=np.int64), np.empty((n_atoms, 3))
    for i in range(n_atoms):
        z, _, *xyz = lines.numbers(f"atom {i + 1} of {n_atoms} (atomic number, charge, x, y, z)", 5, integers=1)
        if not 0 <= z < len(chemical_symbols):
            lines.fail(f"atomic number {z} of atom {i + 1} is none")
        numbers[i], positions[i] = z, xyz
    comment = "\n".join(comment)
    kind, pbc, field = read_tag(comment, label)
    cell = np.array(voxels) * unit * np.array(shape)[:, None]
    try:
        grid = Grid(shape, cell, origin * unit)
        structure = Structure(numbers, positions * unit, cell, said_periodic(label) if pbc is None else pbc, field)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    more = {"lines": lines.number, "code": "CP2K" if "-Quickstep-" in comment else None}
    return Header(structure, grid, grid.n_points, 1, kind or "density", None, comment, more)


def n_frames(source: Source) -> int:
    """A cube holds one frame."""
    return 1


def read_header(source: Source, index: int = 0) -> Header:
    """Structure and grid without the values."""
    with source.errors(), source.open() as stream:
        return _read_header(stream, source.name)


def read(source: Source, index: int = 0, dtype=np.float64) -> Density:
    """The density, e/Angstrom^3."""
    import io

    data = source.data()
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    if isinstance(data, bytes) and not data:
        raise InputError(f"{source.name}: the file is empty")
    header = _read_header(stream, source.name)
    values = np.empty((1, *header.grid.shape), dtype=dtype)
    with source.errors():
        offset, line, bad, bad_line = _io.parse(
            data, stream.tell(), header.more["lines"] + 1, values.reshape(-1), 1.0 / Bohr**3
        )
    if bad:
        raise InputError(f"{source.name}: {bad} values are nan or inf, the first in line {bad_line}")
    rest = bytes(data[offset : offset + 4096]).split()
    if rest:
        raise InputError(
            f"{source.name}: line {line}: more values than the {header.n_points} of the "
            f"{'x'.join(map(str, header.grid.shape))} grid, or text behind them"
        )
    info = {"file": source.name, "format": NAME, "comment": header.comment}
    if header.more["code"]:
        info["code"] = header.more["code"]
    return Density(header.structure, header.grid, values, header.kind, info)


def _row(first: int, numbers) -> str:
    return f"{first:5d} " + " ".join(f"{x:19.12f}" for x in numbers)


def write(density: Density, path, *, comment: str | None = None, digits: int = DIGITS) -> None:
    """Write the total density (channel 0) as a cube.

    comment: second comment line (default: the provenance known); digits: significant digits of a value.
    """
    structure, grid = density.structure, density.grid
    if len(density.values) > 1:
        say_once("io.cube.spin", "a cube holds one channel: the total density is written, the spin density is not")
    if comment is None:
        comment = density.source.get("comment") or density.source.get("file") or ""
    comment = next((c for c in reversed(str(comment).split("\n")) if c.strip() and not read_tag(c)[0]), "")
    head = [
        write_tag(structure, density.kind),
        comment.strip()[:200] or "electron density, e/bohr^3",
        _row(len(structure), grid.origin / Bohr),
    ]
    head += [_row(n, step / Bohr) for n, step in zip(grid.shape, grid.steps, strict=True)]
    head += [_row(z, (z, *(r / Bohr))) for z, r in zip(structure.numbers, structure.positions, strict=True)]
    rows = np.ascontiguousarray(density.total).reshape(-1, grid.shape[2])
    step = max(1, 200_000 // rows.shape[1])
    with replacing_file(path) as stream:
        stream.write(("\n".join(head) + "\n").encode("ascii", "replace"))
        for start in range(0, len(rows), step):
            stop = min(start + step, len(rows))
            stream.write(_io.print(rows, start, stop, Bohr**3, PER_LINE, digits, False, False))
