"""The section `training/sampler`: which grid points a model is trained on."""

from __future__ import annotations

from itertools import pairwise

from dargs import Argument

from .tree import FRACTION, INSIDE_UNIT, POSITIVE, POSITIVE_INTEGER, Rule, by_type, choice, key, one_of, section

SHELLS = Rule(
    lambda v: len(v) > 0 and v[0] > 0 and all(a < b for a, b in pairwise(v)),
    "a list of one or more positive, increasing numbers",
    {"minItems": 1, "items": {"type": "number", "exclusiveMinimum": 0}},
)
QUANTILE = Rule(
    lambda v: v is None or 0 < v < 1, "a number between 0 and 1", {"exclusiveMinimum": 0, "exclusiveMaximum": 1}
)
WIDTH = Rule(lambda v: v is None or v > 0, "a positive number", {"exclusiveMinimum": 0})
THRESHOLD = Rule(lambda v: 1e-10 <= v < 1, "a number from 1e-10 to below 1", {"minimum": 1e-10, "exclusiveMaximum": 1})


def plain_samplers(points: int) -> list[Argument]:
    """Samplers that look at the density alone; `points` is the default of points_per_frame."""
    words = "Points drawn from every frame; all where it has fewer."
    per_frame = key("points_per_frame", int, points, words, POSITIVE_INTEGER)
    return [
        choice(
            "stratified",
            [
                per_frame,
                key(
                    "shells",
                    list[float],
                    [0.25, 0.7],
                    "Distances to the nearest nucleus in Angstrom that part the points.",
                    SHELLS,
                ),
                key(
                    "near_fraction", float, 0.25, "Share of the points within the shells, equally divided.", INSIDE_UNIT
                ),
            ],
            "A share of the points lies near nuclei, where the density varies most and grid points are few.",
        ),
        choice("random", [per_frame], "Uniform, without replacement."),
        choice(
            "targeted",
            [
                per_frame,
                key(
                    "sigma",
                    [float, None],
                    None,
                    "Width in Angstrom^3/e: probability ~ exp(-1/(2 sigma^2 rho^2)), half of the largest one at "
                    "1/(1.177 sigma). null: 30 for densities; for responses 1/(1.177 q), with q the `quantile` of a "
                    "frame's absolute response.",
                    WIDTH,
                ),
                key(
                    "quantile",
                    [float, None],
                    None,
                    "The share of points with a response below q; null: 0.7. For responses, without sigma.",
                    QUANTILE,
                ),
                key(
                    "uniform_share",
                    float,
                    0.2,
                    "Share of the points drawn uniformly, from those that are not drawn by the density; with 0 some "
                    "regions are never seen.",
                    FRACTION,
                    alias=["uniform_ratio"],
                ),
                key("max_weight", float, 50.0, "Largest importance weight, in units of the mean.", POSITIVE),
            ],
            "By the density: vacuum is rarely drawn.",
        ),
        choice(
            "inequivalent",
            [
                key(
                    "points_per_frame",
                    int,
                    min(points, 1000),
                    "Most points of every frame; where there are more inequivalent ones, as many of them at random.",
                    POSITIVE_INTEGER,
                ),
                key(
                    "spacing",
                    float,
                    0.5,
                    "Distance of the sub-grid's points along each axis in Angstrom, about; not below the grid's.",
                    POSITIVE,
                ),
                key("symprec", float, 0.01, "How far atoms may be off their symmetric places, in Angstrom.", POSITIVE),
            ],
            "One point of every set that the crystal's symmetry maps onto each other, on a sub-grid; its importance "
            "weight is the size of the set (`loss/weights` importance makes use of it). Needs spglib.",
        ),
    ]


def independent() -> Argument:
    """The sampler that looks at a model's features."""
    candidates = section(
        "candidates",
        variant=by_type(*plain_samplers(2000), default="targeted", doc="The rule."),
        doc="Where the sampler `independent` takes its points from.",
    )
    words = (
        "Most points kept of every training frame, at the end of the last cycle; fewer where features are dependent."
    )
    return choice(
        "independent",
        [
            key("points_per_frame", int, 100, words, POSITIVE_INTEGER),
            key(
                "threshold",
                float,
                1e-2,
                "A candidate is kept if the distance of its features to the span of those kept before, over their "
                "length, exceeds this.",
                THRESHOLD,
            ),
            key(
                "order",
                str,
                "random",
                "random: candidates are tried in random order; pivoted: the farthest one next.",
                one_of("random", "pivoted"),
            ),
            key(
                "rounds",
                int,
                1,
                "Passes over the candidates, each against an empty span, until there are enough points: one pass keeps "
                "at most as many as there are features.",
                POSITIVE_INTEGER,
            ),
            key(
                "cycles",
                int,
                1,
                "Times that points are chosen, with the model so far, at equal distances of numb_steps.",
                POSITIVE_INTEGER,
            ),
            key(
                "accumulate",
                bool,
                True,
                "Each cycle adds an equal share of the points to those at hand; false: it replaces them all.",
            ),
            candidates,
        ],
        "Points whose features in the model at hand are linearly independent; the first ones are chosen by the "
        "untrained model.",
    )


def fresh() -> Argument:
    """The sampler that keeps no points."""
    return choice(
        "fresh",
        [
            key(
                "pool",
                int,
                20,
                "Frames whose whole grids are in memory (all where there are fewer); a step takes its frames from "
                "these.",
                POSITIVE_INTEGER,
            ),
            key(
                "rotate",
                int,
                10,
                "Steps after which the next frame, read meanwhile, takes the place of the oldest one.",
                POSITIVE_INTEGER,
            ),
        ],
        "Uniform points of the whole grid with replacement, drawn anew at every step: as DeepDFT trains. "
        "Validation takes 5000 points of a frame.",
    )


def sampler() -> Argument:
    """The `training/sampler` section."""
    kinds = by_type(*plain_samplers(20000), independent(), fresh(), default="stratified", doc="The rule.")
    return section("sampler", variant=kinds, doc="Which grid points of a frame are trained on.")


def check_sampler(sampler: dict, fail, path: str) -> None:
    """Relations between the keys of a sampler's section at `path`."""
    if sampler["type"] == "targeted" and sampler["sigma"] is not None and sampler["quantile"] is not None:
        fail(f"{path}/quantile", "sigma is given, which it would choose; give one of the two")
    if sampler["type"] != "independent":
        return
    check_sampler(sampler["candidates"], fail, f"{path}/candidates")
    points, candidates = sampler["points_per_frame"], sampler["candidates"]["points_per_frame"]
    if points > candidates:
        fail(f"{path}/points_per_frame", f"at most candidates/points_per_frame ({candidates}) expected, {points} given")
    if sampler["accumulate"] and points < sampler["cycles"]:
        fail(f"{path}/cycles", f"at most points_per_frame ({points}) expected, {sampler['cycles']} given")
