"""Files that hold models: checkpoints of a training run and frozen models. Tensors and JSON only, never code."""

from __future__ import annotations

import io
import json
import re
import warnings
from pathlib import Path

import torch

from .errors import InputError
from .io.replacing import replacing

CHECKPOINT = "dcharge-checkpoint"
FROZEN = "dcharge"
VERSION = 1  # of checkpoints


def save(path, content: dict) -> None:
    """torch.save under a temporary name, then rename: a crash or a full disk leaves the old file intact."""
    buffer = io.BytesIO()
    torch.save(content, buffer)  # straight to a full disk it raises what nobody understands
    with replacing(path) as temporary:
        Path(temporary).write_bytes(buffer.getbuffer())


def load(path, expected: str, device="cpu") -> dict:
    """Read a file written by `save` and check that it is `expected` (CHECKPOINT or FROZEN).

    Raises InputError in one line: missing, unreadable, of another program, or holding code instead of tensors.
    """
    path = Path(path)
    what = "frozen model" if expected == FROZEN else "checkpoint"
    if not path.is_file():
        raise InputError(f"{path}: no such file ({what} expected){_newest(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript files, such as DeePMD-kit's; the error below says enough
            content = torch.load(path, map_location=device, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many types on foreign files; each means the same to the user
        raise InputError(f"{path}: not a dcharge {what} ({type(error).__name__} while reading it)") from error
    if not isinstance(content, dict) or content.get("format") not in (CHECKPOINT, FROZEN):
        raise InputError(f"{path}: not a dcharge {what} (a file of another program)")
    if content["format"] != expected:
        hint = "run 'dcharge freeze' first" if expected == FROZEN else "training needs a model.ckpt file"
        raise InputError(f"{path}: a {content['format']} file, not a {what}; {hint}")
    if not isinstance(content.get("version"), int):
        raise InputError(f"{path}: the {what} has no version number")
    for name in ("config", "run" if expected == CHECKPOINT else "meta"):
        try:
            json.loads(content[name])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: damaged {what} (no readable '{name}')") from error
    if expected == CHECKPOINT and content["version"] > VERSION:
        raise InputError(f"{path}: checkpoint of version {content['version']}; this dcharge reads up to {VERSION}")
    return content


def _newest(path: Path) -> str:
    """`; there is model.ckpt-5000.pt` where `path` is the prefix of checkpoints, or an empty string."""
    pattern = re.compile(re.escape(path.name) + r"-\d+\.pt")
    found = [p for p in path.parent.glob("*.pt") if pattern.fullmatch(p.name)]
    return f"; there is {max(found, key=lambda p: p.stat().st_mtime_ns)}" if found else ""


def tensors(content: dict, prefix: str) -> dict:
    """The entries `<prefix>/<name>` as {name: tensor}."""
    return {k[len(prefix) + 1 :]: v for k, v in content.items() if k.startswith(prefix + "/")}


def fill(model: torch.nn.Module, state: dict, path) -> None:
    """Put tensors into a model; InputError where they do not fit it."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path}: damaged ({' '.join(str(error).split())[:200]})") from error
    bad = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise InputError(f"{path}: damaged ({bad[0]} holds nan or inf)")


def section(content: dict, name: str):
    """A JSON entry, decoded."""
    return json.loads(content[name])


def resolve(path) -> Path:
    """A checkpoint file from a file or a folder (the file `checkpoint` in a folder names the newest one).

    Raises InputError where there is none.
    """
    path = Path(path)
    if path.is_dir():
        pointer = path / "checkpoint"
        if not pointer.is_file():
            raise InputError(f"{path}: no file 'checkpoint' in this folder; train first or name a model.ckpt-*.pt file")
        return path / pointer.read_text().strip()
    if not path.exists() and Path(f"{path}.pt").exists():
        return Path(f"{path}.pt")
    return path
