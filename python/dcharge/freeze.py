"""Freezing: from a checkpoint to one file that holds everything prediction needs. `dcharge freeze`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import torch

from . import __version__, checkpoint
from .errors import InputError, log
from .models import Model, make_model

VERSION = 1

# version n -> function that turns the content of version n into that of version n + 1
MIGRATIONS: dict = {}


def now() -> str:
    """Date and time of a file's making, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def freeze(path=".", output="frozen.pth") -> Path:
    """Write the model of a checkpoint (file, or folder holding `checkpoint`) to `output`.

    From a folder the best checkpoint on the validation data is taken where there is one, else the newest.
    Averaged weights (EMA) are taken where training kept them. Returns the path written.
    """
    source = checkpoint.resolve(path)
    if Path(path).is_dir():
        best = best_checkpoint(source)
        if best is not None:
            log.info(f"{best.name}: best on the validation data (name a model.ckpt-*.pt file to freeze another)")
            source = best
    content = checkpoint.load(source, checkpoint.CHECKPOINT)
    config, run = checkpoint.section(content, "config"), checkpoint.section(content, "run")
    model = make_model(config["model"])
    state = checkpoint.tensors(content, "state") | checkpoint.tensors(content, "ema")
    checkpoint.fill(model, state, source)
    meta = {
        "dcharge": __version__,
        "torch": torch.__version__,
        "created": now(),
        "checkpoint": source.name,
        "step": run["step"],
        "validation_nmae_percent": run["best"],
        "species": run.get("species"),
        "training": config["training"],
        "loss": config["loss"],
    }
    save_frozen(model, output, meta)
    log.info(f"model saved: {output} (step {run['step']} of {source.name})")
    return Path(output)


def best_checkpoint(newest: Path) -> Path | None:
    """The best-validation checkpoint of the run that `newest` (model.ckpt-<step>.pt) belongs to, if it exists."""
    best = newest.with_name(newest.stem.rsplit("-", 1)[0] + ".best.pt")
    return best if best.is_file() else None


def save_frozen(model: Model, path, meta: dict) -> None:
    """Write a frozen model: flat {format, version, config: JSON, meta: JSON, "state/<name>": tensor}."""
    content = {"format": checkpoint.FROZEN, "version": VERSION, "config": json.dumps(model.config)}
    content["meta"] = json.dumps(meta)
    content |= {f"state/{name}": tensor.cpu() for name, tensor in model.state_dict().items()}
    checkpoint.save(path, content)


def add_verdict(path, name: str, found: dict, systems) -> None:
    """Put what a test on `systems` found into meta/`name` of a frozen model; the file is replaced as a whole."""
    model, meta = load_frozen(path)
    meta[name] = {**found, "systems": [str(s) for s in systems], "created": now()}
    save_frozen(model, path, meta)


def load_frozen(path, device="cpu") -> tuple[Model, dict]:
    """Model (in evaluation mode) and its meta data from a frozen file.

    Raises InputError for files of other programs, of a newer version, or with tensors that do not fit.
    """
    content = checkpoint.load(path, checkpoint.FROZEN, device)
    if content["version"] > VERSION:
        raise InputError(
            f"{path}: frozen model of version {content['version']}; this dcharge {__version__} reads up to version "
            f"{VERSION}: install a newer dcharge"
        )
    while content["version"] < VERSION:
        if content["version"] not in MIGRATIONS:
            raise InputError(f"{path}: frozen model of unknown version {content['version']}")
        content = MIGRATIONS[content["version"]](content)
    try:
        model = make_model(checkpoint.section(content, "config")).to(device)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged frozen model (configuration: {type(error).__name__} {error})") from error
    checkpoint.fill(model, checkpoint.tensors(content, "state"), path)
    return model.eval().requires_grad_(False), checkpoint.section(content, "meta")
