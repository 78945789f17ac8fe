"""Structures to predict: anything ASE reads, XDATCAR, LAMMPS dumps and data files, those of density files."""

from __future__ import annotations

import os

from ..errors import InputError, UnsupportedFormat
from ..structure import Structure
from . import cube, formats, lammps, poscar, vasp, xdatcar
from .source import Lines, Source, stem
from .systems import TAR, as_field, as_pbc, open_system


def _is_density(source: Source) -> bool:
    try:
        return formats.by_name(source.stem) is not None
    except UnsupportedFormat:
        return False


def _from_ase(path: str, every: int):
    """(name, Structure) of every `every`-th frame, read one by one where ASE can."""
    from ase.io import iread

    base = os.path.basename(path)
    try:
        for i, atoms in enumerate(iread(path, index=slice(None, None, every))):
            number = i * every
            if len(atoms) == 0:
                raise InputError(f"{path}: frame {number} has no atoms")
            yield (f"{base}#{number}", Structure.from_ase(atoms))
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(path) else f"{path}: {text}") from None
    except Exception as error:  # ASE's readers raise whatever happens to them
        text = (str(error).splitlines() or [""])[0][:120]
        raise InputError(f"{path}: ASE cannot read a structure from it ({type(error).__name__}: {text})") from error


def _structures(path: str, type_map, every: int):
    if os.path.isdir(path) or TAR.search(path) or not os.path.exists(path):
        for frame in open_system(path).frames[::every]:
            yield frame.name, frame.structure
        return
    source, name = Source(path), os.path.basename(path)
    if _is_density(source):
        for frame in open_system(path).frames[::every]:
            yield frame.name, frame.structure
        return
    head = source.head()
    if not head:
        raise InputError(f"{path}: the file is empty")
    if lammps.is_dump(head):
        for step, structure in lammps.read_dump(source, type_map, every):
            yield lammps.timestep_name(path, step), structure
    elif lammps.is_data(head):
        yield name, lammps.read_data(source, type_map)
    elif xdatcar.looks(head):
        for number, structure in xdatcar.read_xdatcar(source, every):
            yield f"{name}#{number}", structure
    elif head.startswith(formats.HDF5_MAGIC) or cube.looks(head):
        for frame in open_system(path).frames[::every]:
            yield frame.name, frame.structure
    elif poscar.looks(head) and (vasp.looks(head) or not stem(path).endswith((".xyz", ".cif"))):
        with source.errors(), source.open() as stream:
            structure, _ = poscar.read_poscar(Lines(stream, source.name))
        yield name, structure
    else:
        yield from _from_ase(path, every)


def read_structures(path, *, type_map=None, every: int = 1, pbc=None, field=None):
    """Iterate over (name, Structure): one for a file with one structure, frame by frame for a trajectory.

    path      any file ASE reads, POSCAR, a LAMMPS dump or data file, or densities (file, folder, pattern, tar)
    type_map  symbols of LAMMPS types 1, 2, ... where the file does not name elements
    every     take every n-th frame
    pbc, field  override what the file says
    """
    pbc, field = as_pbc(pbc), as_field(field)
    if int(every) < 1:
        raise InputError(f"every {every}: a positive integer expected")
    path = os.path.expanduser(str(path))
    from .tag import periodicity_given

    with periodicity_given(pbc is not None):
        for name, structure in _structures(path, type_map, int(every)):
            yield name, structure.with_(pbc=pbc, field=field)


def read_structure(path, **options) -> Structure:
    """The first structure of a file; options as in `read_structures`."""
    for _, structure in read_structures(path, **options):
        return structure
    raise InputError(f"{path}: no structure")
