"""Arguments that several subcommands have, and the log they write."""

from __future__ import annotations

import argparse
import logging
import re
from contextlib import contextmanager

from ..device import DEVICES, is_device

LEVELS = ("ERROR", "WARNING", "INFO", "DEBUG")  # position: DeePMD-kit's digit
FORMAT = "[%(asctime)s] DCHARGE %(levelname)-7s %(message)s"


def _level(text: str) -> int:
    word = LEVELS[int(text)] if text in ("0", "1", "2", "3") else text.upper()
    if word not in LEVELS:
        raise argparse.ArgumentTypeError(f"'{text}': one of {', '.join(LEVELS)} or 0 to 3 expected")
    return getattr(logging, word)


def _flag(text: str) -> bool:
    words = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"'{text}': T or F expected")
    return words[text.lower()]


def _device(text: str) -> str:
    if not is_device(text):
        raise argparse.ArgumentTypeError(f"'{text}': {DEVICES} expected")
    return text


def positive_int(text: str) -> int:
    """Argument type: an integer above zero."""
    return _checked(int, text, lambda v: v > 0, "a positive integer")


def natural(text: str) -> int:
    """Argument type: an integer, zero or above."""
    return _checked(int, text, lambda v: v >= 0, "zero or a positive integer")


def positive(text: str) -> float:
    """Argument type: a finite number above zero."""
    return _checked(float, text, lambda v: 0 < v < float("inf"), "a positive number")


def factor(text: str) -> int | str:
    """Argument type: 1, 2, 3, 4 or auto."""
    return text if text == "auto" else _checked(int, text, lambda v: 1 <= v <= 4, "1, 2, 3, 4 or auto")


def factors(text: str) -> list[int]:
    """Argument type: factors separated by commas."""
    return [_checked(int, word, lambda v: 1 <= v <= 4, "factors 1 to 4 such as 1,2,3") for word in text.split(",")]


def number(text: str) -> float:
    """Argument type: a finite number."""
    return _checked(float, text, lambda v: abs(v) < float("inf"), "a number")


def _checked(kind, text, test, words):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not test(value):
        raise argparse.ArgumentTypeError(f"'{text}': {words} expected")
    return value


def add_logging(parser: argparse.ArgumentParser) -> None:
    """-v/--log-level and -l/--log-path, as in DeePMD-kit."""
    group = parser.add_argument_group("log")
    group.add_argument(
        "-v",
        "--log-level",
        type=_level,
        default=logging.INFO,
        metavar="LEVEL",
        help="DEBUG (3), INFO (2, default), WARNING (1) or ERROR (0); DEBUG shows tracebacks",
    )
    group.add_argument("-l", "--log-path", metavar="FILE", help="write the log to this file too")


def add_surroundings(parser: argparse.ArgumentParser) -> None:
    """--pbc and --field, in place of what the files say."""
    # argparse takes -1e-3 for an option in Python below 3.14; there is no option that looks like a number here
    parser._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
    parser.add_argument(
        "--pbc",
        nargs=3,
        type=_flag,
        metavar=("A", "B", "C"),
        help="periodic axes, in place of what the files say, e.g. T T F",
    )
    parser.add_argument(
        "--field",
        nargs=3,
        type=number,
        metavar=("X", "Y", "Z"),
        help="electric field in V/Angstrom, in place of what the files say",
    )


def add_device(parser: argparse.ArgumentParser, default="auto", words="auto: a GPU where there is one") -> None:
    """--device."""
    parser.add_argument("--device", type=_device, default=default, metavar="DEV", help=f"{DEVICES} (default: {words})")


def add_models(parser: argparse.ArgumentParser, words: str) -> None:
    """-m with one frozen model or several."""
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument(
        "-m",
        "--model",
        nargs="+",
        action="extend",
        metavar="FILE",
        help=f"frozen model (default: frozen.pth); {words}",
    )


def models(args) -> list[str]:
    """The frozen models given with -m."""
    return args.model or ["frozen.pth"]


def models_and_files(args, files: list[str]) -> tuple[list[str], list[str]]:
    """The models given with -m, and `files` with those that follow the models: `-m a.pth b.pth POSCAR`.

    The first name behind -m is a model; so are those that follow and end in .pth, or are files as torch writes them.
    """
    first, *rest = models(args)
    given = [first] + [name for name in rest if is_model(name)]
    files = [name for name in rest if not is_model(name)] + files
    if not files:
        args.wrong_usage("the following arguments are required: STRUCTURE (of the files behind -m all are models)")
    return given, files


def is_model(name: str) -> bool:
    """Whether a file is a frozen model, by its name or its first bytes (torch writes zip archives)."""
    if name.endswith(".pth"):
        return True
    try:
        with open(name, "rb") as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def add_precision(parser: argparse.ArgumentParser, words: str) -> None:
    """--precision."""
    parser.add_argument(
        "--precision",
        choices=("bf16",),
        help=f"round the operands of the fitting net's matrix products to bfloat16: {words}",
    )


def add_derivatives(parser: argparse.ArgumentParser, words: str) -> None:
    """--derivatives."""
    parser.add_argument(
        "--derivatives",
        choices=("fft", "autograd"),
        help=f"of the density on its grid, or of the model at the grid's points, where it is smooth ({words})",
    )


def add_type_map(parser: argparse.ArgumentParser) -> None:
    """--type-map, for files whose atoms have numbers instead of species."""
    parser.add_argument(
        "--type-map", nargs="+", metavar="SYMBOL", help="species of types 1, 2, ... in LAMMPS files, e.g. O H"
    )


@contextmanager
def logging_as(level: int, path: str | None):
    """The log of dcharge on stderr, and in the file `path`, in DeePMD-kit's format, inside the `with` block."""
    logger = logging.getLogger("dcharge")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path:
        handlers.append(logging.FileHandler(path, mode="a", encoding="utf-8"))
    before = logger.level, logger.propagate
    logger.setLevel(level)
    # a library that configures the root logger must not print our lines a second time
    logger.propagate = False
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.level, logger.propagate = before
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
