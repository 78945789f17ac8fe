"""The keys of `model` for type cgcnn, most of which cgcnn_probe has, too."""

from __future__ import annotations

from dargs import Argument

from .tree import POSITIVE, WIDTHS, between, choice, key, one_of, section

MOST_GAUSSIANS = 1000  # each is an input of the convolutions at every edge


def shared(graph: str, edges: str) -> list[Argument]:
    """Keys of cgcnn and cgcnn_probe; what `rcut` and `n_neighbors` mean in the family."""
    return [
        key("rcut", float, 4.0, graph, POSITIVE),
        key(
            "n_neighbors",
            int,
            12,
            edges,
            between(1, 1000),
        ),
        key("n_features", int, 64, "Width of a node's state.", between(1, 4096)),
        key("n_layers", int, 3, "Graph convolutions.", between(1, 64)),
        key(
            "gaussian_step",
            float,
            0.2,
            "Distance and width of the Gaussians of an edge's length, from 0 to 2 rcut, Angstrom.",
            POSITIVE,
        ),
        section(
            "fitting_net",
            [key("neuron", list[int], [128, 128], "Widths of the hidden layers.", WIDTHS)],
            doc="The net from the mean of a graph to the density.",
        ),
        key(
            "species",
            str,
            "elements",
            "First states of the nodes: elements: 92 fixed zeros and ones from the periodic table and a linear "
            "layer; learned: a state for every species.",
            one_of("elements", "learned"),
        ),
        key(
            "probe",
            str,
            "helium",
            "With species elements, the numbers of the point itself: helium: fixed, those of He, as in the public "
            "code; learned: they begin as those of He.",
            one_of("helium", "learned"),
        ),
        key(
            "vacuum",
            str,
            "paper",
            "paper: where no atom is within rcut the density is the network's constant; zero: it vanishes exactly.",
            one_of("paper", "zero"),
        ),
    ]


def arguments() -> Argument:
    """The keys this family adds to the `model` section."""
    return choice(
        "cgcnn",
        [
            *shared(
                "Radius in Angstrom within which atoms belong to a point's graph.",
                "Edges of a node, to its nearest others; those as far as the last one are kept, too.",
            ),
            key(
                "pool",
                str,
                "last",
                "What is averaged over the nodes of a graph: last: their states after the last convolution, as in the "
                "public code; all_layers: after every one and before the first, as the paper's Eq. 2.",
                one_of("last", "all_layers"),
            ),
        ],
        doc="CGCNN on the local environment of every point, which is a node of the graph (Gong et al.).",
    )


def check(model: dict, fail) -> None:
    """Relations between the family's keys. `fail(path, message)` raises."""
    if model["target"] == "response":
        text = f"'response' needs a family that sees the electric field; {model['type']} learns 'density' only"
        fail("model/target", text)
    if model["gaussian_step"] > model["rcut"]:
        fail("model/gaussian_step", f"at most rcut ({model['rcut']:g}) expected, {model['gaussian_step']:g} given")
    least = 2 * model["rcut"] / MOST_GAUSSIANS
    if model["gaussian_step"] < least:
        text = f"at least rcut/{MOST_GAUSSIANS // 2} ({least:g}) expected, {model['gaussian_step']:g} given"
        fail("model/gaussian_step", text)
    if "He" in model["type_map"] and (model["species"], model["probe"]) == ("elements", "helium"):
        fail("model/probe", "a point would have the numbers of the atoms He; 'learned' expected (or species 'learned')")
