"""`dcharge analyze`: densities and responses -> derived quantities."""

from __future__ import annotations

from .shared import add_surroundings

HELP = (
    "Derived quantities of densities and of responses to an electric field: planar average, transferred charge, "
    "potential, dipole moment. A response is a file that 'dcharge convert --minus' or 'predict' wrote, or a density "
    "with --minus REF."
)


def add_arguments(parser) -> None:
    """Arguments of `dcharge analyze`; every observable brings its own."""
    from ..analysis import observables

    parser.add_argument("files", nargs="+", metavar="FILE", help="densities or responses on a grid")
    group = parser.add_argument_group("observables")
    for module in observables():
        for flag, words in module.OPTIONS.items():
            group.add_argument(flag, **words)
    parser.add_argument("--minus", metavar="REF", help="subtract the density of REF with the same atoms and grid")
    parser.add_argument(
        "--kind", choices=("density", "response"), help="what the values are, in place of what the files say"
    )
    parser.add_argument(
        "--reference", metavar="FILE", help="the same of the frame there with the same atoms, and the difference"
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write .csv, .json or a picture (.png, .pdf, .svg); may be given several times",
    )
    add_surroundings(parser)


def run(args) -> None:
    """Analyze."""
    from ..analysis import observables
    from ..analysis.report import analyze

    names = [flag.removeprefix("--").replace("-", "_") for m in observables() for flag in m.OPTIONS]
    analyze(
        args.files,
        {name: getattr(args, name) for name in names},
        minus=args.minus,
        kind=args.kind,
        reference=args.reference,
        pbc=args.pbc,
        field=args.field,
        outputs=args.output,
    )
