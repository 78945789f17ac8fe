"""The figures in docs/performance.md, taken from the newest results; nobody types them."""

from __future__ import annotations

import json
from pathlib import Path

from . import table

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs/performance.md"
BEGIN, END = "<!-- figures: python -m benchmarks --docs -->", "<!-- end of figures -->"
ORDER = tuple("predict peers deepdft train fireann cgcnn coarse scaling huge moments formats memory".split())


def newest(folder: Path = RESULTS) -> dict[str, dict]:
    """The latest result of every measurement, quick ones aside."""
    found: dict[str, dict] = {}
    for path in sorted(folder.glob("*.json")):
        for name, result in json.loads(path.read_text())["benchmarks"].items():
            if result["quick"]:
                continue
            if name not in found or result["machine"]["date"] > found[name]["machine"]["date"]:
                found[name] = result
    return {name: found[name] for name in (*ORDER, "gpu") if name in found}


def block(results: dict[str, dict]) -> str:
    """Markdown of all results, each under the machine it was measured on."""
    parts = []
    for name, result in results.items():
        m = result["machine"]
        kernels = {"avx512": "AVX-512", "avx2": "AVX2"}.get(m["isa"], m["isa"])
        load = f", load average {m['load'][0]:g} before it" if m["load"] else ""
        parts.append(f"### {name}\n")
        parts.append(
            f"{m['date'][:10]}, {m['cpu']}, {m['cores']} cores, {kernels} kernels, torch {m['torch']}{load}.\n"
        )
        parts += [*table.markdown(result["rows"]), ""]
    if not parts:
        parts = ["Nothing measured yet: `python -m benchmarks`.", ""]
    return "\n".join(parts)


def replaced(page: str, text: str) -> str:
    """The page with `text` between the markers. ValueError where these are missing."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the lines '{BEGIN}' and '{END}' expected once each")
    return page[: page.index(BEGIN) + len(BEGIN)] + "\n" + text + page[page.index(END) :]


def refresh(page: Path = PAGE, folder: Path = RESULTS) -> None:
    """Rewrite the figures of the page."""
    results = newest(folder)
    page.write_text(replaced(page.read_text(), block(results)))
    print(f"{page}: {', '.join(results) or 'no results yet'}")
