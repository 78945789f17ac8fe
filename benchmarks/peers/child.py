"""A peer's process, driven line by line: its calls can take turns with dcharge's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ..cases import Timing

HERE = Path(__file__).resolve().parent


class Child:
    """A running serve_*.py. `missing` says that the peer is not installed there.

    python  the interpreter of the peer's environment
    """

    def __init__(self, python, script: str, *arguments):
        command = [str(python), str(HERE / script), *map(str, arguments)]
        self.name = script
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        answer = self._answer()
        self.missing = answer.get("missing")
        self.about = answer.get("ready", {})

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with status {self.process.wait()}; its last words are above")
        return json.loads(line)

    def ask(self, command: str) -> dict:
        """Send a command, wait for its answer."""
        print(command, file=self.process.stdin, flush=True)
        return self._answer()

    def call(self, name: str):
        """A function that runs `name` there once and returns the Timing measured there."""
        return lambda: Timing(**self.ask(f"run {name}"))

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            print("quit", file=self.process.stdin, flush=True)
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
