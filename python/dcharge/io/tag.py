"""The words dcharge leaves in a comment line of formats that have no place for periodicity, field and kind.

dcharge density; pbc T T F; field 0.0 0.0 -1.0 V/Angstrom
"""

from __future__ import annotations

import contextlib
import contextvars
import re

import numpy as np

from ..density import KINDS
from ..errors import InputError, say_once
from ..structure import Structure

_TAG = re.compile(r"dcharge (\w+); pbc ([TF]) ([TF]) ([TF])(?:; field ([^;\n]*))?")
_given: contextvars.ContextVar[bool] = contextvars.ContextVar("periodicity_given", default=False)


def write_tag(structure: Structure, kind: str) -> str:
    """The tag of a structure and kind of density."""
    text = f"dcharge {kind}; pbc " + " ".join("FT"[int(p)] for p in structure.pbc)
    if structure.field is not None:
        text += "; field " + " ".join(repr(float(x)) for x in structure.field) + " V/Angstrom"
    return text


def read_tag(comment: str, label: str = "tag"):
    """(kind, pbc, field) from a comment; (None, None, None) where there is no tag.

    InputError, beginning with `label`, where the tag has a field that is none: without it, it would be another frame.
    """
    found = _TAG.search(comment)
    if not found or found[1] not in KINDS:
        return None, None, None
    return (
        found[1],
        np.array([found[i] == "T" for i in (2, 3, 4)]),
        None if found[5] is None else _field(found[5], label),
    )


def _field(text: str, label: str) -> np.ndarray:
    """[3] V/Angstrom; what follows the unit is another's comment."""
    words = text.split()
    try:
        field = np.array([float(w) for w in words[:3]])
        if words[3:4] == ["V/Angstrom"] and np.isfinite(field).all():
            return field
    except ValueError:
        pass
    raise InputError(f"{label}: comment line: 'field X Y Z V/Angstrom' expected, found 'field {text.strip()[:60]}'")


def said_periodic(label: str) -> np.ndarray:
    """Periodicity of a file that says nothing about it."""
    if not _given.get():
        say_once(
            "io.periodic",
            f"{label} does not say which axes are periodic: taken as periodic along all three, as all such files are "
            '(where that is wrong give --pbc T T F, or "pbc" of the system)',
        )
    return np.array([True, True, True])


@contextlib.contextmanager
def periodicity_given(given: bool):
    """Inside, and if `given`, nothing is said about periodicity: the user told it."""
    token = _given.set(given or _given.get())
    try:
        yield
    finally:
        _given.reset(token)
