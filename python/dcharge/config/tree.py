"""Words for writing the argument tree: dargs nodes with rules that know how to say what they expect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dargs import Argument, Variant

REQUIRED = object()


@dataclass(frozen=True)
class Rule:
    """What a value must fulfil beyond its type.

    test      value -> bool
    expected  how an error says it ("a positive integer")
    schema    the same in JSON schema's words
    choices   valid words, for the nearest one
    """

    test: Callable[[Any], bool]
    expected: str
    schema: dict = field(default_factory=dict)
    choices: tuple[str, ...] = ()

    def __call__(self, value) -> bool:
        return bool(self.test(value))


def one_of(*words: str) -> Rule:
    """One of a few words."""
    return Rule(lambda v: v in words, f"one of {', '.join(words)}", {"enum": list(words)}, words)


def between(low: int, high: int) -> Rule:
    """An integer within bounds, both included."""
    return Rule(lambda v: low <= v <= high, f"an integer from {low} to {high}", {"minimum": low, "maximum": high})


POSITIVE_INTEGER = Rule(lambda v: v >= 1, "a positive integer", {"minimum": 1})
NOT_NEGATIVE_INTEGER = Rule(lambda v: v >= 0, "an integer that is zero or positive", {"minimum": 0})
POSITIVE = Rule(lambda v: v > 0, "a positive number", {"exclusiveMinimum": 0})
NOT_NEGATIVE = Rule(lambda v: v >= 0, "a number that is zero or positive", {"minimum": 0})
FRACTION = Rule(lambda v: 0 <= v < 1, "a number from 0 to below 1", {"minimum": 0, "exclusiveMaximum": 1})
INSIDE_UNIT = Rule(lambda v: 0 < v < 1, "a number between 0 and 1", {"exclusiveMinimum": 0, "exclusiveMaximum": 1})
WIDTHS = Rule(
    lambda v: len(v) > 0 and all(x >= 1 for x in v),
    "a list of one or more positive integers",
    {"minItems": 1, "items": {"type": "integer", "minimum": 1}},
)
WORD = Rule(lambda v: bool(v.strip()), "a string that is not empty", {"minLength": 1})


def key(name: str, dtype, default=REQUIRED, doc: str = "", rule: Rule | None = None, alias=()) -> Argument:
    """One key with a value. Without a default it is required."""
    optional = {} if default is REQUIRED else {"optional": True, "default": default}
    message = rule.expected if rule else ""
    return Argument(name, dtype, **optional, doc=doc, alias=alias, extra_check=rule, extra_check_errmsg=message)


def section(name: str, fields=(), variant: Variant | None = None, doc: str = "", required: bool = False) -> Argument:
    """A mapping of keys; where it is absent and not required, its keys take their defaults."""
    return Argument(name, dict, list(fields), [variant] if variant else None, optional=not required, doc=doc)


def listing(name: str, fields, default=REQUIRED, doc: str = "", rule: Rule | None = None) -> Argument:
    """A list of mappings. A string stands for a mapping with only the first key; a single item for a list of one."""
    optional = {} if default is REQUIRED else {"optional": True, "default": default}
    message = rule.expected if rule else ""
    return Argument(
        name, list, list(fields), repeat=True, **optional, doc=doc, extra_check=rule, extra_check_errmsg=message
    )


def choice(name: str, fields=(), doc: str = "", alias=()) -> Argument:
    """One value of a `type` key, with the keys that it brings."""
    return Argument(name, dict, list(fields), doc=doc, alias=alias)


def by_type(*choices: Argument, default: str = "", doc: str = "") -> Variant:
    """The `type` key of a section. Without a default it is required."""
    return Variant("type", list(choices), optional=bool(default), default_tag=default, doc=doc)


def standardize_and_vacuum(standardize: str) -> tuple[Argument, Argument]:
    """Two keys that several families have; `standardize` says what that key does in this one."""
    far = "zero: far from all atoms the density vanishes exactly; paper: the net's constant remains."
    return key("standardize", bool, True, standardize), key("vacuum", str, "zero", far, one_of("zero", "paper"))
