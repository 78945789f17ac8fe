"""Reading and writing densities and structures.

read, read_frames, write, open_writer     densities; the format is chosen by name, else by content
open_system                               the frames behind a path, for train and test
read_structures                           structures, frame by frame
check_electrons                           warn where an electron count contradicts a known one
"""

from __future__ import annotations

import numpy as np

from ..density import Density, PointDensity

_LATER = {
    "read_structures": "structures",
    "read_structure": "structures",
    "open_writer": "writers",
    "HDF5Writer": "hdf5_writer",
    "PointWriter": "points_writer",
    "open_system": "systems",
    "Frame": "systems",
    "System": "systems",
    "check_electrons": "electrons",
}

__all__ = ["read", "read_frames", "write", *_LATER]


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module 'dcharge.io' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)


def read(path, *, pbc=None, field=None, frame: int = 0, dtype=np.float64) -> Density | PointDensity:
    """Read one density (the first, or `frame`) of a file or point-data folder.

    pbc [3] bool and field [3] V/Angstrom override what the file says. Values are e/Angstrom^3, as `dtype`.
    Raises InputError in one line: file, line and what was expected.
    """
    from ..errors import InputError
    from .systems import open_system

    frames = open_system(path, pbc=pbc, field=field).frames
    if not -len(frames) <= frame < len(frames):
        raise InputError(f"{path}: frame {frame} asked for; there are {len(frames)}")
    return frames[frame].read(dtype)


def read_frames(path, *, pbc=None, field=None, dtype=np.float64):
    """Iterate over all densities of a file, folder, pattern or tar."""
    from .systems import open_system

    for frame in open_system(path, pbc=pbc, field=field).frames:
        yield frame.read(dtype)


def write(density: Density | PointDensity, path, **options) -> None:
    """Write a density; the name chooses format and compression (CHGCAR.gz, x.cube, x.h5, a folder for points).

    The target appears whole or not at all. Options: see the writer of the format.
    """
    from . import formats

    if isinstance(density, PointDensity):
        from . import points

        points.write(density, path, **options)
    else:
        formats.for_writing(path).write(density, path, **options)
