"""The two ways dcharge speaks to a user: an error that stops, a warning that is said once."""

from __future__ import annotations

import difflib
import logging

log = logging.getLogger("dcharge")


class InputError(Exception):
    """Something the user gave is wrong. The text is one line: place, what was expected, nearest valid name.

    The command line prints it without a traceback and exits with code 1.
    """


class UnsupportedFormat(InputError):
    """A file whose name or content is of no format dcharge reads."""


def nearest(name: str, valid) -> str:
    """`; did you mean 'x'?` for the valid name closest to `name`, or an empty string."""
    valid = [str(v) for v in valid]
    match = [v for v in valid if v.lower() == str(name).lower()]  # 'o' means O, not Po
    match = match or difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""


def counted(n: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


_said: set[str] = set()


def warn_once(key: str, message: str) -> None:
    """Log `message` as a warning the first time `key` is seen in this process."""
    if key not in _said:
        _said.add(key)
        log.warning(message)


def say_once(key: str, message: str) -> None:
    """Log `message` as information the first time `key` is seen in this process."""
    if key not in _said:
        _said.add(key)
        log.info(message)
