"""VASP XDATCAR: a POSCAR header, then the positions of frame after frame; with a changing cell the header returns."""

from __future__ import annotations

import re
from itertools import chain

from .poscar import integers, read_poscar
from .poscar import looks as looks_like_poscar
from .source import Lines, Source

FRAME = re.compile(rb"^\s*(Direct|Cartesian) configuration\s*=", re.IGNORECASE | re.MULTILINE)


def looks(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    return looks_like_poscar(head) and FRAME.search(head) is not None


class _Ahead:
    """Lines that were read already, then those of a stream."""

    def __init__(self, lines: list[bytes], stream):
        self._lines = chain(lines, iter(stream.readline, b""))

    def readline(self) -> bytes:
        """The next line, empty at the end."""
        return next(self._lines, b"")


def read_xdatcar(source: Source, every: int = 1):
    """Yield (number, Structure) of every `every`-th frame; one frame is in memory at a time. Numbers begin with 1."""
    with source.errors(), source.open() as stream:
        lines, header, number = Lines(stream, source.name), [], 0
        while raw := stream.readline():
            lines.number += 1
            if not raw.strip():
                continue
            if not FRAME.match(raw):
                header = [raw]
                for what in ("the scale", *["a cell vector"] * 3, "species or their counts"):
                    lines.read(what)
                    header.append(lines.text)
                if not integers(header[-1].decode("latin-1")):
                    lines.read("the number of atoms of every species")
                    header.append(lines.text)
                continue
            number += 1
            n = sum(integers(header[-1].decode("latin-1"))) if header else 0
            if not n:
                lines.fail("a header with numbers of atoms expected before the first frame")
            if (number - 1) % every:
                for i in range(n):
                    lines.read(f"position of atom {i + 1} of {n}")
                continue
            whole = Lines(_Ahead([*header, raw], stream), source.name, lines.number - len(header) - 1)
            structure, _ = read_poscar(whole)
            lines.number = whole.number
            yield number, structure
