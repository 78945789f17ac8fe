"""The sections on how a model is trained: `optimizer`, `learning_rate`, `loss` and `training`."""

from __future__ import annotations

from itertools import pairwise

from dargs import Argument

from ..device import DEVICES, is_device
from ..errors import log
from .tree import (
    FRACTION,
    INSIDE_UNIT,
    NOT_NEGATIVE,
    NOT_NEGATIVE_INTEGER,
    POSITIVE,
    POSITIVE_INTEGER,
    WORD,
    Rule,
    by_type,
    choice,
    key,
    listing,
    one_of,
    section,
)

BETAS = Rule(
    lambda v: len(v) == 2 and all(0 <= b < 1 for b in v),
    "two numbers from 0 to below 1",
    {"minItems": 2, "maxItems": 2, "items": {"type": "number", "minimum": 0, "exclusiveMaximum": 1}},
)
SHELLS = Rule(
    lambda v: len(v) > 0 and v[0] > 0 and all(a < b for a, b in pairwise(v)),
    "a list of one or more positive, increasing numbers",
    {"minItems": 1, "items": {"type": "number", "exclusiveMinimum": 0}},
)
WIDTH = Rule(lambda v: v is None or v > 0, "a positive number", {"exclusiveMinimum": 0})
THRESHOLD = Rule(lambda v: 1e-10 <= v < 1, "a number from 1e-10 to below 1", {"minimum": 1e-10, "exclusiveMaximum": 1})
DEVICE = Rule(is_device, DEVICES, {"pattern": r"^(auto|cpu|cuda(:\d+)?)$"}, ("auto", "cpu", "cuda"))
PBC = Rule(
    lambda v: v is None or (len(v) == 3 and all(b in (0, 1) for b in v)),
    "a list of three, each true or false (or 1 or 0)",
    {"minItems": 3, "maxItems": 3, "items": {"enum": [True, False, 1, 0]}},
)
VECTOR = Rule(lambda v: v is None or len(v) == 3, "a list of three numbers", {"minItems": 3, "maxItems": 3})
AT_LEAST_ONE = Rule(lambda v: len(v) > 0, "a list of one or more systems", {"minItems": 1})

SYSTEM = (
    key("path", str, doc="File, folder or pattern; relative to the current folder.", rule=WORD),
    key(
        "pbc",
        [list[bool], list[int], None],
        None,
        "Periodic axes, in place of what the file says, e.g. [1, 1, 0].",
        PBC,
    ),
    key("field", [list[float], None], None, "Electric field in V/Angstrom, in place of what the file says.", VECTOR),
)


def optimizer() -> Argument:
    """The `optimizer` section."""
    betas = key("betas", list[float], [0.9, 0.999], "Decay of the running means of gradient and square.", BETAS)

    def decay(value):
        return key("weight_decay", float, value, "L2 penalty on the weights.", NOT_NEGATIVE)

    momentum = key("momentum", float, 0.9, "Share of the last step that is kept.", FRACTION)
    kinds = by_type(
        choice("adam", [betas, decay(0.0)], "Adam.", alias=["Adam"]),
        choice("adamw", [betas, decay(0.01)], "Adam with decoupled weight decay.", alias=["AdamW"]),
        choice("sgd", [momentum, decay(0.0)], "Stochastic gradient descent with momentum.", alias=["SGD"]),
        default="adam",
        doc="The algorithm.",
    )
    return section("optimizer", variant=kinds, doc="How the weights follow the gradient.")


def learning_rate() -> Argument:
    """The `learning_rate` section."""
    stop_lr = key("stop_lr", float, 1e-6, "Learning rate at the end.", POSITIVE)
    decay_steps = key(
        "decay_steps",
        int,
        5000,
        "Steps between two reductions: lr = start_lr rate^(step // decay_steps), rate such that stop_lr is reached "
        "at the end; lowered where it is not below numb_steps.",
        POSITIVE_INTEGER,
    )
    kinds = by_type(
        choice("exp", [stop_lr, decay_steps], "Exponential, in stairs, as in DeePMD-kit."),
        choice("cosine", [stop_lr], "Half a cosine from start_lr to stop_lr."),
        choice(
            "plateau",
            [
                key("factor", float, 0.5, "Factor of a reduction.", INSIDE_UNIT),
                key("patience", int, 10, "Evaluations or epochs without improvement.", POSITIVE_INTEGER),
                key(
                    "patience_unit",
                    str,
                    "evaluations",
                    "evaluations: of the validation error, every `disp_freq` steps; epochs: in which every "
                    "training point (with `frames_per_batch` every frame) is drawn once.",
                    one_of("evaluations", "epochs"),
                ),
                key("stop_lr", float, 1e-6, "Learning rate below which training ends.", POSITIVE),
            ],
            "Reduced when the validation error no longer falls.",
        ),
        choice(
            "step",
            [
                key("step_size", int, doc="Steps between two reductions.", rule=POSITIVE_INTEGER),
                key("gamma", float, 0.1, "Factor of a reduction.", INSIDE_UNIT),
            ],
            "Reduced by a factor at equal distances.",
        ),
        default="exp",
        doc="The schedule.",
    )
    return section(
        "learning_rate",
        [
            key("start_lr", float, 1e-3, "Learning rate at the beginning.", POSITIVE),
            key("warmup_steps", int, 0, "Steps of linear growth from zero to start_lr.", NOT_NEGATIVE_INTEGER),
        ],
        variant=kinds,
        doc="The learning rate as a function of the step.",
    )


