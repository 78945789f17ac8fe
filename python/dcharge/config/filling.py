"""What the user gave against the argument tree: checked key by key, defaults filled, errors in one line with path."""

from __future__ import annotations

from typing import get_args, get_origin

from dargs import Argument

from ..errors import nearest

TYPE_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a mapping",
    list[bool]: "a list of true or false",
    list[int]: "a list of integers",
    list[float]: "a list of numbers",
    list[str]: "a list of strings",
}
LARGEST = 2**63 - 1  # what a kernel can count to; larger numbers, inf and nan are none
# keys of DeePMD-kit's input that a user will paste here
DEEPMD_KEYS = {
    "sel": "neighbours need no upper limit here; remove it",
    "type_one_side": "the embedding depends on the neighbour's species only, always; remove it",
    "data_stat_nbatch": "statistics need no setting; remove it",
}


def described(value) -> str:
    """A value the way an error names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        text = repr(value)
        return f"the list {text if len(text) <= 40 else text[:36] + ' ...]'}"
    if isinstance(value, str):
        return f"the string '{value if len(value) <= 40 else value[:37] + '...'}'"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "an integer beyond 64 bits"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _ordered(types) -> list:
    """The types of a node in a fixed order: dargs keeps them in a set."""
    return sorted((t for t in types if t not in (None, type(None))), key=lambda t: list(TYPE_WORDS).index(t))


def type_words(node: Argument) -> str:
    """The types of a node in words."""
    return " or ".join(TYPE_WORDS[t] for t in _ordered(node.dtype))


def allows_null(node: Argument) -> bool:
    """Whether null is a value of its own."""
    return bool({None, type(None)} & set(node.dtype))


def _cast(value, kind):
    """The value as `kind`, or TypeError. An integer is a number, 1e5 is an integer, true is neither."""
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise TypeError
        return [_cast(v, get_args(kind)[0]) for v in value]
    if isinstance(value, bool) != (kind is bool):
        raise TypeError
    if isinstance(value, (int, float)) and not -LARGEST <= value <= LARGEST:
        raise TypeError
    if kind is float and isinstance(value, (int, float)):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, kind) and kind is not float:
        return value
    raise TypeError


def _commented(name) -> bool:
    return str(name).startswith("_")


class Filler:
    """Walks the tree and the given values together. `fail(path, message)` raises."""

    def __init__(self, tree: Argument, fail):
        self.tree, self.fail = tree, fail

    def filled(self, node: Argument, value, path: tuple[str, ...] = ()):
        """The normalised value of a node: comments gone, aliases resolved, defaults filled, types and rules checked."""
        if node.repeat:
            return self._list(node, value, path)
        if node.sub_fields or node.sub_variants or node.dtype == (dict,):
            return self._mapping(node, value, path)
        if value is None and allows_null(node):
            return None
        value = self._typed(node, value, path)
        self._obeys(node, value, path)
        return value

    def _typed(self, node, value, path):
        kinds = _ordered(node.dtype)
        for kind in kinds:
            try:
                return _cast(value, kind)
            except TypeError:
                continue
        lists = [k for k in kinds if get_origin(k) is list]
        if isinstance(value, list) and len(lists) == 1:
            item = get_args(lists[0])[0]
            for i, v in enumerate(value):
                try:
                    _cast(v, item)
                except TypeError:
                    self.fail((*path, str(i)), f"{TYPE_WORDS[item]} expected, {described(v)} given")
        self.fail(path, f"{self._expected(node)} expected, {described(value)} given")

    def _expected(self, node) -> str:
        return node.extra_check.expected if node.extra_check else type_words(node)

    def _obeys(self, node, value, path):
        rule = node.extra_check
        if rule is None or rule(value):
            return
        hint = nearest(value, rule.choices) if rule.choices else ""
        self.fail(path, f"{rule.expected} expected, {described(value)} given{hint}")

    def _list(self, node, value, path):
        first = next(iter(node.sub_fields))
        items = value if isinstance(value, list) else [value]
        out = []
        for i, item in enumerate(items):
            at = (*path, str(i)) if isinstance(value, list) else path
            if not isinstance(item, (str, dict)):
                self.fail(at, f"a string or a mapping with '{first}' expected, {described(item)} given")
            out.append(self._mapping(node, {first: item} if isinstance(item, str) else item, at))
        self._obeys(node, out, path)
        return out

    def _mapping(self, node, value, path):
        if not isinstance(value, dict):
            self.fail(path, f"a mapping of keys expected, {described(value)} given")
        given = {k: v for k, v in value.items() if not _commented(k) and k != "$schema"}
        fields, out = dict(node.sub_fields), {}
        for variant in node.sub_variants.values():
            branch = self._branch(variant, given, path)
            out[variant.flag_name] = branch.name
            fields.update(branch.sub_fields)
        for alias, name in [(a, f.name) for f in fields.values() for a in f.alias if a in given]:
            if name in given:
                self.fail((*path, alias), f"'{alias}' is another name of '{name}', and both are given")
            given[name] = given.pop(alias)
        for name in given:
            if name not in fields and name not in out:
                self.fail((*path, str(name)), f"unknown key{self._hint(node, fields, str(name), out)}")
        for name, field in fields.items():
            if name in given:
                out[name] = self.filled(field, given[name], (*path, name))
            elif not field.optional:
                self.fail((*path, name), f"required key is missing ({self._expected(field)})")
            elif (field.sub_fields and not field.repeat) or field.sub_variants:
                out[name] = self.filled(field, {}, (*path, name))
            else:
                default = field.default
                out[name] = list(default) if isinstance(default, list) else default
        return out

    def _branch(self, variant, given, path) -> Argument:
        flag, known = variant.flag_name, ", ".join(variant.choice_dict)
        if flag not in given:
            if not variant.optional:
                self.fail((*path, flag), f"required key is missing (one of {known})")
            return variant.choice_dict[variant.default_tag]
        tag = given[flag]
        if isinstance(tag, str):
            tag = variant.choice_alias.get(tag, tag)
            if tag in variant.choice_dict:
                return variant.choice_dict[tag]
        hint = nearest(tag, variant.choice_dict) if isinstance(tag, str) else ""
        self.fail((*path, flag), f"one of {known} expected, {described(tag)} given{hint}")

    def _hint(self, node, fields, name, chosen) -> str:
        """What to say about an unknown key: the type or section it belongs to, else the nearest name."""
        if name in DEEPMD_KEYS:
            return f"; {DEEPMD_KEYS[name]}"
        for variant in node.sub_variants.values():
            owners = [c.name for c in variant.choice_dict.values() if name in c.sub_fields]
            if owners:
                words = " or ".join(f"'{o}'" for o in owners)
                return f" for {variant.flag_name} '{chosen[variant.flag_name]}'; it belongs to {words}"
        places = sorted(set(_places(self.tree, name)))
        if 1 <= len(places) <= 3:
            return f"; it belongs in {' or '.join(places)}"
        return nearest(name, [*fields, *chosen])


def _places(node: Argument, name: str, path: tuple[str, ...] = ()):
    """Paths of all sections that know the key `name`."""
    fields = dict(node.sub_fields)
    for variant in node.sub_variants.values():
        for branch in variant.choice_dict.values():
            fields.update(branch.sub_fields)
    for field in fields.values():
        if (name == field.name or name in field.alias) and not node.repeat:
            yield "/".join(path) or "the top level"
        yield from _places(field, name, (*path, field.name))
