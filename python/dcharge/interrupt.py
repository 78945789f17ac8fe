"""Ending long work: between two steps, or at once without leaving temporary files."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
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


@contextlib.contextmanager
def tidy_end():
    """While active, SIGTERM (a batch system's end of time) raises SystemExit(143) in place of ending the process.

    What the blocks on the way hold is given back: files that are not whole are removed (io/replacing.py). Where SIGTERM
    is ignored or has a handler already, and outside the main thread, nothing changes.
    """

    def end(number, frame):
        if not ended:
            log.error("ended by SIGTERM")
        ended.append(SystemExit(128 + number))  # what a shell reports of a process that the signal ended
        raise ended[-1]

    def unraisable(event):
        """Where Python may not raise (a weak reference's callback, a finaliser), it drops the exception: once more."""
        if any(event.exc_value is e for e in ended):
            threading.Timer(0.01, os.kill, [os.getpid(), signal.SIGTERM]).start()
        else:
            hook(event)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    ended, hook, sys.unraisablehook = [], sys.unraisablehook, unraisable
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.unraisablehook = hook
