"""The keys of `model` for type deep_charge, named as in DeePMD-kit."""

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

ACTIVATIONS = one_of("tanh", "gelu", "silu", "softplus", "sigmoid", "relu", "linear")
AXIS = Rule(
    lambda v: v is None or (len(v) > 0 and min(v) >= 1 if isinstance(v, list) else v >= 1),
    "a positive integer or a list of them",
    {"minimum": 1, "minItems": 1, "items": {"type": "integer", "minimum": 1}},
)
# columns for l = 0, 1, 2, 3 where the input does not say; the first also for `joint`
AXIS_PER_L = (16, 16, 8, 4)
SE_E2_A = (
    key("rcut", float, 6.5, "Cutoff radius in Angstrom: how far a point sees.", POSITIVE),
    key("rcut_smth", float, 0.0, "Radius in Angstrom where the smooth switch to zero at `rcut` begins.", NOT_NEGATIVE),
    key("neuron", list[int], [20, 40, 80], "Widths of the embedding net; the last one is M.", WIDTHS),
    key(
        "axis_neuron",
        [int, list[int], None],
        None,
        "Columns of the second factor of the Gram matrix, at most M; with `gram` per_l one for all l or a list, "
        f"one for each l. null: {AXIS_PER_L[0]}, with per_l {list(AXIS_PER_L)} up to l_max, and M where that is less.",
        AXIS,
        alias=["n_axis_neuron"],
    ),
    key(
        "n_radial",
        int,
        20,
        "Number of Chebyshev functions of the distance in which embedding and baseline are expanded. More of them "
        "resolve less than the grid does next to a nucleus, and spike there.",
        between(2, 128),
    ),
    key("l_max", int, 1, "Largest angular order of the environment matrix; 1 is DeepPot-SE.", between(0, 3)),
    key(
        "gram",
        str,
        "joint",
        "joint: one Gram matrix, summed over l, as in DeepPot-SE (needs `l_max` <= 1); per_l: one for each l.",
        one_of("joint", "per_l"),
    ),
    key(
        "soft",
        float,
        0.5,
        "Softening length in Angstrom: 1/r becomes 1/sqrt(r^2 + soft^2), so that the density is smooth at a nucleus.",
        NOT_NEGATIVE,
    ),
    key(
        "env_protection",
        float,
        0.0,
        "With `soft` 0 and the exact embedding: 1/r becomes 1/(r + env_protection), Angstrom, as in DeePMD-kit.",
        NOT_NEGATIVE,
    ),
    key("resnet_dt", bool, False, "Trainable factors on the residual layers of the embedding net."),
    key(
        "set_davg_zero",
        bool,
        True,
        "false: the mean of s over the training points is subtracted before the net, and neighbours that a point has "
        "fewer than another count as s = 0, as DeePMD-kit does by default (models converted from it have it).",
    ),
    key("activation_function", str, "tanh", "Activation of the embedding net.", ACTIVATIONS),
)
FITTING_NET = (
    key("neuron", list[int], [200, 200, 200], "Widths of the hidden layers.", WIDTHS, alias=["n_neuron"]),
    key("resnet_dt", bool, True, "Trainable factors on the residual layers."),
    key("activation_function", str, "tanh", "Activation of the fitting net.", ACTIVATIONS),
)


def arguments() -> Argument:
    """The keys this family adds to the `model` section."""
    return choice(
        "deep_charge",
        [
            section(
                "descriptor",
                variant=by_type(
                    choice("se_e2_a", SE_E2_A, "DeepPot-SE, radial and angular, two-body embedding.", alias=["se_a"]),
                    default="se_e2_a",
                    doc="Which description of a point's surroundings.",
                ),
                doc="What a grid point sees of the atoms around it.",
            ),
            section("fitting_net", FITTING_NET, doc="The net from the descriptor to the density."),
            key(
                "embedding",
                str,
                "interpolated",
                "interpolated: the embedding net is evaluated on `n_radial` nodes and interpolated between them "
                "(fast; the model is the interpolant, in training and in inference); exact: at every pair.",
                one_of("interpolated", "exact"),
            ),
            *standardize_and_vacuum(
                "Shift and scale the features with constants from the training points; the embedding then has, beside "
                "the net, a trainable table of Chebyshev coefficients and a trainable shift."
            ),
        ],
        doc="Deep Charge: DeepPot-SE descriptor at the grid points and a fitting net (PRB 108, 235159).",
    )


def check(model: dict, fail) -> None:
    """Relations between the family's keys. `fail(path, message)` raises. Fills in axis_neuron where it is null."""
    if model["target"] == "response":
        text = "'response' needs a family that sees the electric field; Deep Charge learns 'density' only"
        fail("model/target", text)
    d = model["descriptor"]
    if d["rcut_smth"] >= d["rcut"]:
        fail("model/descriptor/rcut_smth", f"must be below rcut ({d['rcut']:g}), {d['rcut_smth']:g} given")
    if d["gram"] == "joint" and d["l_max"] > 1:
        fail("model/descriptor/gram", f"joint needs l_max <= 1 ({d['l_max']} given); use 'per_l'")
    if d["axis_neuron"] is None:
        most = [min(n, d["neuron"][-1]) for n in AXIS_PER_L[: d["l_max"] + 1]]
        d["axis_neuron"] = most if d["gram"] == "per_l" else most[0]
    axis = d["axis_neuron"]
    if isinstance(axis, list):
        if d["gram"] == "joint":
            fail("model/descriptor/axis_neuron", "a list needs gram 'per_l'; with 'joint' an integer expected")
        if len(axis) != d["l_max"] + 1:
            fail(
                "model/descriptor/axis_neuron",
                f"{d['l_max'] + 1} integers expected, one for each l from 0 to l_max; {len(axis)} given",
            )
    largest = max(axis) if isinstance(axis, list) else axis
    if largest > d["neuron"][-1]:
        fail(
            "model/descriptor/axis_neuron",
            f"at most the last width of neuron ({d['neuron'][-1]}) expected, {largest} given",
        )
    if model["embedding"] == "exact":
        if model["standardize"]:
            fail("model/standardize", "must be false with embedding 'exact'")
    if not d["set_davg_zero"]:
        for name, wanted in (("embedding", "exact"), ("vacuum", "paper")):
            if model[name] != wanted:
                fail("model/descriptor/set_davg_zero", f"false needs {name} '{wanted}'; '{model[name]}' given")
    if d["env_protection"] > 0 and (d["soft"] > 0 or model["embedding"] != "exact"):
        fail("model/descriptor/env_protection", "needs embedding 'exact' and soft 0; otherwise 'soft' protects 1/r")
    if model["embedding"] == "interpolated" and d["soft"] == 0:
        fail("model/descriptor/soft", "must be positive with embedding 'interpolated'; 0 needs embedding 'exact'")
