"""Progress of long loops: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time

from .errors import log

INTERVAL = 10.0  # seconds between two log lines
SHORT = 1.0  # what takes less than these seconds needs no word


def track(iterable=None, total: int | None = None, desc: str = "progress", unit: str = "it"):
    """Show how far a loop is: `for x in track(xs, desc="reading")`.

    Or count by hand: `with track(total=n_points, unit="points") as bar: ...; bar.update(4096)`.
    total: number of items, where `iterable` has no length; unit: what is counted.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    if not (sys.stderr.isatty() and log.isEnabledFor(logging.INFO)):
        return LogLines(iterable, total, desc, unit)
    from tqdm import tqdm

    large = total is not None and total > 100_000
    return tqdm(iterable, total=total, desc=desc, unit=unit, unit_scale=large, dynamic_ncols=True, delay=SHORT / 2)


class LogLines:
    """The part of tqdm's interface that dcharge uses, as log lines."""

    def __init__(self, iterable, total: int | None, desc: str, unit: str):
        self.iterable, self.total, self.desc, self.unit = iterable, total, desc, unit
        self.n = 0
        self.start = self.last = time.monotonic()

    def update(self, n: int = 1) -> None:
        """Count n more."""
        self.n += n
        now = time.monotonic()
        if now - self.last < INTERVAL:
            return
        self.last, left = now, ""
        if self.total and self.n:
            left = f", {(now - self.start) * (self.total - self.n) / self.n:.0f} s left"
        log.info(f"{self.desc}: {self.n}{f'/{self.total}' if self.total else ''} {self.unit}{left}")

    def close(self) -> None:
        """Tell the end of what took its time."""
        seconds = time.monotonic() - self.start
        if seconds >= SHORT:
            log.info(f"{self.desc}: {self.n} {self.unit} in {seconds:.1f} s")

    def __iter__(self):
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.close()
