"""The one way dcharge writes: to a temporary name beside the target, renamed when it is whole."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from ..errors import InputError


def _reason(error: Exception) -> str:
    found = re.search(r"error message = '([^']*)'", str(error))  # HDF5 wraps what the system said
    return (
        found[1] if found else (getattr(error, "strerror", None) or str(error) or type(error).__name__).split("\n")[0]
    )


@contextlib.contextmanager
def _one_line(path):
    """What goes wrong with a disk becomes an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from error
    except RuntimeError as error:  # torch.save and HDF5 do not always raise OSError
        if not any(word in str(error).lower() for word in ("failed writing", "write failed", "no space")):
            raise
        raise InputError(f"cannot write {path}: {_reason(error)[:120]}") from error


@contextlib.contextmanager
def replacing(path, folder: bool = False):
    """Yield a temporary Path in the folder of `path`; rename it to `path` if the block ends without an exception.

    On an exception nothing is left. An OSError (no such folder, disk full) becomes a one-line InputError.
    `folder`: the temporary path is a new directory; `path` may then not exist, unless as an empty directory.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe is written as it is
        with _one_line(path):
            yield path
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _one_line(path):
        check_folder(path)
        if folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"cannot write {path}: it exists already")
        if not folder and path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder")
        try:
            if folder:
                part.mkdir()
            yield part
            os.replace(part, path)
        except BaseException:
            _remove(part)
            raise


@contextlib.contextmanager
def continuing(path):
    """Yield `path`.part, to be written row by row; renamed to `path` if the block ends without an exception, else kept.

    For tables whose rows cost time each. A device or a pipe is written as it is.
    """
    path = Path(path)
    part = path if path.exists() and not path.is_file() and not path.is_dir() else Path(f"{path}.part")
    with _one_line(path):
        check_folder(path)
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder")
        yield part
        if part != path:
            os.replace(part, path.resolve() if path.is_symlink() else path)


def check_folder(path) -> None:
    """InputError where the folder of `path` is missing: to be told before a long computation."""
    if not Path(path).parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {Path(path).parent}")


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink()


@contextlib.contextmanager
def replacing_file(path):
    """As `replacing`, yielding an open binary file, compressed as the suffix of `path` says."""
    from .source import compressor

    with replacing(path) as part, compressor(path, part) as stream:
        yield stream
