"""Which format a file has: by its name, or where the name does not tell, by its first bytes."""

from __future__ import annotations

import os

from ..errors import UnsupportedFormat
from . import cube, vasp
from .source import Source

KNOWN = "CHGCAR*, CHG*, AECCAR*, *.cube, *.h5 (also .gz .zz .xz .bz2 .lz4 .zst), or a folder with type.raw"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def _hdf5():
    from . import hdf5

    return hdf5


def by_name(stem: str):
    """The format module for a file name without compression suffix, or None."""
    if stem.lower().endswith((".h5", ".hdf5")):
        return _hdf5()
    if cube.claims(stem):
        return cube
    if vasp.OTHER.search(stem) and not vasp.claims(stem):
        word = vasp.OTHER.search(stem)[2].upper()
        raise UnsupportedFormat(f"{stem}: {word} files hold no electron density; expected one of {KNOWN}")
    if vasp.claims(stem):
        return vasp
    return None


def of_source(source: Source):
    """The format module that reads a source."""
    if os.path.isdir(source.path) and not source.is_member:
        if os.path.exists(source.path / "type.raw"):
            from . import points

            return points
        raise UnsupportedFormat(f"{source.name}: a folder without type.raw is no density; expected {KNOWN}")
    try:
        found = by_name(source.stem)
    except UnsupportedFormat as error:
        raise UnsupportedFormat(f"{source.name}: {str(error).split(': ', 1)[1]}") from None
    if found is not None:
        return found
    head = source.head()
    if head.startswith(HDF5_MAGIC):
        return _hdf5()
    for module in (cube, vasp):
        if module.looks(head):
            return module
    raise UnsupportedFormat(f"{source.name}: of no density format that dcharge reads; expected {KNOWN}")


def for_writing(path):
    """The format module that writes to a path, by its name."""
    from .source import stem

    found = by_name(stem(path))
    if found is None:
        raise UnsupportedFormat(f"{path}: the name tells no format; expected {KNOWN}")
    return found
