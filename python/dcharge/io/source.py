"""Where bytes come from: a file, plain or compressed, or a member of a tar file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import mmap
import os
import tarfile
import zlib
from pathlib import Path

from .. import _io
from ..errors import InputError

SUFFIXES = (".gz", ".zz", ".xz", ".bz2", ".lz4", ".zst")
PACKAGES = {".lz4": ("lz4.frame", "lz4"), ".zst": ("zstandard", "zstandard")}


class _ZlibReader(io.RawIOBase):
    """Reads a .zz file (bare zlib stream)."""

    def __init__(self, stream):
        self.stream, self.inflate = stream, zlib.decompressobj()

    def readable(self):
        return True

    def readinto(self, target):
        while not self.inflate.eof:
            data = self.inflate.unconsumed_tail or self.stream.read(1 << 16)
            out = self.inflate.decompress(data, len(target))
            if out:
                target[: len(out)] = out
                return len(out)
            if not data:
                raise EOFError("the compressed data end early")
        return 0

    def close(self):
        self.stream.close()
        super().close()


class _ZlibWriter(io.RawIOBase):
    def __init__(self, path):
        self.stream, self.deflate = open(path, "wb"), zlib.compressobj(6)

    def writable(self):
        return True

    def write(self, data):
        self.stream.write(self.deflate.compress(data))
        return len(data)

    def close(self):
        if not self.closed:
            try:
                self.stream.write(self.deflate.flush())
            finally:
                self.stream.close()
                super().close()


def compression(name) -> str:
    """The compression suffix of a file name, or ''."""
    suffix = os.path.splitext(str(name))[1].lower()
    return suffix if suffix in SUFFIXES else ""


def stem(name) -> str:
    """File name without folder and compression suffix."""
    name = os.path.basename(str(name))
    return name[: len(name) - len(compression(name))]


def _package(suffix: str, label):
    module, package = PACKAGES[suffix]
    try:
        return __import__(module, fromlist=["_"])
    except ImportError:
        raise InputError(f"{label}: {suffix} files need the package '{package}' (pip install {package})") from None


def compressor(path, part):
    """Open `part` for writing bytes, compressed as the suffix of `path` says."""
    suffix = compression(path)
    if suffix == ".gz":
        return gzip.open(part, "wb", compresslevel=4)
    if suffix == ".zz":
        return _ZlibWriter(part)
    if suffix == ".xz":
        return lzma.open(part, "wb", preset=2)
    if suffix == ".bz2":
        return bz2.open(part, "wb")
    if suffix == ".lz4":
        return _package(suffix, path).open(part, "wb")
    if suffix == ".zst":
        return _package(suffix, path).open(part, "wb")
    return open(part, "wb")


class Source:
    """A named run of bytes, decompressed on reading.

    path    the file on disk
    name    what messages call it (the file, or `archive.tar:member`)
    offset, size  for a member of a tar file: where it lies in `path` (offset -1: the tar itself is compressed)
    """

    def __init__(self, path, name=None, offset=None, size=None):
        self.path = Path(path)
        self.name = str(path if name is None else name)
        self.offset, self.size = offset, size

    def __repr__(self):
        return f"Source({self.name!r})"

    @property
    def stem(self) -> str:
        """Name without folder, archive and compression suffix: what tells the format."""
        return stem(self.name.rsplit(":", 1)[-1] if self.offset is not None else self.name)

    @property
    def is_member(self) -> bool:
        """Whether it lies inside a tar file."""
        return self.offset is not None

    def _open_raw(self):
        if self.is_member:
            if self.offset < 0:
                with tarfile.open(self.path, "r:*") as archive:
                    data = archive.extractfile(self.name[len(str(self.path)) + 1 :]).read()
            else:
                with open(self.path, "rb") as stream:
                    stream.seek(self.offset)
                    data = stream.read(self.size)
            if len(data) != self.size:
                raise InputError(f"{self.name}: the tar file ends early")
            return io.BytesIO(data)
        return open(self.path, "rb")

    def open(self):
        """Binary stream of the decompressed bytes."""
        suffix = compression(self.name)
        with self.errors():
            raw = self._open_raw()
            if suffix == ".gz":
                return gzip.open(raw)
            if suffix == ".zz":
                return io.BufferedReader(_ZlibReader(raw))
            if suffix == ".xz":
                return lzma.open(raw)
            if suffix == ".bz2":
                return bz2.open(raw)
            if suffix in PACKAGES:
                return _package(suffix, self.name).open(raw, "rb")
            return raw

    def head(self, n: int = 8192) -> bytes:
        """The first n decompressed bytes."""
        with self.errors(), self.open() as stream:
            return stream.read(n)

    def data(self):
        """All decompressed bytes: bytes, or a read-only map of a plain file."""
        with self.errors():
            if not compression(self.name) and not self.is_member:
                with open(self.path, "rb") as stream:
                    if os.fstat(stream.fileno()).st_size == 0:
                        return b""
                    return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            with self._open_raw() as raw:
                data = raw.read()
            suffix = compression(self.name)
            if suffix == ".gz":
                return gzip.decompress(data)
            if suffix == ".zz":
                inflate = zlib.decompressobj()
                out = inflate.decompress(data)
                if not inflate.eof:
                    raise EOFError("the compressed data end early")
                return out
            if suffix == ".xz":
                return lzma.decompress(data)
            if suffix == ".bz2":
                return bz2.decompress(data)
            if suffix in PACKAGES:
                return _package(suffix, self.name).open(io.BytesIO(data), "rb").read()
            return data

    def errors(self):
        """Context that turns what can go wrong while reading bytes into a one-line InputError."""
        return _Errors(self.name)


class _Errors:
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{self.name}: no such file") from error
        if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)):
            raise InputError(f"{self.name}: the compressed data are damaged or end early") from error
        if isinstance(error, _io.ParseError):
            raise InputError(f"{self.name}: {error}") from error
        if isinstance(error, OSError):
            text = error.strerror or str(error)
            raise InputError(f"{self.name}: {text}") from error
        if kind in (RuntimeError, ValueError) and any(
            w in str(error) for w in ("frame", "Compressed data")
        ):  # lz4, bz2
            raise InputError(f"{self.name}: the compressed data are damaged or end early") from error
        return False


class Lines:
    """Header lines of a text, counted, with errors that say file and line.

    stream: seekable or not, with readline(); `number` is the line last read.
    """

    def __init__(self, stream, label: str, number: int = 0):
        self.stream, self.label, self.number = stream, label, number
        self.text = b""

    def fail(self, message: str, line: int | None = None):
        """Raise InputError at the line last read."""
        raise InputError(f"{self.label}: line {self.number if line is None else line}: {message}")

    def read(self, what: str) -> str:
        """The next line; `what` was expected there if the file ends."""
        self.text = self.stream.readline()
        self.number += 1
        if not self.text:
            self.fail(f"the file ends where {what} was expected")
        return self.text.decode("latin-1").rstrip("\r\n")

    def numbers(self, what: str, least: int, most: int | None = None, integers: int = 0) -> list:
        """Leading numbers of the next line, finite, at least `least` of them; the first `integers` must be whole."""
        text = self.read(what)
        found = _io.numbers(self.text, most or least)
        if len(found) < least or not all(map(math.isfinite, found)):
            self.fail(f"{what} expected, found '{text.strip()[:60]}'")
        for i in range(min(integers, len(found))):
            if found[i] != int(found[i]):
                self.fail(f"{what} expected, found '{text.strip()[:60]}'")
            found[i] = int(found[i])
        return found
