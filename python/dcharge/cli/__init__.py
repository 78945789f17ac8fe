"""The command `dcharge`: one file per subcommand, each with HELP, add_arguments(parser) and run(args)."""

from .main import main

__all__ = ["main"]
