"""`dcharge convert-from`: another program's model -> frozen.pth."""

from __future__ import annotations

FORMATS = ("deepmd",)
HELP = (
    "Make a frozen model of another program's. deepmd: a model of the pseudo-atom recipe (type X, se_e2_a) that "
    "'dp convert-backend frozen.pth model.dp' wrote."
)


def add_arguments(parser) -> None:
    """Arguments of `dcharge convert-from`."""
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument("model", metavar="MODEL", help="the other program's model")
    parser.add_argument(
        "-o", "--output", default="frozen.pth", metavar="FILE", help="frozen model (default: frozen.pth)"
    )
    deepmd = parser.add_argument_group("deepmd")
    deepmd.add_argument(
        "--interpolate",
        action="store_true",
        help="interpolate the embedding net in the distance, for the fast kernels; the density stays within 1e-5 of "
        "its maximum, from 0.3 Angstrom around the nuclei on, or it is an error",
    )
    deepmd.add_argument(
        "--system",
        nargs="+",
        default=[],
        metavar="STRUCTURE",
        help="structure files where --interpolate is measured (default: random atoms)",
    )
    deepmd.add_argument(
        "--precision", choices=("float32", "float64"), help="of the frozen model (default: that of MODEL)"
    )


def run(args) -> None:
    """Convert."""
    from ..errors import InputError
    from ..foreign.convert import convert_from

    if args.system and not args.interpolate:
        raise InputError("--system: says where --interpolate is measured, which is not given")
    convert_from(
        args.format,
        args.model,
        args.output,
        interpolate=args.interpolate,
        systems=args.system,
        precision=args.precision,
    )