def loss() -> Argument:
    """The `loss` section."""
    delta = key("delta", float, 0.01, "Error in e/Angstrom^3 where the parabola becomes a line.", POSITIVE)
    kinds = by_type(
        choice("mae", doc="Mean absolute error: what NMAE measures."),
        choice("mse", doc="Mean square error, ruled by the points next to nuclei."),
        choice("huber", [delta], "Square for small errors, absolute for large ones."),
        default="mae",
        doc="The function of the error.",
    )
    weights = key(
        "weights",
        str,
        "none",
        "none: every sampled point counts the same; importance: as the sampler's weights say, which makes the loss an "
        "unbiased estimate of its mean over the whole grid.",
        one_of("none", "importance"),
    )
    return section("loss", [weights], variant=kinds, doc="What is minimised.")


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
                key("quantile", float, 0.7, "The share of points with a response below q.", INSIDE_UNIT),
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


def sampler() -> Argument:
    """The `training/sampler` section."""
    kinds = by_type(*plain_samplers(20000), independent(), default="stratified", doc="The rule.")
    return section("sampler", variant=kinds, doc="Which grid points of a frame are trained on.")


def training() -> Argument:
    """The `training` section."""
    data = section(
        "training_data",
        [
            listing(
                "systems", SYSTEM, doc="Files or folders with densities, as strings or mappings.", rule=AT_LEAST_ONE
            ),
            key("batch_size", int, 4096, "Points of one step; all where there are fewer.", POSITIVE_INTEGER),
            key(
                "frames_per_batch",
                int,
                0,
                "Frames these points come from, encoded alone; 0: all.",
                NOT_NEGATIVE_INTEGER,
            ),
        ],
        doc="What is learned.",
        required=True,
    )
    validation = section(
        "validation_data",
        [
            listing(
                "systems",
                SYSTEM,
                [],
                "As in training_data; empty: none. As many points of a frame as in training, at least 2000, uniformly.",
            ),
            key("fraction", float, 0.0, "Share of the training points that is held out instead.", FRACTION),
        ],
        doc="What decides which checkpoint is the best one.",
    )
    return section(
        "training",
        [
            key(
                "numb_steps",
                int,
                doc="Number of training steps.",
                rule=POSITIVE_INTEGER,
                alias=["stop_batch", "numb_step", "num_steps", "num_step"],
            ),
            data,
            validation,
            sampler(),
            key("seed", int, 1, "Seed of all random numbers.", NOT_NEGATIVE_INTEGER),
            key("device", str, "auto", "auto: a GPU where there is one; the same as --device.", DEVICE),
            key("cache_gb", float, 2.0, "Memory in GB for precomputed features of the sampled points.", NOT_NEGATIVE),
            key(
                "ema",
                float,
                0.0,
                "Decay of an exponential moving average of the weights, e.g. 0.999; 0: off.",
                FRACTION,
            ),
            key(
                "max_minutes",
                float,
                0.0,
                "Wall time after which training ends in good order; the learning rate then falls with the time, so "
                "that it has reached its end; 0: no limit.",
                NOT_NEGATIVE,
            ),
            key("disp_file", str, "lcurve.out", "File of the learning curve.", WORD),
            key("disp_freq", int, 100, "Steps between two lines of it.", POSITIVE_INTEGER),
            key("save_freq", int, 1000, "Steps between two checkpoints.", POSITIVE_INTEGER),
            key("save_ckpt", str, "model.ckpt", "Prefix of the checkpoints.", WORD),
            key("max_ckpt_keep", int, 5, "Checkpoints that are kept.", POSITIVE_INTEGER),
        ],
        doc="Data, steps, output.",
        required=True,
    )


def check(config: dict, fail) -> None:
    """Relations between the sections. `fail(path, message)` raises. Lowers decay_steps, as DeePMD-kit does."""
    lr, steps = config["learning_rate"], config["training"]["numb_steps"]
    if lr.get("stop_lr", 0.0) > lr["start_lr"]:
        fail("learning_rate/stop_lr", f"at most start_lr ({lr['start_lr']:g}) expected, {lr['stop_lr']:g} given")
    if lr["warmup_steps"] and lr["warmup_steps"] >= steps:
        fail(
            "learning_rate/warmup_steps",
            f"fewer than training/numb_steps ({steps}) expected, {lr['warmup_steps']} given",
        )
    steps -= lr["warmup_steps"]
    if lr.get("decay_steps", 0) >= steps:
        lowered = 100 if steps // 10 > 100 else steps // 100 + 1
        log.info(
            f"learning_rate/decay_steps {lr['decay_steps']} leaves no decay in {steps} steps: lowered to {lowered}"
        )
        lr["decay_steps"] = lowered
    check_sampler(config["training"]["sampler"], fail, "training/sampler")
    cycles = config["training"]["sampler"].get("cycles", 1)
    if cycles > config["training"]["numb_steps"]:
        fail("training/sampler/cycles", f"at most training/numb_steps expected, {cycles} given")
    validation = config["training"]["validation_data"]
    if validation["systems"] and validation["fraction"]:
        fail("training/validation_data/fraction", "give systems or fraction, not both")
    if lr["type"] == "plateau" and not (validation["systems"] or validation["fraction"]):
        fail("learning_rate/type", "plateau follows the validation error: give training/validation_data")


def check_sampler(sampler: dict, fail, path: str) -> None:
    """Relations between the keys of a sampler's section at `path`."""
    if sampler["type"] != "independent":
        return
    points, candidates = sampler["points_per_frame"], sampler["candidates"]["points_per_frame"]
    if points > candidates:
        fail(f"{path}/points_per_frame", f"at most candidates/points_per_frame ({candidates}) expected, {points} given")
    if sampler["accumulate"] and points < sampler["cycles"]:
        fail(f"{path}/cycles", f"at most points_per_frame ({points}) expected, {sampler['cycles']} given")
