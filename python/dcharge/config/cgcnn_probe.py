"""The keys of `model` for type cgcnn_probe."""

from __future__ import annotations

from dargs import Argument

from .cgcnn import check, shared
from .tree import choice

__all__ = ["arguments", "check"]


def arguments() -> Argument:
    """The keys this family adds to the `model` section."""
    return choice(
        "cgcnn_probe",
        shared(
            "Radius in Angstrom within which a point sees atoms; atoms see one another within 2 rcut.",
            "Edges of an atom, to its nearest others; those as far as the last one are kept, too.",
        ),
        doc="Not a published model: cgcnn's convolutions among the atoms, once per structure, and one to every point.",
    )
