"""`dcharge sample`: densities -> the points that a sampler chooses."""

from __future__ import annotations

from .shared import add_device, add_surroundings, natural, number, positive_int

HELP = (
    "Choose points of densities and write them with their weights as point data, to train on in place of the "
    "densities. Samplers as in training/sampler of the input (docs/input.md)."
)
# option -> key of the sampler, and of its candidates where the sampler is 'independent'
OPTIONS = {"points": "points_per_frame", "threshold": "threshold", "order": "order", "rounds": "rounds"}
PLAIN = {k: k for k in ("sigma", "quantile", "uniform_share", "max_weight", "shells", "near_fraction",
                           "spacing", "symprec")}  # fmt: skip
CANDIDATES = {"candidates": "type", "candidate_points": "points_per_frame"}


def add_arguments(parser) -> None:
    """Arguments of `dcharge sample`."""
    parser.add_argument("source", nargs="+", metavar="SRC", help="densities to read")
    parser.add_argument("target", metavar="DST", help="folder of point data to write")
    parser.add_argument(
        "--sampler",
        default="stratified",
        choices=("stratified", "random", "targeted", "inequivalent", "independent"),
        help="the rule (default: stratified)",
    )
    parser.add_argument(
        "-n",
        "--points",
        type=positive_int,
        metavar="N",
        help="points of every frame (default: 20000, inequivalent 1000, independent 100)",
    )
    parser.add_argument("--seed", type=natural, default=1, metavar="S", help="seed of the choice (default: 1)")
    group = parser.add_argument_group("stratified")
    group.add_argument("--shells", nargs="+", type=number, metavar="R", help="radii in Angstrom (default: 0.25 0.7)")
    group.add_argument("--near-fraction", type=number, metavar="X", help="share within the shells (default: 0.25)")
    group = parser.add_argument_group("targeted")
    group.add_argument(
        "--sigma", type=number, metavar="S", help="Angstrom^3/e (default: 30, for a response from its --quantile)"
    )
    group.add_argument("--quantile", type=number, metavar="X", help="of a frame's |response| (default: 0.7)")
    group.add_argument("--uniform-share", type=number, metavar="X", help="share drawn uniformly (default: 0.2)")
    group.add_argument("--max-weight", type=number, metavar="W", help="largest weight over the mean (default: 50)")
    group = parser.add_argument_group("inequivalent", "by symmetry; needs spglib")
    group.add_argument("--spacing", type=number, metavar="H", help="of the sub-grid, Angstrom (default: 0.5)")
    group.add_argument(
        "--symprec", type=number, metavar="D", help="tolerance of the symmetry, Angstrom (default: 0.01)"
    )
    group = parser.add_argument_group("independent", "of the candidates of another sampler, with its options")
    group.add_argument("-m", "--model", metavar="FILE", help="frozen model whose features are compared")
    group.add_argument("--threshold", type=number, metavar="T", help="smallest independent part (default: 0.01)")
    group.add_argument("--order", choices=("random", "pivoted"), help="of the candidates (default: random)")
    group.add_argument("--rounds", type=positive_int, metavar="N", help="passes over the candidates (default: 1)")
    group.add_argument(
        "--candidates",
        choices=("stratified", "random", "targeted", "inequivalent"),
        help="their sampler (default: targeted)",
    )
    group.add_argument(
        "--candidate-points", type=positive_int, metavar="N", help="candidates of every frame (default: 2000)"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="of the densities written")
    add_device(parser)
    add_surroundings(parser)


def section(args) -> dict:
    """The sampler's section of an input, defaults filled; InputError names the option that is wrong."""
    from ..config import normalize_sampler
    from ..errors import InputError

    def given(table):
        return {key: getattr(args, name) for name, key in table.items() if getattr(args, name) is not None}

    out, inner = given(OPTIONS), given(CANDIDATES)
    if args.sampler == "independent":
        out["candidates"] = inner | given(PLAIN)
    elif inner:
        name = next(name for name, key in CANDIDATES.items() if key in inner)
        raise InputError(f"--{name.replace('_', '-')}: only with --sampler independent")
    else:
        out |= given(PLAIN)

    def fail(path, message):
        key = path[-1] if isinstance(path, tuple) else path.split("/")[-1]
        table = CANDIDATES if "candidates" in path else OPTIONS
        name = next((name for name, k in {**PLAIN, **table}.items() if k == key), key)
        message = message.replace("candidates/points_per_frame", "--candidate-points")
        raise InputError(f"--{name.replace('_', '-')}: {message}")

    return normalize_sampler({"type": args.sampler, **out}, fail)


def run(args) -> None:
    """Sample."""
    chosen = section(args)
    from ..sample import sample

    asked = {"--points": args.points, "--candidate-points": args.candidate_points}
    sample(
        args.source,
        args.target,
        chosen,
        model=args.model,
        seed=args.seed,
        dtype=args.dtype,
        exactly={option: n for option, n in asked.items() if n is not None},
        pbc=args.pbc,
        field=args.field,
        device=args.device,
    )
