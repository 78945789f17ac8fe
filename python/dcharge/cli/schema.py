"""`dcharge schema`: what an input file may hold."""

from __future__ import annotations

HELP = "Print the JSON schema of the training input, or its reference page."


def add_arguments(parser) -> None:
    """Arguments of `dcharge schema`."""
    parser.add_argument("--markdown", action="store_true", help="the reference page (docs/input.md) instead")


def run(args) -> None:
    """Print."""
    import json
    import sys

    from ..config import json_schema, markdown

    sys.stdout.write(markdown() if args.markdown else json.dumps(json_schema(), indent=2) + "\n")
