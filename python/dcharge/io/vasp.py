"""VASP CHGCAR, CHG, AECCAR, PARCHG. The file holds rho * V_cell, x fastest: N_e = sum(values) / n_points.

One block is the total density, two are total and spin (up - down). Everything else of a file - header, augmentation
occupancies, magnetic moments - is kept verbatim in `Density.extra["vasp"]` and written back as it was.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache

import numpy as np

from .. import _io
from ..density import Density
from ..errors import InputError, log, say_once
from ..grid import Grid
from .header import Header
from .poscar import looks as looks_like_poscar
from .poscar import poscar_text, read_poscar
from .replacing import replacing_file
from .source import Lines, Source
from .tag import read_tag, said_periodic, write_tag

NAME = "vasp"
DENSITY = re.compile(r"(^|[._-])(CHGCAR|CHG|AECCAR[012]?|PARCHG)($|[._-])", re.IGNORECASE)
OTHER = re.compile(r"(^|[._-])(ELFCAR|LOCPOT|WAVECAR|POT|TAUCAR)($|[._-])", re.IGNORECASE)
PER_LINE = {"CHG": 10}
DIGITS = {5: 11, 10: 5}


def claims(stem: str) -> bool:
    """Whether a file of this name holds a density in VASP's format."""
    return bool(DENSITY.search(stem))


