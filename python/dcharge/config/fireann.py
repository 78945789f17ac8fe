"""The keys of `model` for type fireann."""

from __future__ import annotations

from dargs import Argument

from .tree import (
    NOT_NEGATIVE,
    POSITIVE,
    WIDTHS,
    Rule,
    between,
    by_type,
    choice,
    key,
    one_of,
    section,
    standardize_and_vacuum,
)

FEATURES = Rule(lambda v: v is None or v >= 1, "a positive integer or null", {"minimum": 1})
EAD = (
    key("rcut", float, 4.0, "Cutoff radius in Angstrom, of atoms and of points.", POSITIVE),
    key("l_max", int, 2, "Largest angular momentum of the orbitals.", between(0, 3)),
    key("n_waves", int, 8, "Number of radial functions of a species.", between(1, 64)),
    key(
        "n_features",
        [int, None],
        None,
        "Number of contracted features; null: n_waves (n_waves + 1)/2 (l_max + 1), as many as there are products.",
        FEATURES,
    ),
    key(
        "n_iterations",
        int,
        2,
        "How often atoms pass their surroundings on before a point sees them; 0: orbitals of bare species.",
        between(0, 16),
    ),
    key(
        "direction",
        str,
        "raw",
        "raw: orbitals hold powers of the components of r, as printed; unit: of r/|r|, as in the later code.",
        one_of("raw", "unit"),
    ),
    key(
        "soft",
        float,
        0.5,
        "Softening length in Angstrom: orbitals depend on sqrt(r^2 + soft^2), so that the density is smooth at a "
        "nucleus; 0: as printed, with a cusp.",
        NOT_NEGATIVE,
    ),
)


def net(widths: list[int], activation: str) -> tuple[Argument, ...]:
    """Keys of a block network."""
    return (
        key("neuron", list[int], widths, "Widths of the residual block; the first is that of the skip.", WIDTHS),
        key(
            "activation_function",
            str,
            activation,
            "Activation, with a trainable height and steepness for every neuron; tanh_like is bounded.",
            one_of("silu_like", "tanh_like"),
        ),
        key("layer_norm", bool, False, "Normalise the values within every layer of the block."),
    )


def arguments() -> Argument:
    """The keys this family adds to the `model` section."""
    return choice(
        "fireann",
        [
            key(
                "variant",
                str,
                "v1",
                "v1: the printed model; equi: orbitals of an atom also carry the sums of its own surroundings, with "
                "their direction.",
                one_of("v1", "equi"),
            ),
            section(
                "descriptor",
                variant=by_type(
                    choice("ead", EAD, "Embedded atom densities."), default="ead", doc="Which description."
                ),
                doc="What a centre (an atom or a grid point) sees of the atoms around it.",
            ),
            section(
                "orbital_net",
                net([16, 16], "tanh_like"),
                doc="The nets, one per species and iteration, that change orbitals.",
            ),
            section(
                "fitting_net", net([32, 32], "silu_like"), doc="The net from the features of a point to the density."
            ),
            key(
                "field",
                bool,
                False,
                "Atoms and points see the uniform electric field; needed for target 'response'.",
            ),
            *standardize_and_vacuum(
                "Shift and scale orbitals' sums and features with constants from the training data; false: the paper."
            ),
        ],
        doc="FIREANN-ED: embedded atom densities with recursion, and an electric field (Feng, Zhang, Jiang).",
    )


def check(model: dict, fail) -> None:
    """Relations between the family's keys. `fail(path, message)` raises."""
    if model["target"] == "response":
        if not model["field"]:
            fail("model/field", "must be true for target 'response', the change of the density by the field")
        if model["vacuum"] != "zero":
            fail("model/vacuum", "must be 'zero' for target 'response'")
    d = model["descriptor"]
    if d["soft"] == 0 and d["direction"] == "unit":
        fail("model/descriptor/soft", "must be positive with direction 'unit', which has no value on a nucleus")
