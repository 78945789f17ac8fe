"""Foreign model -> frozen model, `dcharge convert-from`."""

from __future__ import annotations

from pathlib import Path

from .. import __version__
from ..errors import log
from ..freeze import now, save_frozen
from ..io.replacing import check_folder
from . import deepdft, deepmd

# format -> module with `convert(path, ...) -> (model, where it comes from)`
FORMATS = {"deepdft": deepdft, "deepmd": deepmd}


def convert_from(format: str, path, output="frozen.pth", **options) -> Path:
    """Write the model in `path` (a file or folder) of another program as a frozen model; returns the path written.

    options: of the format's `convert`. Raises InputError in one line.
    """
    check_folder(output)
    model, source = FORMATS[format].convert(path, **options)
    save_frozen(model, output, {"dcharge": __version__, "created": now(), "checkpoint": Path(path).name, **source})
    log.info(f"model saved: {output} ({', '.join(model.type_map)}; {model.config['precision']})")
    return Path(output)
