"""The argument tree as a JSON schema (draft 7).

dargs can write one, but without choices, bounds, item types, comments and strictness; editors need these.
"""

from __future__ import annotations

from typing import get_args, get_origin

from dargs import Argument

from .filling import _ordered, allows_null

JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
DRAFT = "http://json-schema.org/draft-07/schema#"
COMMENTS = {"^_": {"description": "a comment"}}


def schema(tree: Argument) -> dict:
    """JSON schema of a whole input."""
    out = {"$schema": DRAFT, "title": tree.doc, **_mapping(tree)}
    out["properties"]["$schema"] = {"type": "string"}
    return out


def _value(node: Argument) -> dict:
    if node.repeat:
        item = _mapping(node)
        text = {"type": "string", "description": f"short for a mapping with only '{next(iter(node.sub_fields))}'"}
        many = {"type": "array", "items": {"anyOf": [text, item]}}
        if node.extra_check:
            many.update(node.extra_check.schema)
        return {"description": node.doc, "anyOf": [text, many]}
    if node.sub_fields or node.sub_variants:
        return {"description": node.doc, **_mapping(node)}
    out = {"description": node.doc} if node.doc else {}
    types = [get_origin(t) or t for t in _ordered(node.dtype)]
    names = list(dict.fromkeys(JSON_TYPES[t] for t in types)) + ["null"] * allows_null(node)
    out["type"] = names[0] if len(names) == 1 else names
    if items := {JSON_TYPES[get_args(t)[0]] for t in node.dtype if get_origin(t) is list}:
        out["items"] = {"type": sorted(items) if len(items) > 1 else items.pop()}
    if node.extra_check:
        out.update(node.extra_check.schema)
    if node.optional:
        out["default"] = node.default
    return out


def _properties(node: Argument) -> dict:
    out = {}
    for field in node.sub_fields.values():
        value = _value(field)
        out[field.name] = value
        for alias in field.alias:
            out[alias] = {**value, "description": f"Another name of {field.name}."}
    return out


def _required(node: Argument) -> list[dict]:
    """Required keys, each under any of its names."""
    needed = [f for f in node.sub_fields.values() if not f.optional]
    return [{"anyOf": [{"required": [n]} for n in (f.name, *f.alias)]} for f in needed]


def _mapping(node: Argument) -> dict:
    out = {"type": "object", "properties": _properties(node), "patternProperties": COMMENTS}
    conditions = _required(node)
    for variant in node.sub_variants.values():
        flag = variant.flag_name
        words = {"description": variant.doc, "enum": [*variant.choice_dict, *variant.choice_alias]}
        if variant.optional:
            words["default"] = variant.default_tag
        else:
            conditions.append({"required": [flag]})
        out["properties"] = {flag: words, **out["properties"]}
        shared = dict.fromkeys(out["properties"], True)
        for branch in variant.choice_dict.values():
            when = {"properties": {flag: {"enum": [branch.name, *branch.alias]}}}
            if branch.name != variant.default_tag:
                when["required"] = [flag]
            then = {
                "description": branch.doc,
                "properties": {**shared, **_properties(branch)},
                "patternProperties": COMMENTS,
                "additionalProperties": False,
            }
            if needed := _required(branch):
                then["allOf"] = needed
            conditions.append({"if": when, "then": then})
    if not node.sub_variants:
        out["additionalProperties"] = False
    if conditions:
        out["allOf"] = conditions
    return out
