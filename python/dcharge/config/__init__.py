"""input.json / input.yaml: strict keys, defaults, one-line errors, JSON schema, reference page.

    config = load_config("input.json")      # everything filled: this is what out.json holds

The tree of keys is made of dargs Arguments, one file per section; `model.FAMILIES` has one entry per model family.
"""

from __future__ import annotations

from functools import lru_cache

from dargs import Argument
from dargs.dargs import ArgumentError

from ..errors import InputError
from . import model as model_section
from . import sampler as sampler_section
from . import training as training_section
from .filling import Filler
from .reading import read_mapping

__all__ = ["json_schema", "load_config", "markdown", "normalize", "normalize_model", "normalize_sampler", "tree"]


@lru_cache(maxsize=1)
def tree() -> Argument:
    """The whole input as one dargs Argument."""
    return Argument(
        "input",
        dict,
        [
            model_section.arguments(),
            training_section.training(),
            training_section.optimizer(),
            training_section.learning_rate(),
            training_section.loss(),
        ],
        doc="Input of `dcharge train`",
    )


def load_config(path) -> dict:
    """Read, check and complete an input file (JSON or YAML). Raises InputError in one line."""
    return normalize(read_mapping(path), str(path))


def normalize(given: dict, source: str = "input.json") -> dict:
    """Check and complete an input; `given` is not changed. `source` is the file named in errors."""
    fail = _failing(source)
    if isinstance(given, dict) and "model" in given:
        given = {**given, "model": model_section.prepared(given["model"])}
    config = Filler(tree(), fail).filled(tree(), given)
    _settled(tree(), config, source)
    model_section.check(config["model"], fail)
    training_section.check(config, fail)
    return config


def normalize_model(given: dict, source: str = "model") -> dict:
    """Check and complete the `model` section alone, for models that are built in Python."""
    fail, node = _failing(source), tree()["model"]
    config = Filler(tree(), fail).filled(node, model_section.prepared(given), ("model",))
    _settled(node, config, source)
    model_section.check(config, fail)
    return config


def normalize_sampler(given: dict, fail) -> dict:
    """Check and complete a `training/sampler` section alone. `fail(path, message)` raises."""
    config = Filler(tree(), fail).filled(tree()["training"]["sampler"], given, ("sampler",))
    sampler_section.check_sampler(config, fail, "sampler")
    return config


def json_schema() -> dict:
    """JSON schema (draft 7) of the input, for editors and validators."""
    from .schema import schema

    return schema(tree())


def markdown() -> str:
    """The reference page docs/input.md."""
    from .reference import reference

    return reference(tree())


def _failing(source):
    def fail(path, message):
        path = path if isinstance(path, str) else "/".join(path)
        raise InputError(": ".join(part for part in (source, path, message) if part))

    return fail


def _settled(node: Argument, config: dict, source: str) -> None:
    """dargs has the last word: what we completed must be what its own strict check accepts."""
    try:
        node.check_value(config, strict=True)
    except ArgumentError as e:
        raise InputError(f"{source}: {e.path}: {' '.join(str(e.message).split())}") from e
