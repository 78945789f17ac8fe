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


def run(args) -> None:
    """Convert."""
    from ..foreign.convert import convert_from

    convert_from(args.format, args.model, args.output)
