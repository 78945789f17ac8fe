"""The `model` section: what all families share, and the table of families."""

from __future__ import annotations

from dargs import Argument

from . import cgcnn, cgcnn_probe, deep_charge, fireann, painn, schnet
from .tree import NOT_NEGATIVE, Rule, by_type, choice, key, one_of, section

# one entry per family: the module gives `arguments()` and `check(model, fail)`
FAMILIES = {
    "deep_charge": deep_charge,
    "fireann": fireann,
    "painn": painn,
    "schnet": schnet,
    "cgcnn": cgcnn,
    "cgcnn_probe": cgcnn_probe,
}

SYMBOLS = Rule(
    lambda v: len(v) > 0,
    "a list of one or more chemical symbols",
    {"minItems": 1, "uniqueItems": True, "items": {"type": "string", "pattern": "^[A-Z][a-z]?$"}},
)


def arguments() -> Argument:
    """The `model` section."""
    baseline = by_type(
        choice(
            "additive",
            [
                key(
                    "ridge",
                    float,
                    1e-4,
                    "Regularisation of the fit; grows with the order of the function.",
                    NOT_NEGATIVE,
                )
            ],
            "A spherical density for every species, fitted in closed form to the training points; "
            "the network learns the rest.",
        ),
        choice("none", doc="The network learns the whole density."),
        default="additive",
        doc="What is known before the network.",
    )
    return section(
        "model",
        [
            key("type_map", list[str], doc="Chemical symbols of the species the model knows.", rule=SYMBOLS),
            key("precision", str, "float32", "Floating point type of the network.", one_of("float32", "float64")),
            key(
                "target",
                str,
                "density",
                "density: the electron density; response: its change by the electric field, rho(E) - rho(0).",
                one_of("density", "response"),
            ),
            section(
                "baseline",
                variant=baseline,
                doc="The part of the density that is not learned by the network; none for target `response`.",
            ),
        ],
        variant=by_type(*(f.arguments() for f in FAMILIES.values()), doc="The family of models."),
        doc="What maps atoms and points to the density.",
        required=True,
    )


def prepared(given):
    """The section as given; a response without a word on the baseline has none, for it vanishes without field."""
    if isinstance(given, dict) and given.get("target") == "response" and "baseline" not in given:
        return {**given, "baseline": {"type": "none"}}
    return given


def check(model: dict, fail) -> None:
    """Relations between the keys of the section. `fail(path, message)` raises."""
    from ase.data import atomic_numbers, chemical_symbols

    from ..errors import nearest

    for i, symbol in enumerate(model["type_map"]):
        if symbol == "X":
            fail(f"model/type_map/{i}", "'X' is the pseudo-atom of grid points, not a species; remove it")
        if symbol not in atomic_numbers:
            hint = nearest(symbol, chemical_symbols[1:])
            fail(f"model/type_map/{i}", f"'{symbol}' is not a chemical symbol{hint}")
        if symbol in model["type_map"][:i]:
            fail(f"model/type_map/{i}", f"'{symbol}' is listed twice")
    if model["target"] == "response" and model["baseline"]["type"] != "none":
        fail(
            "model/baseline/type", "target 'response' needs baseline 'none', since the response vanishes without field"
        )
    FAMILIES[model["type"]].check(model, fail)
