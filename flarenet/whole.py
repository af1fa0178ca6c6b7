"""Whole or not at all: a file appears under its final name complete, or it does not appear.

The new content goes to a temporary name in the same folder, is flushed to the disk, then renamed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StorageError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it takes the place of `path`.

    On any error the temporary file is removed and `path` is as it was. Raises StorageError when the
    folder cannot be written.
    """
    target = Path(path)
    # the suffix stays last, because writers (matplotlib, nibabel) choose the format by it
    temporary = target.with_name(f".{secrets.token_hex(6)}.tmp.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
        _flush(target.parent)
    except OSError as error:
        raise StorageError(
            target, found=error.strerror or error, expected="a folder that can be written, with room for the file"
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files and folders, for `name` (a glob pattern) in `folder`, that killed processes left.

    Nobody may be writing there. `.old.` is what was moved aside for a folder to take its place.
    """
    for kind in ("tmp", "old"):
        for leftover in folder.glob(f".*.{kind}.{name}"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
