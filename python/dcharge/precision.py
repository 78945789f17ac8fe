"""Whether a model bears matrix products in bfloat16: measured by `dcharge test`, kept in frozen.pth."""

from __future__ import annotations

import time

from .errors import InputError, log
from .freeze import add_verdict
from .metrics import Errors

BEARABLE = 1.0  # percent of its value that NMAE may rise by


def study(predictor, frames, compare, report: dict) -> dict:
    """What bfloat16 costs and saves.

    predictor  of the model in bfloat16; frames: (system, frame) pairs, frames with `read`
    compare    function (predictor, reference) -> (Errors, ...), as `evaluate.compare`
    report     of `dcharge test` on the same frames in the model's own precision
    -> {"nmae_percent", "full_nmae_percent", "rise_percent", "seconds", "full_seconds", "accepted"}
    """
    errors, seconds = Errors(), 0.0
    for _, frame in frames:
        reference, started = frame.read(), time.perf_counter()
        errors += compare(predictor, reference)[0]
        seconds += time.perf_counter() - started
    own, full = errors.result()["nmae_percent"], report["pooled"]["nmae_percent"]
    if not full:
        raise InputError("--precision bf16: NMAE is undefined or zero on these frames; there is nothing to compare")
    rise = 100 * (own / full - 1)
    return {
        "nmae_percent": own,
        "full_nmae_percent": full,
        "rise_percent": rise,
        "seconds": seconds,
        "full_seconds": sum(f["seconds"] for f in report["frames"]),
        "accepted": rise < BEARABLE,
    }


def table(found: dict) -> list[str]:
    """The figures for people."""
    verdict = "may be used" if found["accepted"] else f"is refused: NMAE may rise by {BEARABLE:g} % of its value"
    return [
        f"# {'precision':>9s} {'NMAE %':>9s} {'rise %':>8s} {'seconds':>9s}",
        f"  {'float32':>9s} {found['full_nmae_percent']:9.4f} {0.0:8.2f} {found['full_seconds']:9.2f}",
        f"  {'bf16':>9s} {found['nmae_percent']:9.4f} {found['rise_percent']:8.2f} {found['seconds']:9.2f}  {verdict}",
    ]


def store(path, found: dict, systems) -> None:
    """Put the verdict into a frozen model (meta/bf16); the file is replaced as a whole."""
    add_verdict(path, "bf16", found, systems)
    log.info(f"{path}: stored: --precision bf16 {'accepted' if found['accepted'] else 'refused'}")


def check(meta: dict, path) -> None:
    """InputError unless the model's stored verdict allows bfloat16."""
    verdict = meta.get("bf16")
    if verdict is None:
        raise InputError(
            f"--precision bf16: {path} has not been tested with it; run dcharge test -m {path} -s SYSTEM "
            "--precision bf16 --store"
        )
    if not verdict["accepted"]:
        raise InputError(
            f"--precision bf16: raised NMAE by {verdict['rise_percent']:.2f} % of its value when {path} was tested; "
            f"less than {BEARABLE:g} % expected"
        )
