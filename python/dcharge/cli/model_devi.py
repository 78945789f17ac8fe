"""`dcharge model-devi`: several models and a trajectory -> how much they disagree, frame by frame."""

from __future__ import annotations

from ..errors import InputError
from .shared import add_device, add_models, add_surroundings, add_type_map, natural, positive, positive_int

HELP = (
    "Standard deviation of the densities of several models (one input, other seeds) along trajectories. The frames "
    "with the largest deviation are those that a further DFT calculation teaches most."
)


def add_arguments(parser) -> None:
    """Arguments of `dcharge model-devi`."""
    add_models(parser, "two or more are needed here")
    parser.add_argument(
        "-s",
        "--system",
        nargs="+",
        required=True,
        metavar="PATH",
        help="trajectories, structures or densities: all that predict takes",
    )
    parser.add_argument(
        "-o", "--output", default="model_devi.out", metavar="FILE", help="table (default: model_devi.out)"
    )
    points = parser.add_mutually_exclusive_group()
    points.add_argument(
        "--points", type=positive_int, metavar="N", help="random points of every frame, uniform in its cell (5000)"
    )
    points.add_argument("--spacing", type=positive, metavar="H", help="instead: a whole grid, spacing in Angstrom")
    parser.add_argument("--seed", type=natural, default=1, help="of the random points (default: 1)")
    parser.add_argument("-f", "--every", type=positive_int, default=1, metavar="N", help="every N-th frame")
    parser.add_argument("--top", type=natural, default=10, metavar="N", help="frames that are printed (default: 10)")
    parser.add_argument(
        "--by",
        choices=("max_devi", "avg_devi", "rel_devi", "atom_devi"),
        default="atom_devi",
        help="what the frames are ranked by (default: atom_devi)",
    )
    parser.add_argument(
        "--restart", action="store_true", help="continue an interrupted run: take over the rows in FILE.part"
    )
    add_type_map(parser)
    add_device(parser)
    add_surroundings(parser)


def run(args) -> None:
    """Model deviation."""
    from ..model_devi import model_devi

    if args.model is None:
        raise InputError("model-devi: two models or more expected: -m a.pth b.pth c.pth")
    model_devi(
        args.model,
        args.system,
        args.output,
        points=args.points,
        spacing=args.spacing,
        seed=args.seed,
        every=args.every,
        top=args.top,
        by=args.by,
        restart=args.restart,
        type_map=args.type_map,
        pbc=args.pbc,
        field=args.field,
        device=args.device,
    )
