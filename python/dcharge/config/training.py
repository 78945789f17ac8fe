"""The sections on how a model is trained: `optimizer`, `learning_rate`, `loss` and `training`."""

from __future__ import annotations

from dargs import Argument

from ..device import DEVICES, is_device
from ..errors import log
from .sampler import check_sampler, sampler
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
    key(
        "frames",
        [list[int], str, None],
        None,
        "Numbers of the frames to take, from 0 in the order of the files and of the members of a tar file; or "
        "FILE.json:KEY, where such a list stands (datasplits.json:train of DeepDFT). null: all.",
    ),
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
                "gradient_max_norm",
                float,
                0.0,
                "Norm of the gradient of all weights together above which it is shortened to this norm; 0: no limit.",
                NOT_NEGATIVE,
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
    if not config["model"].get("field"):
        for part in ("training_data", "validation_data"):
            for i, system in enumerate(config["training"][part]["systems"]):
                if any(system["field"] or ()):
                    text = f"a model that sees the electric field expected; {config['model']['type']} here does not"
                    fail(f"training/{part}/systems/{i}/field", text)
    validation = config["training"]["validation_data"]
    if validation["systems"] and validation["fraction"]:
        fail("training/validation_data/fraction", "give systems or fraction, not both")
    if config["training"]["sampler"]["type"] == "fresh" and validation["fraction"]:
        fail(
            "training/validation_data/fraction",
            "sampler 'fresh' keeps no points that a share could be held out of; give validation_data/systems",
        )
    if lr["type"] == "plateau" and not (validation["systems"] or validation["fraction"]):
        fail("learning_rate/type", "plateau follows the validation error: give training/validation_data")
