"""The keys of `model` for type painn."""

from __future__ import annotations

from dargs import Argument

from .deepdft import check, shared
from .tree import between, choice, key

__all__ = ["arguments", "check"]


def arguments() -> Argument:
    """The keys this family adds to the `model` section."""
    return choice(
        "painn",
        [
            *shared(n_layers=3),
            key(
                "n_radial",
                int,
                30,
                "Number of radial functions sin(k pi r/rcut)/r: 30 in the public code, 20 in the paper.",
                between(1, 256),
            ),
            key(
                "paper_message",
                bool,
                False,
                "Scalar messages phi(s) as in the paper; false: s phi(s), as in the public code.",
            ),
        ],
        doc="DeepDFT, equivariant: PaiNN messages among atoms and from atoms to grid points (Jorgensen, Bhowmik).",
    )
