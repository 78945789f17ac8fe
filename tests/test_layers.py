"""Imports obey the list of layers in docs/architecture.md, and a few rules that keep the house open."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python/dcharge"
FILES = sorted(PACKAGE.rglob("*.py"))


def layers() -> dict[str, int]:
    """Module or folder of dcharge -> number of its layer, from the one line of the document that has them."""
    text = (ROOT / "docs/architecture.md").read_text()
    line = next(x for x in text.splitlines() if x.startswith("`errors`"))
    return {name: i for i, layer in enumerate(line.split("<")) for name in re.findall(r"`(\w+)`", layer)}


def room(parts) -> str:
    """Name of the layered unit of dotted parts below dcharge: ['io', 'cube'] -> 'io'."""
    return parts[0] if parts else ""


def imports(path: Path):
    """(line, dotted name of the module) of every import, also those inside functions; relative ones resolved."""
    package = ["dcharge", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            if base == ["dcharge"]:  # from . import grid
                yield from ((node.lineno, f"dcharge.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, ".".join(base)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    order = layers()
    here = room(path.relative_to(PACKAGE).with_suffix("").parts)
    if here in ("__init__", "__main__"):
        return
    assert here in order, f"{here}: not in the list of layers of docs/architecture.md"
    for line, name in imports(path):
        parts = name.split(".")
        # dunders and compiled modules (_io, ...) lie below all layers
        if parts[0] != "dcharge" or room(parts[1:]).startswith("_") or len(parts) == 1:
            continue
        there = room(parts[1:])
        assert there in order, f"line {line}: {name} is not in the list of layers of docs/architecture.md"
        assert order[there] <= order[here], f"line {line}: {here} must not import {there}, a layer above it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*.py")), ids=lambda p: p.name)
def test_models_open_no_files(path):
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    names = {f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in calls}
    assert not names & {"open", "read_text", "write_text", "read_bytes", "write_bytes"}
    assert not {name for _, name in imports(path)} & {"pathlib", "os", "h5py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short_and_explained(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 420, "split it: files stay below about 400 lines"
    assert ast.get_docstring(ast.parse(text)), "no docstring"
