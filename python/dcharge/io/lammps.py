"""LAMMPS text dumps and data files. Lengths are Angstrom; positions are moved so that the box begins at the origin."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from ..errors import InputError, nearest, say_once
from ..structure import Structure
from .source import Lines, Source

STYLES = {
    "atomic": (1, 2),
    "charge": (1, 3),
    "bond": (2, 3),
    "angle": (2, 3),
    "molecular": (2, 3),
    "full": (2, 4),
    "dipole": (1, 3),
    "sphere": (1, 4),
}
SECTIONS = re.compile(
    r"^\s*(Masses|Atoms|Velocities|Bonds|Angles|Dihedrals|Impropers|\w+ Type Labels|(?:\w+ )*Coeffs|"
    r"Ellipsoids|Lines|Triangles|Bodies)\s*(?:#\s*(.*))?$"
)


def is_dump(head: bytes) -> bool:
    """Whether a file that begins so is a text dump."""
    return head.lstrip().startswith(b"ITEM:")


def is_data(head: bytes) -> bool:
    """Whether a file that begins so is a data file."""
    text = head.decode("latin-1")
    return bool(re.search(r"^\s*\d+\s+atoms\b", text, re.M) and re.search(r"\b(xlo\s+xhi|avec)\b", text))


def _numbers_of(types, type_map, label: str) -> np.ndarray:
    """Atomic numbers of LAMMPS types 1, 2, ... with the names of `type_map`."""
    if not type_map:
        raise InputError(f"{label}: names no elements; give them in the order of the types (--type-map O H)")
    for name in type_map:
        if name not in atomic_numbers:
            raise InputError(f"type_map: '{name}' is not a chemical symbol{nearest(name, chemical_symbols[1:])}")
    types = np.asarray(types, dtype=np.int64)
    if len(types) and not 1 <= types.min() <= types.max() <= len(type_map):
        raise InputError(
            f"{label}: atom type {types.max() if types.min() >= 1 else types.min()}, but the type map "
            f"names {len(type_map)} ({' '.join(type_map)})"
        )
    return np.array([atomic_numbers[n] for n in type_map])[types - 1]


def _numbers_of_names(names, label: str) -> np.ndarray:
    table = {}
    for name in set(names):
        if name not in atomic_numbers:
            raise InputError(f"{label}: '{name}' is not a chemical symbol{nearest(name, chemical_symbols[1:])}")
        table[name] = atomic_numbers[name]
    return np.array([table[n] for n in names], dtype=np.int64)


def _box(rows, words):
    """Cell rows, origin and pbc from the three BOX BOUNDS lines of a dump."""
    flags = [w for w in words if re.fullmatch(r"[pfsm]{2}", w)]
    pbc = [f == "pp" for f in flags] if len(flags) == 3 else [True] * 3
    if "abc" in words:
        return rows[:, :3], rows[:, 3], pbc
    (xlo, xhi), (ylo, yhi), (zlo, zhi) = rows[:, :2]
    xy, xz, yz = rows[:, 2] if "xy" in words else (0.0, 0.0, 0.0)
    xlo, xhi = xlo - min(0.0, xy, xz, xy + xz), xhi - max(0.0, xy, xz, xy + xz)
    ylo, yhi = ylo - min(0.0, yz), yhi - max(0.0, yz)
    cell = np.array([[xhi - xlo, 0, 0], [xy, yhi - ylo, 0], [xz, yz, zhi - zlo]])
    return cell, np.array([xlo, ylo, zlo]), pbc


def _positions(columns, table, cell, origin, lines: Lines):
    """Cartesian positions from the first complete triple of columns: unwrapped scaled, scaled or plain."""
    for triple in (("x", "y", "z"), ("xu", "yu", "zu"), ("xs", "ys", "zs"), ("xsu", "ysu", "zsu")):
        if all(c in columns for c in triple):
            xyz = np.array([table[columns.index(c)] for c in triple], dtype=np.float64).T
            with np.errstate(invalid="ignore"):  # what is not finite is told by Structure
                return xyz @ cell if triple[0].startswith("xs") else xyz - origin
    lines.fail(f"no positions: columns x y z, xu yu zu, xs ys zs or xsu ysu zsu expected, found {' '.join(columns)}")


def _item(lines: Lines, expected: str | None = None) -> str:
    text = lines.read(expected or "ITEM:").strip()
    if not text.startswith("ITEM:") or (expected and not text.startswith(expected)):
        lines.fail(f"'{expected or 'ITEM: ...'}' expected, found '{text[:40]}'")
    return text


def _body(lines: Lines, n: int, columns: list[str]):
    """The n atom lines, as one list of words per column."""
    rows = []
    for i in range(n):
        words = lines.read(f"atom {i + 1} of {n}").split()
        if len(words) != len(columns):
            lines.fail(f"{len(columns)} columns expected ({' '.join(columns)}), found {len(words)}")
        rows.append(words)
    return list(zip(*rows, strict=True)) if rows else [() for _ in columns]


def read_dump(source: Source, type_map=None, every: int = 1):
    """Yield (timestep, Structure) of every `every`-th frame of a text dump; one frame is in memory at a time."""
    with source.errors(), source.open() as stream:
        lines, number = Lines(stream, source.name), -1
        while raw := stream.readline():
            lines.number += 1
            text = raw.decode("latin-1").strip()
            if not text:
                continue
            while not text.startswith("ITEM: TIMESTEP"):
                if not text.startswith(("ITEM: UNITS", "ITEM: TIME")):
                    lines.fail(f"'ITEM: TIMESTEP' expected, found '{text[:40]}'")
                lines.read("a value")
                text = _item(lines)
            (step,) = lines.numbers("the timestep", 1)
            text = _item(lines)
            while not text.startswith("ITEM: NUMBER OF ATOMS"):
                lines.read("a value")
                text = _item(lines)
            (n,) = lines.numbers("the number of atoms", 1, integers=1)
            words = _item(lines, "ITEM: BOX BOUNDS").split()[3:]
            width = 4 if "abc" in words else 3 if "xy" in words else 2
            rows = np.array([lines.numbers("box bounds", width) for _ in range(3)])
            columns = _item(lines, "ITEM: ATOMS").split()[2:]
            number += 1
            if number % every:
                for i in range(n):
                    lines.read(f"atom {i + 1} of {n}")
                continue
            yield int(step), _frame(lines, n, columns, rows, words, type_map)


def _frame(lines: Lines, n: int, columns, rows, words, type_map) -> Structure:
    table = _body(lines, n, columns)
    cell, origin, pbc = _box(rows, words)
    try:
        positions = _positions(columns, table, cell, origin, lines)
        # without dump_modify LAMMPS calls every element C: who names the types knows better
        if "element" in columns and not (type_map and "type" in columns):
            numbers = _numbers_of_names(table[columns.index("element")], lines.label)
        elif "type" in columns:
            types = table[columns.index("type")]
            named = bool(types) and not types[0].isdigit()
            numbers = (
                _numbers_of_names(types, lines.label)
                if named
                else _numbers_of(np.array(types, dtype=np.int64), type_map, lines.label)
            )
        else:
            lines.fail("no column 'element' or 'type'")
        if "id" in columns:
            order = np.argsort(np.array(table[columns.index("id")], dtype=np.int64), kind="stable")
            numbers, positions = numbers[order], positions[order]
    except ValueError as error:
        raise InputError(f"{lines.label}: the frame that ends in line {lines.number}: {error}") from None
    return _structure(f"{lines.label}: the frame that ends in line {lines.number}", numbers, positions, cell, pbc)


def _structure(label: str, *parts) -> Structure:
    try:
        return Structure(*parts)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None


def _sections(lines: Lines):
    """Header values and sections {name: (style comment, [(line number, words)])} of a data file."""
    header, sections, rows = {}, {}, None
    lines.read("a comment line")
    while True:
        raw = lines.stream.readline()
        if not raw:
            return header, sections
        lines.number += 1
        text = raw.decode("latin-1").rstrip()
        found = SECTIONS.match(text)
        if found:
            rows = []
            sections[found[1]] = (found[2] or "", rows)
        elif rows is not None:
            content, _, comment = text.partition("#")
            if content.strip():
                rows.append((lines.number, content.split(), comment.strip()))
        else:
            words = text.partition("#")[0].split()
            keys = [w for w in words if not re.match(r"[-+.\d]", w)]
            if keys:
                header[" ".join(keys)] = words[: len(words) - len(keys)]


def _data_box(header, label):
    if "avec" in header:
        cell = np.array([[float(x) for x in header[k][:3]] for k in ("avec", "bvec", "cvec")])
        return cell, np.array([float(x) for x in header.get("abc origin", [0, 0, 0])])
    try:
        (xlo, xhi), (ylo, yhi), (zlo, zhi) = ([float(x) for x in header[f"{a}lo {a}hi"]] for a in "xyz")
        xy, xz, yz = (float(x) for x in header.get("xy xz yz", (0, 0, 0)))
    except (KeyError, ValueError):
        raise InputError(f"{label}: 'xlo xhi', 'ylo yhi' and 'zlo zhi' lines with two numbers each expected") from None
    return np.array([[xhi - xlo, 0, 0], [xy, yhi - ylo, 0], [xz, yz, zhi - zlo]]), np.array([xlo, ylo, zlo])


def _data_elements(sections, label):
    """Symbols of the types from `Atom Type Labels`, comments in `Masses` or the masses; None where nothing tells."""
    if "Atom Type Labels" in sections:
        return [words[1] for _, words, _ in sorted(sections["Atom Type Labels"][1], key=lambda r: int(r[1][0]))]
    if "Masses" not in sections:
        return None
    rows = sorted(sections["Masses"][1], key=lambda r: int(r[1][0]))
    named = [comment.split()[0] if comment else "" for _, _, comment in rows]
    if all(n in atomic_numbers and n != "X" for n in named):
        return named
    nearest_z = [int(np.nanargmin(np.abs(atomic_masses[1:104] - float(w[1])))) + 1 for _, w, _ in rows]
    symbols = [chemical_symbols[z] for z in nearest_z]
    for z, (line, words, _) in zip(nearest_z, rows, strict=True):
        if abs(atomic_masses[z] - float(words[1])) > 0.1:
            raise InputError(
                f"{label}: line {line}: mass {words[1]} is no element's; give the elements (--type-map ...)"
            )
    say_once(f"io.masses:{label}", f"{label}: elements taken from the masses: {' '.join(symbols)}")
    return symbols


def read_data(source: Source, type_map=None) -> Structure:
    """Structure of a LAMMPS data file (atom styles atomic, charge, bond, angle, molecular, full, dipole, sphere)."""
    with source.errors(), source.open() as stream:
        lines = Lines(stream, source.name)
        header, sections = _sections(lines)
    cell, origin = _data_box(header, source.name)
    if "Atoms" not in sections:
        raise InputError(f"{source.name}: no section 'Atoms'")
    style, rows = sections["Atoms"]
    if "atoms" not in header or len(rows) != int(header["atoms"][0]):
        raise InputError(
            f"{source.name}: {len(rows)} lines in section 'Atoms', {' '.join(header.get('atoms', ['?']))} "
            "atoms announced"
        )
    style = style.split()[0] if style else ""
    if style and style not in STYLES:
        raise InputError(f"{source.name}: atom style '{style}'; one of {', '.join(STYLES)} expected")
    width = len(rows[0][1]) if rows else 0
    if not style:
        style = {5: "atomic", 8: "atomic", 7: "full", 10: "full", 6: "charge", 9: "charge"}.get(width, "")
        if not style:
            raise InputError(
                f"{source.name}: line {rows[0][0]}: atom style unclear; write 'Atoms # atomic' (or charge, full)"
            )
        if style == "charge" and "." not in rows[0][1][2]:
            style = "molecular"
    type_at, xyz_at = STYLES[style]
    try:
        ids = np.array([int(w[0]) for _, w, _ in rows])
        types = [w[type_at] for _, w, _ in rows]
        positions = np.array([[float(x) for x in w[xyz_at : xyz_at + 3]] for _, w, _ in rows]).reshape(-1, 3) - origin
        labelled = bool(types) and not types[0].isdigit()
        numbers = (
            _numbers_of_names(types, source.name)
            if labelled
            else _numbers_of([int(t) for t in types], type_map or _data_elements(sections, source.name), source.name)
        )
    except (ValueError, IndexError) as error:
        raise InputError(f"{source.name}: section 'Atoms' (style {style}): {error}") from None
    order = np.argsort(ids, kind="stable")
    return _structure(source.name, numbers[order], positions[order], cell, [True, True, True])


def timestep_name(path, step: int) -> str:
    """Name of a dump frame for people."""
    return f"{Path(path).name}@{step}"
