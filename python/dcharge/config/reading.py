"""Input files: JSON and YAML to a mapping, with line and column where the syntax is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..errors import InputError, UnsupportedFormat, nearest


def read_mapping(path) -> dict:
    """The content of a .json, .yaml or .yml file. Raises InputError in one line."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise UnsupportedFormat(f"{path}: an input file named *.json, *.yaml or *.yml expected")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = path.parent
        others = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(path.name, others)}") from None
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: not a text file in UTF-8 (byte {e.start})") from None
    return (_json if suffix == ".json" else _yaml)(text, path)


def _json(text: str, path) -> dict:
    def pairs(items):
        out = {}
        for k, v in items:
            # a comment may stand wherever the user wants it, also twice
            if k in out and not k.startswith("_"):
                raise InputError(f"{path}: key '{k}' is given twice in one mapping")
            out[k] = v
        return out

    def constant(word):
        raise InputError(f"{path}: {word} is not a number")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as e:
        raise InputError(f"{path}: line {e.lineno} column {e.colno}: not valid JSON: {e.msg}") from None
    except (RecursionError, ValueError) as e:
        raise InputError(f"{path}: not valid JSON: {e}") from None


# Scalars of YAML 1.2. PyYAML follows YAML 1.1, where 1e-3 is a string, 1:30 is ninety, and No (nobelium) is false
_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+", "-+0123456789"),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
}


def _loader(yaml, path):
    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {}

        def construct_mapping(self, node, deep=False):
            seen = set()
            for name in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
                if name.value in seen and not name.value.startswith("_"):
                    line = name.start_mark.line + 1
                    raise InputError(f"{path}: line {line}: key '{name.value}' is given twice in one mapping")
                seen.add(name.value)
            return super().construct_mapping(node, deep)

        def construct_yaml_int(self, node):
            return int(self.construct_scalar(node))

        def construct_yaml_float(self, node):
            return float(self.construct_scalar(node))

    for tag, (pattern, first) in _SCALARS.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader


def _yaml(text: str, path) -> dict:
    import yaml

    try:
        return yaml.load(text, _loader(yaml, path))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise InputError(f"{path}: {where}not valid YAML: {e.problem or e.context}") from None
    except (RecursionError, ValueError, yaml.YAMLError) as e:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(e).split())}") from None
