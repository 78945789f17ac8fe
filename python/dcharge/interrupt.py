"""Ending long work between two steps."""

from __future__ import annotations

import signal
import threading

from .errors import log


class Interrupt:
    """While active, Ctrl-C (SIGINT) and SIGTERM only set `asked`, so that no step is cut in two; a second one ends.

    Outside the main thread, where Python allows no signal handlers, nothing is caught.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.asked = False

    def _ask(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        log.warning("interrupted: this step is finished first (again: at once)")

    def __enter__(self) -> Interrupt:
        main = threading.current_thread() is threading.main_thread()
        self.old = {s: signal.signal(s, self._ask) for s in self.SIGNALS} if main else {}
        return self

    def __exit__(self, *error):
        for number, handler in self.old.items():
            signal.signal(number, handler)
