"""`dcharge plot`: frozen model and a known density -> picture."""

from __future__ import annotations

from .shared import add_surroundings, natural

HELP = "One picture of a prediction: parity, and slices of the reference, the model and the error."


def add_arguments(parser) -> None:
    """Arguments of `dcharge plot`."""
    parser.add_argument(
        "-m", "--model", default="frozen.pth", metavar="FILE", help="frozen model (default: frozen.pth)"
    )
    parser.add_argument("-s", "--system", required=True, metavar="PATH", help="file or folder with a known density")
    parser.add_argument("-n", "--frame", type=natural, default=0, metavar="N", help="frame of the system (default: 0)")
    parser.add_argument("--axis", choices=("a", "b", "c"), default="c", help="cell vector the slice cuts (default: c)")
    parser.add_argument(
        "--laplacian", action="store_true", help="of the Laplacians of both densities, by Fourier transform of the grid"
    )
    parser.add_argument(
        "-o",
        "--output",
        default="density.png",
        metavar="FILE",
        help="picture, .png, .pdf or .svg (default: density.png)",
    )
    add_surroundings(parser)


def run(args) -> None:
    """Plot."""
    from ..plot import run

    run(
        args.model,
        args.system,
        frame=args.frame,
        axis="abc".index(args.axis),
        output=args.output,
        pbc=args.pbc,
        field=args.field,
        laplacian=args.laplacian,
    )
