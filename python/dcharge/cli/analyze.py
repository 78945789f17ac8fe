"""`dcharge analyze`: densities and responses -> derived quantities."""

from __future__ import annotations

from ..errors import InputError
from .shared import add_derivatives, add_device, add_surroundings, positive, positive_int

HELP = (
    "Derived quantities of densities and of responses to an electric field: planar average, transferred charge, "
    "potential, dipole moment, gradient, Laplacian. A response is a file that 'dcharge convert --minus' or 'predict' "
    "wrote, or a density "
    "with --minus REF. With -m the files are structures, and a model gives the densities and their derivatives."
)


def add_arguments(parser) -> None:
    """Arguments of `dcharge analyze`; every observable brings its own."""
    from ..analysis import observables

    parser.add_argument("files", nargs="+", metavar="FILE", help="densities or responses on a grid; structures with -m")
    parser.add_argument("-m", "--model", metavar="MODEL", help="frozen model that predicts the densities of structures")
    grid = parser.add_mutually_exclusive_group()
    grid.add_argument("--grid", nargs=3, type=positive_int, metavar=("N1", "N2", "N3"), help="its grid: points")
    grid.add_argument("--spacing", type=positive, metavar="H", help="its grid: largest spacing in Angstrom")
    grid.add_argument("--like", metavar="REF", help="its grid: that of a density file")
    add_device(parser)
    group = parser.add_argument_group("observables")
    for flag, words in {f: w for module in observables() for f, w in module.OPTIONS.items()}.items():
        group.add_argument(flag, **words)  # two observables may share an option
    add_derivatives(parser, "default: autograd with -m, else fft")
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
        help="write .csv, .json, a picture (.png, .pdf, .svg) or fields (.cube); may be given several times",
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
        source=predicted(args),
        derivatives=args.derivatives,
    )


def predicted(args):
    """Where densities come from with -m; None without."""
    given = {"shape": args.grid, "spacing": args.spacing, "like": args.like}
    asked = [flag for flag, x in zip(("--grid", "--spacing", "--like"), given.values(), strict=True) if x is not None]
    if args.model is None:
        if asked:
            raise InputError(f"{asked[0]}: belongs to -m, the grid of a prediction")
        return None
    if not asked:
        raise InputError("analyze -m: the grid of the prediction expected, --spacing H, --grid N1 N2 N3 or --like FILE")
    from ..derivatives import PredictedDensities
    from ..io import read
    from ..predict import load

    if args.like is not None:
        given["like"] = read(args.like, pbc=args.pbc)
    return PredictedDensities(load(args.model, args.device), pbc=args.pbc, field=args.field, **given)
