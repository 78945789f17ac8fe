"""The header VASP files share (POSCAR): comment, scale, cell, species, counts, positions.

Read: VASP 4 (no species line: the comment line must name the species), VASP 5 and 6 (`Si_pv`, `Si/0123abc`), one scale,
three scales, a negative scale (the cell's volume), selective dynamics, Direct and Cartesian.
"""

from __future__ import annotations

import re

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from .. import _io
from ..errors import InputError, nearest
from ..structure import Structure
from .source import Lines


def symbol_of(token: str) -> str:
    """'Si' from 'Si', 'Si_pv', 'Si/2f6a', 'Si1'."""
    return re.split(r"[_/.:\d]", token, maxsplit=1)[0]


def integers(text: str) -> list[int]:
    """The leading whole numbers of a line."""
    out = []
    for token in text.split():
        if not re.fullmatch(r"[+-]?\d+", token):
            break
        out.append(int(token))
    return out


def _scaled(lines: Lines, scale, vectors):
    """Cell and the factor(s) for Cartesian positions."""
    if len(scale) == 3:
        if min(scale) <= 0:
            lines.fail("three scale factors must be positive", 2)
        factor = np.array(scale)
    elif scale[0] < 0:
        volume = abs(np.linalg.det(vectors))
        if volume == 0:
            lines.fail("the cell vectors are linearly dependent (zero volume)")
        factor = np.full(3, (-scale[0] / volume) ** (1 / 3))
    elif scale[0] == 0:
        lines.fail("the scale is 0", 2)
    else:
        factor = np.full(3, scale[0])
    return vectors * factor, factor


def _species(lines: Lines, comment: str):
    """(symbols, counts) from the species line and the line of counts."""
    text = lines.read("the species line")
    counts = integers(text)
    if counts:  # VASP 4
        symbols = [symbol_of(t) for t in comment.split()]
        symbols = [s for s in symbols if s in atomic_numbers and s != "X"]
        if len(symbols) != len(counts):
            lines.fail(
                f"no species line (VASP 4), and the comment '{comment.strip()[:40]}' does not name "
                f"{len(counts)} species; write the symbols into the first line or above the counts"
            )
        return symbols, counts
    tokens = text.split()
    if not tokens:
        lines.fail("chemical symbols expected, found an empty line")
    symbols = [symbol_of(t) for t in tokens]
    for token, symbol in zip(tokens, symbols, strict=True):
        if symbol not in atomic_numbers or symbol == "X":
            lines.fail(f"'{token[:20]}' is not a chemical symbol{nearest(symbol, chemical_symbols[1:])}")
    text = lines.read("the number of atoms of every species")
    counts = integers(text)
    if len(counts) != len(symbols):
        lines.fail(f"{len(symbols)} species ({' '.join(symbols)}) but {len(counts)} counts in '{text.strip()[:40]}'")
    return symbols, counts


def read_poscar(lines: Lines, pbc=(True, True, True), field=None) -> tuple[Structure, str]:
    """Structure and comment; the stream of `lines` then stands behind the last position."""
    comment = lines.read("a comment line")
    scale = lines.numbers("the scale (1 or 3 numbers)", 1, 3)
    if len(scale) == 2:
        lines.fail("the scale (1 or 3 numbers) expected, found 2")
    vectors = np.array([lines.numbers(f"cell vector {i + 1} (3 numbers)", 3) for i in range(3)])
    cell, factor = _scaled(lines, scale, vectors)
    symbols, counts = _species(lines, comment)
    if min(counts) < 0 or sum(counts) < 1:
        lines.fail("numbers of atoms must be positive")
    mode = lines.read("'Direct' or 'Cartesian'").strip()
    if mode[:1] in "sS" and mode:
        mode = lines.read("'Direct' or 'Cartesian'").strip()
    if mode and mode[0] not in "dDcCkKfF":
        lines.fail(f"'Direct' or 'Cartesian' expected, found '{mode[:40]}'")
    cartesian = mode[:1] in tuple("cCkK")
    n = sum(counts)
    positions = np.array([lines.numbers(f"position of atom {i + 1} of {n} (3 numbers)", 3) for i in range(n)])
    positions = positions * factor if cartesian else positions @ cell
    numbers = np.repeat([atomic_numbers[s] for s in symbols], counts)
    try:
        return Structure(numbers, positions, cell, pbc, field), comment
    except InputError as error:
        raise InputError(f"{lines.label}: {error}") from None


def looks(head: bytes) -> bool:
    """Whether a file that begins so has a POSCAR header."""
    lines = head.split(b"\n")[1:5]
    if len(lines) < 4 or len(_io.numbers(lines[0], 4)) not in (1, 3):
        return False
    return all(len(_io.numbers(line, 4)) == 3 for line in lines[1:])


def _row(numbers, width: int) -> str:
    return "".join(f"{x:{width}.16f}" for x in numbers)


def poscar_text(structure: Structure, comment: str) -> str:
    """POSCAR header of a structure, order of atoms kept (species repeat where they alternate)."""
    numbers = structure.numbers
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    counts = np.diff(np.r_[starts, len(numbers)])
    fractional = structure.positions @ np.linalg.inv(structure.cell)
    rows = [comment.replace("\n", " ")[:200] or "dcharge", "   1.0"]
    rows += [_row(row, 22) for row in structure.cell]
    rows.append(" ".join(f"{chemical_symbols[numbers[i]]:>5s}" for i in starts))
    rows.append(" ".join(f"{n:5d}" for n in counts))
    rows.append("Direct")
    rows += [_row(row, 20) for row in fractional]
    return "\n".join(rows) + "\n"
