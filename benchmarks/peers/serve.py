"""The loop of a process that runs a peer: one command a line on stdin, one JSON object a line on stdout.

    threads N        -> {}
    run NAME         -> {"wall": seconds, "cpu": seconds}
    check            -> whatever the peer tells about the correctness of its answers
    quit

Runs in the peer's environment: this folder's serve_*.py import nothing of dcharge.
"""

from __future__ import annotations

import json
import os
import sys
import time


def private_stdout():
    """The real stdout, for answers; what libraries print goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def missing(answers, name: str) -> None:
    """Tell that the peer is not installed here, and end."""
    print(json.dumps({"missing": name}), file=answers, flush=True)
    sys.exit(0)


def serve(answers, about: dict, calls: dict, set_threads, check) -> None:
    """Answer commands until `quit`. calls: {name: (function, points per call)}; about: versions and the like."""
    ready = about | {"points": {name: n for name, (_, n) in calls.items()}}
    print(json.dumps({"ready": ready}), file=answers, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        answer = {}
        if word == "quit":
            return
        if word == "threads":
            set_threads(int(rest))
        elif word == "check":
            answer = check()
        elif word == "run":
            wall, cpu = time.perf_counter(), time.process_time()
            calls[rest][0]()
            answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        else:
            raise SystemExit(f"unknown command '{word}'")
        print(json.dumps(answer), file=answers, flush=True)
