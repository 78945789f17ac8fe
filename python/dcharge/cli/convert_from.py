"""`dcharge convert-from`: another program's model -> frozen.pth."""

from __future__ import annotations

FORMATS = ("deepdft", "deepmd")
HELP = (
    "Make a frozen model of another program's. deepmd: a model of the pseudo-atom recipe (type X, se_e2_a) that "
    "'dp convert-backend frozen.pth model.dp' wrote. deepdft: a run folder of DeepDFT's runner.py."
)


def add_arguments(parser) -> None:
    """Arguments of `dcharge convert-from`."""
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument("model", metavar="MODEL", help="the other program's model: a file, or deepdft's run folder")
    parser.add_argument(
        "-o", "--output", default="frozen.pth", metavar="FILE", help="frozen model (default: frozen.pth)"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float64"),
        help="of the frozen model (default: that of MODEL; deepdft: float64 also takes exact filters)",
    )
    deepdft = parser.add_argument_group("deepdft")
    deepdft.add_argument(
        "--type-map",
        nargs="+",
        default=[],
        metavar="SYMBOL",
        help="species of the model (default: those that MODEL's optimizer state says were trained)",
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


def run(args) -> None:
    """Convert."""
    from ..errors import InputError
    from ..foreign.convert import convert_from

    options = {"precision": args.precision}
    if args.format == "deepmd":
        options |= {"interpolate": args.interpolate, "systems": args.system}
        foreign = {"--type-map": args.type_map}
    else:
        options["type_map"] = args.type_map
        foreign = {"--interpolate": args.interpolate, "--system": args.system}
    for name, value in foreign.items():
        if value:
            raise InputError(f"{name}: not an option of the format {args.format}")
    if args.system and not args.interpolate:
        raise InputError("--system: says where --interpolate is measured, which is not given")
    convert_from(args.format, args.model, args.output, **options)
