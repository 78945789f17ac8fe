"""The keys of `model` that both families of DeepDFT have."""

from __future__ import annotations

from dargs import Argument

from .tree import NOT_NEGATIVE, POSITIVE, between, key, one_of


def shared(n_layers: int) -> list[Argument]:
    """Keys of both families; n_layers: how many the paper has."""
    return [
        key("rcut", float, 4.0, "Cutoff radius in Angstrom, of atoms and of points.", POSITIVE),
        key("n_features", int, 128, "Width of a state.", between(1, 4096)),
        key("n_layers", int, n_layers, "Message layers, of atoms and of points.", between(1, 64)),
        key(
            "cutoff_function",
            str,
            "smooth",
            "smooth: messages vanish at rcut with slope and curvature; published: as in the paper, with a step in the "
            "curvature (painn) or in the value (schnet, 5.5e-4).",
            one_of("smooth", "published"),
        ),
        key(
            "soft",
            float,
            0.25,
            "Softening length in Angstrom, so that the density is smooth at a nucleus; 0: as published, with a kink.",
            NOT_NEGATIVE,
        ),
        key(
            "filters",
            str,
            "tabulated",
            "tabulated: functions of a pair's distance are interpolated from a table (to 1e-6); exact: the network at "
            "every pair, always taken for derivatives by positions.",
            one_of("tabulated", "exact"),
        ),
        key(
            "ignore_pbc",
            bool,
            False,
            "Atoms have no periodic images, whatever a structure says: for models of molecules in boxes.",
        ),
        key(
            "vacuum",
            str,
            "zero",
            "zero: far from all atoms the density vanishes exactly; paper: the net's constant remains.",
            one_of("zero", "paper"),
        ),
    ]


def check(model: dict, fail) -> None:
    """Relations between the family's keys. `fail(path, message)` raises."""
    if model["target"] == "response":
        text = "'response' needs a family that sees the electric field; DeepDFT learns 'density' only"
        fail("model/target", text)
