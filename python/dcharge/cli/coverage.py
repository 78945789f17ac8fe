"""`dcharge coverage`: training and test sets -> coordination environments of both."""

from __future__ import annotations

from ..errors import InputError
from .shared import add_device, add_surroundings, positive

HELP = (
    "Coordination environments of the atoms of two sets, per species, and those of the test set that training lacks: "
    "'dcharge coverage TRAIN TEST', or with several of either 'dcharge coverage TRAIN.. --test TEST..'. With -m the "
    "error of a model in every environment of the test set."
)


def add_arguments(parser) -> None:
    """Arguments of `dcharge coverage`."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="structures or densities: TRAIN TEST, or all training with --test"
    )
    parser.add_argument("--train", nargs="+", action="extend", default=[], metavar="PATH", help="training set")
    parser.add_argument("--test", nargs="+", action="extend", default=[], metavar="PATH", help="test set")
    parser.add_argument(
        "-m", "--model", metavar="FILE", help="frozen model; the test set then holds densities on grids"
    )
    parser.add_argument(
        "--scale",
        type=positive,
        default=1.25,
        metavar="X",
        help="atoms are bonded within X times the sum of their covalent radii (default: 1.25)",
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write .json or a picture (.png, .pdf, .svg); may be given several times",
    )
    add_device(parser)
    add_surroundings(parser)


def sets(args) -> tuple[list[str], list[str]]:
    """Paths of the training and of the test set; InputError where it is not clear which is which."""
    train, test, paths = list(args.train), list(args.test), list(args.paths)
    if paths and train:
        raise InputError(f"coverage: {paths[0]} belongs to neither --train nor --test")
    if not train and not test and len(paths) == 2:
        return paths[:1], paths[1:]
    train = train or paths
    if not train or not test:
        raise InputError(
            "coverage: a training and a test set expected: dcharge coverage TRAIN TEST, or with several of either "
            "dcharge coverage TRAIN.. --test TEST.."
        )
    return train, test


def run(args) -> None:
    """Compare."""
    train, test = sets(args)
    from ..coverage import coverage

    coverage(
        train,
        test,
        model=args.model,
        scale=args.scale,
        outputs=args.output,
        pbc=args.pbc,
        field=args.field,
        device=args.device,
    )
