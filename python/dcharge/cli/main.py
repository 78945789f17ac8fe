"""Parser, error policy and exit codes of the command `dcharge`.

0 success, 1 an error that is printed as one line, 2 wrong usage, 143 ended by SIGTERM. Tracebacks only with `-v DEBUG`.
Nothing heavy is imported here: a subcommand's module is loaded when that subcommand runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from importlib import import_module

from .. import __version__
from ..errors import InputError, nearest
from ..interrupt import tidy_end
from .shared import add_logging, logging_as

COMMANDS = {
    "train": "train a model on DFT densities",
    "freeze": "make a frozen model of a checkpoint",
    "test": "errors of a frozen model on known densities",
    "predict": "densities of structures on a grid",
    "model-devi": "deviation of several models along trajectories, to choose frames for DFT",
    "coverage": "coordination environments of a test set that training has seen, and has not",
    "sample": "choose points of densities, for training",
    "convert": "convert densities between file formats",
    "convert-from": "make a frozen model of another program's model",
    "analyze": "derived quantities of densities and of responses to a field",
    "plot": "picture of a prediction beside the reference",
    "info": "versions, devices and active kernels",
    "schema": "JSON schema or reference page of the training input",
}


def main(argv: list[str] | None = None) -> int:
    """Run `dcharge` with the given arguments (default: those of the process) and return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    debug = _debug(argv)
    try:
        try:
            parser, modules = _parser(argv)
            args = parser.parse_args(argv)
            if args.command is None:
                parser.print_help()
                return 0
            with logging_as(args.log_level, args.log_path), tidy_end():
                code = modules[args.command].run(args)
            sys.stdout.flush()
            return code or 0
        except BaseException as e:
            if debug and not isinstance(e, (SystemExit, BrokenPipeError)):
                traceback.print_exc()
            raise
    except BrokenPipeError:
        # the reader has seen enough (`dcharge schema | head`): nothing to tell; keep the interpreter's last flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1
    except BaseException as e:
        print(f"dcharge: error: {one_line(e)}", file=sys.stderr)
        return 1


def one_line(error: BaseException) -> str:
    """What the user is told about an exception."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if isinstance(error, InputError):
        return text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if "no kernel image" in text:
        return "this GPU's architecture is none that torch and dcharge were built for (dcharge info; --device cpu)"
    # torch has an exception of this name for GPUs, and a RuntimeError for the CPU
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "DefaultCPUAllocator" in text:
        return f"out of memory{': ' + text if text else ''}"
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, (str, os.PathLike)) else ""
        return f"{where}{error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] != "dcharge":
        package = error.name.split(".")[0]
        return f"Python package '{package}' is not installed; run: pip install {package}"
    if isinstance(error, ImportError) and error.name == "dcharge" and "import name '_" in text:
        return "the compiled parts of dcharge are missing; run: pip install ."
    return f"{kind}: {text} (this is a bug; run again with -v DEBUG)"


def _debug(argv) -> bool:
    """Whether tracebacks are wanted; known before parsing, since parsing imports the subcommand."""
    flags = ("-v", "--log-level")
    pairs = [*zip(argv, argv[1:], strict=False), *(a.split("=", 1) for a in argv if a.startswith("--log-level="))]
    return any(a in flags and b.upper() in ("DEBUG", "3") for a, b in pairs)


def _parser(argv):
    """The parser, with the arguments of the one subcommand that is called, and {name: its module}."""
    parser = argparse.ArgumentParser(
        prog="dcharge",
        description="Learn the electron density from a few DFT calculations; predict it for any structure.",
        epilog="'dcharge COMMAND -h' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"dcharge {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    called = next((a for a in argv if not a.startswith("-")), None)
    if called is not None and called not in COMMANDS:
        parser.error(f"unknown command '{called}'{nearest(called, COMMANDS)} (one of {', '.join(COMMANDS)})")
    modules = {}
    for name, words in COMMANDS.items():
        sub = subparsers.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        if name == called:
            modules[name] = import_module(f".{name.replace('-', '_')}", __package__)
            sub.description = modules[name].HELP
            modules[name].add_arguments(sub)
            add_logging(sub)
    return parser, modules