def looks(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    if not looks_like_poscar(head):
        return False
    for line in head.split(b"\n")[7:]:
        if re.fullmatch(rb"\s*\d+\s+\d+\s+\d+\s*", line):
            return True
    return len(head) >= 8000


def _read_header(lines: Lines) -> Header:
    """Header at the stream's position, up to and with the grid line."""
    structure, comment = read_poscar(lines)
    kind, pbc, field = read_tag(comment, lines.label)
    if pbc is None:
        pbc = said_periodic(lines.label)
    structure = structure.with_(pbc=pbc, field=field)
    while not lines.read("the grid (3 integers)").strip():
        pass
    shape = _io.numbers(lines.text, 4)
    if len(shape) != 3 or any(n != int(n) or n < 1 for n in shape):
        lines.fail(f"the grid (3 positive integers) expected, found '{lines.text.decode('latin-1').strip()[:60]}'")
    try:
        grid = Grid(tuple(int(n) for n in shape), structure.cell)
    except InputError as error:
        raise InputError(f"{lines.label}: {error}") from None
    return Header(structure, grid, grid.n_points, None, kind or "density", None, comment)


def read_header(source: Source, index: int = 0) -> Header:
    """Structure and grid without the values."""
    if index:
        return _frame(source, None, index)[0]
    with source.errors(), source.open() as stream:
        return _read_header(Lines(stream, source.name))


def _is_number_line(text: str) -> bool:
    return not re.search(r"[^\s\d.+\-EeDd*]", text)


class _Tail:
    """Collects the text behind a block of values and checks that its augmentation occupancies are complete."""

    def __init__(self, lines: Lines, n_atoms: int):
        self.lines, self.n_atoms, self.text = lines, n_atoms, []
        self.atoms, self.numbers, self.expected = 0, 0, None

    def add(self, line: bytes, words: list[bytes]) -> bool:
        """Take one line; False if it can be no part of a tail."""
        text = line.decode("latin-1")
        if words and words[0] == b"augmentation":
            self.complete(text)
            counts = [int(w) for w in words if w.isdigit()]
            self.atoms, self.numbers, self.expected = self.atoms + 1, 0, counts[-1] if counts else 0
        elif words and not _is_number_line(text):
            return False
        elif words:
            found = len(_io.numbers(line, len(line)))
            if self.expected is not None and self.numbers < self.expected and found < len(words):
                self.lines.fail(
                    f"an augmentation occupancy expected, found '{text.strip()[:40]}'", self.lines.number + 1
                )
            self.numbers += found
        self.text.append(line)
        return True

    def complete(self, where: str) -> None:
        """Raise InputError if the occupancies of the last atom are cut short."""
        if self.expected is not None and self.numbers < self.expected:
            self.lines.fail(
                f"{where.strip()[:40] or 'the file ends'} after {self.numbers} of the {self.expected} "
                f"augmentation occupancies of atom {self.atoms}"
            )

    def result(self, more: str) -> tuple[str, str]:
        """(text, what follows: "block", "frame" or "end")."""
        self.complete("")
        if more != "block" and self.expected is None and self.numbers:
            self.lines.fail(f"{self.numbers} numbers more than the grid has points")
        if self.atoms % self.n_atoms:
            log.warning(f"{self.lines.label}: augmentation occupancies of {self.atoms} atoms for {self.n_atoms} atoms")
        return b"".join(self.text).decode("latin-1"), more


def _tail(lines: Lines, shape, n_atoms: int) -> tuple[str, str]:
    """Text behind a block and what follows: the next block ("block"), a new frame ("frame") or nothing ("end")."""
    stream, tail = lines.stream, _Tail(lines, n_atoms)
    while True:
        at = stream.tell()
        line = stream.readline()
        words = line.split()
        if not line:
            return tail.result("end")
        if len(words) == 3 and all(w.isdigit() for w in words) and tuple(map(int, words)) == shape:
            lines.number += 1
            return tail.result("block")
        if not tail.add(line, words):
            stream.seek(at)
            return tail.result("frame")
        lines.number += 1


def _walk(source: Source, data, dtype, start: int = 0, line: int = 0):
    """Yield (Header, blocks, extra, (start, line)) of the frames from byte `start` on, behind `line`.

    blocks: arrays [nx, ny, nz], or None with dtype None, which skips the values; extra: what is written back.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    if not len(data):
        raise InputError(f"{source.name}: the file is empty")
    stream.seek(start)
    lines = Lines(stream, source.name, line)
    while True:
        start, line = stream.tell(), lines.number
        header = _read_header(lines)
        shape, volume = header.grid.shape, header.structure.volume
        head = bytes(data[start : stream.tell() - len(lines.text)]).decode("latin-1")
        blocks, tails, bad, bad_line, more, per_line = [], [], 0, 0, "block", None
        while more == "block":
            if len(blocks) == 4:
                lines.fail("a fifth density block; 1 (total), 2 (total, spin) or 4 (noncollinear) expected")
            if per_line is None:
                at = stream.tell()
                per_line = 10 if len(_io.numbers(stream.readline(), 11)) > 5 else 5
                stream.seek(at)
            with source.errors():
                if dtype is None:
                    block = None
                    offset, line, *_ = _io.skip(data, stream.tell(), lines.number + 1, header.n_points)
                else:
                    block = np.empty(shape, dtype=dtype)
                    offset, line, n, where = _io.parse(
                        data, stream.tell(), lines.number + 1, block, 1.0 / volume, x_fastest=True
                    )
                    bad, bad_line = bad + n, bad_line or where
            blocks.append(block)
            stream.seek(offset)
            rest = stream.readline()
            lines.number = line
            if rest.strip():
                lines.fail(f"text behind the last value of a block: '{rest.decode('latin-1').strip()[:40]}'")
            tail, more = _tail(lines, shape, len(header.structure))
            tails.append(tail)
        if bad:
            raise InputError(f"{source.name}: {bad} values are nan or inf, the first in line {bad_line}")
        if len(blocks) == 3:
            raise InputError(
                f"{source.name}: 3 density blocks; 1 (total), 2 (total, spin) or 4 (noncollinear) expected"
            )
        if len(blocks) == 4:
            say_once("io.vasp.noncollinear", f"{source.name}: noncollinear; only the total density is read")
            blocks, tails = blocks[:1], tails[:1]
        header.n_channels, header.more["end"] = len(blocks), lines.number if more == "frame" else None
        yield header, blocks, {"header": head, "tails": tails, "per_line": per_line}, (start, line)
        if more == "end":
            return


@lru_cache(maxsize=64)
def _starts(path: str, name: str, stamp) -> list[tuple[int, int]]:
    """Byte and line at which every frame of a file begins."""
    source = Source(path, name, *stamp[2:])
    return [place for *_, place in _walk(source, source.data(), None)]


def _places(source: Source) -> list[tuple[int, int]]:
    with source.errors():
        stat = source.path.stat()
    return _starts(str(source.path), source.name, (stat.st_mtime_ns, stat.st_size, source.offset, source.size))


def n_frames(source: Source) -> int:
    """Frames of the file: one, except in the CHG of a molecular dynamics run, which is scanned."""
    return len(_places(source)) if _is_chg(source) else 1


def _is_chg(source: Source) -> bool:
    """Whether a file is a CHG by its name: 10 values a line, and many frames where it comes from molecular dynamics."""
    return bool(re.search(r"(^|[._-])CHG($|[._-])", source.stem, re.IGNORECASE))


def _density(source: Source, header: Header, blocks, extra) -> Density:
    values = blocks[0][None] if len(blocks) == 1 else np.stack(blocks)
    info = {"file": source.name, "format": NAME, "comment": header.comment.strip(), "code": "VASP"}
    return Density(header.structure, header.grid, values, header.kind, info, {"vasp": extra})


def _frame(source: Source, dtype, index: int):
    """(Header, blocks, extra) of frame `index`."""
    places = _places(source) if index else [(0, 0)]
    if not 0 <= index < len(places):
        raise InputError(f"{source.name}: frame {index} asked for; the file holds {len(places)}")
    header, blocks, extra, _ = next(_walk(source, source.data(), dtype, *places[index]))
    if header.more["end"] is not None and not index and not _is_chg(source):
        line = header.more["end"] + 1
        raise InputError(f"{source.name}: line {line}: neither augmentation nor a further density block")
    return header, blocks, extra


def read(source: Source, index: int = 0, dtype=np.float64) -> Density:
    """The density of frame `index`, e/Angstrom^3."""
    return _density(source, *_frame(source, dtype, index))


def _placed(density: Density, path) -> Density:
    """The same density in the frame of a CHGCAR: origin 0, structure's cell = grid's cell."""
    structure, grid = density.structure, density.grid
    differs = ~np.isclose(structure.cell, grid.cell, rtol=0, atol=1e-4).all(axis=1)
    if (differs & structure.pbc).any():
        raise InputError(f"cannot write {path}: a CHGCAR spans the whole cell, the grid spans another one")
    if not differs.any() and not grid.origin.any():
        return density
    moved = structure.with_(positions=structure.positions - grid.origin, cell=grid.cell)
    return Density(moved, Grid(grid.shape, grid.cell), density.values, density.kind, density.source, density.extra)


def _kept_header(density: Density, kept: dict) -> str | None:
    """The header the file came with, if it still describes the structure and nobody gave another comment."""
    structure, header = density.structure, kept.get("header", "")
    try:
        old, words = read_poscar(Lines(io.BytesIO(header.encode("latin-1")), "header"))
    except InputError:
        return None
    same = (
        np.array_equal(old.numbers, structure.numbers)
        and np.allclose(old.positions, structure.positions, rtol=0, atol=1e-9)
        and np.allclose(old.cell, structure.cell, rtol=0, atol=1e-9)
        and density.source.get("comment", words.strip()) == words.strip()
    )
    if not same:
        return None
    kind, pbc, field = read_tag(words)
    if kind is None:
        plain = structure.pbc.all() and structure.field is None and density.kind == "density"
        return header if plain else None
    return header if write_tag(old.with_(pbc=pbc, field=field), kind) == write_tag(structure, density.kind) else None


def _header_text(density: Density, kept: dict, comment: str | None) -> str:
    """The header kept from the file, or a new one whose comment line holds dcharge's tag and the comment."""
    header = _kept_header(density, kept) if comment is None else None
    if header is not None:
        return header
    comment = comment or str(density.source.get("comment") or density.source.get("file") or "").split("\n")[-1]
    tag = write_tag(density.structure, density.kind)
    return poscar_text(density.structure, f"{tag} | {comment.split('|')[-1].strip()}") + "\n"


def write(density: Density, path, *, comment: str | None = None, per_line: int | None = None) -> None:
    """Write a CHGCAR (5 values a line, 11 digits) or, where the name says CHG, a CHG (10 a line, 5 digits).

    Header, augmentation occupancies and moments kept in `density.extra["vasp"]` are written back verbatim.
    """
    density = _placed(density, path)
    kept = density.extra.get("vasp", {})
    if per_line is None:
        per_line = 10 if _is_chg(Source(path)) else 5
    tails = kept.get("tails", [])
    if len(tails) != len(density.values):
        if any("augmentation" in t for t in tails):
            log.warning(
                f"{path}: written without the augmentation occupancies of {density.name}, "
                f"which has {len(tails)} channels instead of {len(density.values)}"
            )
        tails = [""] * len(density.values)
    volume, shape = density.structure.volume, density.grid.shape
    step = max(8, 300_000 // (shape[0] * shape[1]) // 8 * 8)
    with replacing_file(path) as stream:
        stream.write(_header_text(density, kept, comment).encode("latin-1", "replace"))
        for values, tail in zip(density.values, tails, strict=True):
            stream.write("".join(f" {n:4d}" for n in shape).encode() + b"\n")
            values = np.ascontiguousarray(values)
            for start in range(0, shape[2], step):
                stop = min(start + step, shape[2])
                stream.write(_io.print(values, start, stop, volume, per_line, DIGITS[per_line], True, True))
            stream.write(tail.encode("latin-1") if per_line == 5 else b"")
