"""The keys of `model` for type schnet."""

from __future__ import annotations

from dargs import Argument

from .deepdft import check as check_shared
from .deepdft import shared
from .tree import POSITIVE, choice, key

MOST_GAUSSIANS = 1000  # each is an input of a network at every pair


def arguments() -> Argument:
    """The keys this family adds to the `model` section."""
    return choice(
        "schnet",
        [
            *shared(n_layers=6),
            key("gaussian_step", float, 0.1, "Distance and width of the Gaussians of r, Angstrom.", POSITIVE),
        ],
        doc="DeepDFT, invariant: SchNet messages among atoms and from atoms to grid points (Jorgensen, Bhowmik).",
    )


def check(model: dict, fail) -> None:
    """Relations between the family's keys. `fail(path, message)` raises."""
    check_shared(model, fail)
    if model["gaussian_step"] > model["rcut"]:
        fail("model/gaussian_step", f"at most rcut ({model['rcut']:g}) expected, {model['gaussian_step']:g} given")
    if model["gaussian_step"] < model["rcut"] / MOST_GAUSSIANS:
        least = model["rcut"] / MOST_GAUSSIANS
        fail(
            "model/gaussian_step",
            f"at least rcut/{MOST_GAUSSIANS} ({least:g}) expected, {model['gaussian_step']:g} given",
        )
