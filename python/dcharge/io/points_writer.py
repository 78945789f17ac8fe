"""Writing DeePMD-kit style point data, frame by frame."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from ..density import Density, PointDensity
from .replacing import replacing

HEADER = 128


class _Rows:
    """A .npy file [n, ...] to which rows are appended; its header is written last, when n is known."""

    def __init__(self, path: Path, shape: tuple, dtype):
        self.shape, self.dtype, self.n = shape, np.dtype(dtype), 0
        self.stream = open(path, "wb")  # noqa: SIM115 - closed by close()
        self.stream.write(b" " * HEADER)

    def append(self, row) -> None:
        self.stream.write(np.ascontiguousarray(row, dtype=self.dtype).reshape(self.shape).data)
        self.n += 1

    def close(self) -> None:
        text = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': {(self.n, *self.shape)}, }}"
        head = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
        self.stream.seek(0)
        self.stream.write(head + text.ljust(HEADER - 11).encode() + b"\n")
        self.stream.close()


class PointWriter:
    """A folder of point data under construction; it appears under its name when closed.

    Frames that share species (in order), periodicity and kind form a system; within it, those with the same number
    of points form a set. One system lies at `path` itself, several in sub-folders named by formula.

    dtype of the density: float32 or float64 (default float64); coordinates are float64.
    """

    def __init__(self, path, dtype=np.float64):
        self.path, self.dtype, self.n_frames = path, dtype, 0
        self.systems: dict = {}
        self._target = replacing(path, folder=True)
        self.part = self._target.__enter__()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            self.close()
        else:
            self._leave(error)

    def _leave(self, error) -> None:
        for _, sets in self.systems.values():
            for arrays in sets.values():
                for rows in arrays.values():
                    with contextlib.suppress(OSError):  # a full disk, once more
                        rows.stream.close()
        target, self._target = self._target, None
        if target is not None and not target.__exit__(type(error), error, error.__traceback__):
            raise error

    def _system(self, density):
        structure = density.structure
        key = (structure.numbers.tobytes(), structure.pbc.tobytes(), density.kind)
        if key not in self.systems:
            folder = self.part / f"{len(self.systems):03d}"
            folder.mkdir()
            names = sorted(set(structure.symbols), key=structure.symbols.index)
            (folder / "type_map.raw").write_text("\n".join(names) + "\n")
            (folder / "type.raw").write_text("\n".join(str(t) for t in structure.types(names)) + "\n")
            if not structure.pbc.any():
                (folder / "nopbc").touch()
            elif not structure.pbc.all():
                (folder / "pbc.raw").write_text(" ".join(str(int(p)) for p in structure.pbc) + "\n")
            if density.kind != "density":
                (folder / "kind.raw").write_text(density.kind + "\n")
            self.systems[key] = (folder, {})
        return self.systems[key]

    def append(self, density: Density | PointDensity, name: str | None = None) -> None:
        """Add a frame: the points of a PointDensity, or all points of a grid."""
        try:
            self._append(density)
        except BaseException as error:
            self._leave(error)

    def _append(self, density) -> None:
        folder, sets = self._system(density)
        structure, n = density.structure, density.n_points
        weight, field = getattr(density, "weight", None), structure.field
        key = (n, len(density.values), weight is None, field is None)
        if key not in sets:
            where = folder / f"set.{len(sets):03d}"
            where.mkdir()
            sets[key] = {
                "coord": _Rows(where / "coord.npy", (len(structure) * 3,), np.float64),
                "box": _Rows(where / "box.npy", (9,), np.float64),
                "grid": _Rows(where / "grid.npy", (n, 3), np.float64),
                "density": _Rows(where / "density.npy", (n, len(density.values)), self.dtype),
                **({} if weight is None else {"weight": _Rows(where / "weight.npy", (n,), np.float64)}),
                **({} if field is None else {"field": _Rows(where / "field.npy", (3,), np.float64)}),
            }
        rows = {
            "coord": structure.positions,
            "box": structure.cell,
            "grid": density.points(),
            "density": density.values.reshape(len(density.values), -1).T,
            "weight": weight,
            "field": field,
        }
        for what, array in sets[key].items():
            array.append(rows[what])
        self.n_frames += 1

    def close(self) -> None:
        """Finish; the folder now appears under its name."""
        if self._target is None:
            return
        try:
            for _, sets in self.systems.values():
                for arrays in sets.values():
                    for rows in arrays.values():
                        rows.close()
            if len(self.systems) == 1:
                only = self.part / "000"
                for child in list(only.iterdir()):
                    child.rename(self.part / child.name)
                only.rmdir()
            else:
                self._name_systems()
        except BaseException as error:
            self._leave(error)
        target, self._target = self._target, None
        target.__exit__(None, None, None)

    def _name_systems(self) -> None:
        used: dict[str, int] = {}
        for (numbers, _, _), (folder, _) in self.systems.items():
            symbols = [chemical_symbols[z] for z in np.frombuffer(numbers, dtype=np.int64)]
            formula = "".join(f"{s}{symbols.count(s)}" for s in sorted(set(symbols), key=symbols.index))
            used[formula] = used.get(formula, 0) + 1
            folder.rename(self.part / (formula if used[formula] == 1 else f"{formula}_{used[formula]}"))
