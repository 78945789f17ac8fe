"""`dcharge freeze`: checkpoint -> frozen.pth."""

from __future__ import annotations

HELP = "Make a frozen model of a checkpoint: configuration, weights and provenance in one file without code."


def add_arguments(parser) -> None:
    """Arguments of `dcharge freeze`."""
    parser.add_argument(
        "-c",
        "--checkpoint",
        default=".",
        metavar="CKPT",
        help="checkpoint, or folder with the file 'checkpoint' (default: this folder)",
    )
    parser.add_argument(
        "-o", "--output", default="frozen.pth", metavar="FILE", help="frozen model (default: frozen.pth)"
    )


def run(args) -> None:
    """Freeze."""
    from ..freeze import freeze

    freeze(args.checkpoint, args.output)
