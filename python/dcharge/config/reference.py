"""The argument tree as the page docs/input.md."""

from __future__ import annotations

import json

from dargs import Argument

from .filling import allows_null, type_words

EXAMPLE = """\
{
  "model": {"type": "deep_charge", "type_map": ["Si"]},
  "training": {
    "numb_steps": 20000,
    "training_data": {"systems": ["train"]},
    "validation_data": {"systems": ["valid"]}
  }
}"""
INTRO = """\
# Input of `dcharge train`

This page is written by `dcharge schema --markdown`; `dcharge schema` prints the same as a JSON schema for editors.

The input is JSON (`input.json`) or YAML (`input.yaml`), with DeePMD-kit's names and meanings where it has them.

* Keys are strict: an unknown key is an error that names its path and the nearest key.
* Keys that start with `_` are comments and may stand anywhere.
* A section that is left out takes its defaults. `out.json` holds the input with all of them filled in.
* Lengths in Angstrom, densities in e/Angstrom^3, fields in V/Angstrom. Paths are relative to the current folder.

The shortest input that trains a model:

```json
{example}
```
"""


def reference(tree: Argument) -> str:
    """The page as Markdown."""
    parts = [INTRO.replace("{example}", EXAMPLE)]
    for field in tree.sub_fields.values():
        parts += _section(field, field.name, 2)
    return "\n".join(parts).rstrip() + "\n"


def _is_section(field: Argument) -> bool:
    return bool(field.sub_fields or field.sub_variants)


def _section(node: Argument, path: str, depth: int) -> list[str]:
    need = "" if node.optional else " Required."
    out = [f"{'#' * depth} {path}", "", f"{node.doc}{need}", ""]
    if node.repeat:
        first = next(iter(node.sub_fields))
        out += [
            f"A list of mappings; a string stands for a mapping with only `{first}`, one item for a list of one.",
            "",
        ]
    out += _table(node, path)
    for variant in node.sub_variants.values():
        for branch in variant.choice_dict.values():
            aliases = "".join(f", `{a}`" for a in branch.alias)
            out += [f"**{variant.flag_name} `{branch.name}`**{aliases and f' (also{aliases[1:]})'}: {branch.doc}", ""]
            out += _table(branch, path)
    for field in _sections(node):
        out += _section(field, f"{path}/{field.name}", min(depth + 1, 4))
    return out


def _sections(node: Argument):
    yield from (f for f in node.sub_fields.values() if _is_section(f))
    for variant in node.sub_variants.values():
        for branch in variant.choice_dict.values():
            yield from _sections(branch)


def _table(node: Argument, path: str) -> list[str]:
    rows = []
    for variant in node.sub_variants.values():
        words = ", ".join(variant.choice_dict)
        default = _code(variant.default_tag) if variant.optional else "required"
        rows.append((variant.flag_name, f"one of {words}", default, variant.doc))
    for field in node.sub_fields.values():
        if field.repeat:
            default = "required" if not field.optional else _code(field.default)
            rows.append(
                (field.name, "a list of systems", default, f"{field.doc} See [below](#{_anchor(path, field)}).")
            )
        elif not _is_section(field):
            rule = field.extra_check
            words = rule.expected if rule else type_words(field)
            default = _code(field.default) if field.optional else "required"
            if allows_null(field):
                words += ", or null"
            also = "".join(f", `{a}`" for a in field.alias)
            rows.append((field.name, words, default, field.doc + (f" Also{also[1:]}." if also else "")))
    if not rows:
        return []
    out = ["| key | value | default | meaning |", "|---|---|---|---|"]
    out += [f"| `{name}` | {words} | {default} | {doc} |".replace("\\", "\\\\") for name, words, default, doc in rows]
    return [*out, ""]


def _anchor(path: str, field: Argument) -> str:
    """The fragment that common Markdown renderers give the heading of a section."""
    return f"{path}/{field.name}".replace("/", "")


def _code(value) -> str:
    return f"`{json.dumps(value)}`"
