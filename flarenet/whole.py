"""Atomic writes: a file appears under its final name complete, or not at all.

The new content goes to a temporary name in the same folder, is flushed to the disk, then renamed.

Tests of what a killed process leaves behind set FLARENET_FAILPOINT=PATTERN:STAGE. The process then kills itself, as by
kill -9, when a file whose name fits PATTERN is at STAGE: open, half, written, flushed or replaced.
"""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import io
import os
import secrets
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from fnmatch import fnmatch
from itertools import count
from pathlib import Path

from .errors import NoRoom, StorageError

FAILPOINT = "FLARENET_FAILPOINT"

_LONGEST_END_BYTES = 255 - len(".0123456789ab.tmp.")
"""How much of the final name a temporary name can hold: most file systems allow names of 255 bytes."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of a disk that takes no other file either."""

_waiting = ContextVar[dict[Path, Path] | None]("_waiting", default=None)
"""Complete files that wait for their names, by their temporary ones, within `together`."""

_CANNOT_BE_FLUSHED = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES}
"""Error numbers of opening or flushing a folder that are no failure: some network file systems cannot flush folders,
and a folder may be writable but not readable."""


@contextmanager
def whole_file(path: str | Path, *, size_bytes: int | None = None) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on a clean exit it replaces `path`, but see together.

    On an error the temporary file is removed and `path` is unchanged, unless only the last flush of the folder failed.
    Raises StorageError where the folder cannot be written, NoRoom where the whole disk is full or read-only; it names
    the free space and, where given, `size_bytes`.
    """
    target = Path(path)
    temporary = temporary_of(target)
    waiting: dict[Path, Path] | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fail_at("open", target, temporary)
        yield temporary
        _fail_at("half", target, temporary)
        _fail_at("written", target, temporary)
        _flush(temporary)
        _fail_at("flushed", target, temporary)
        if (waiting := _waiting.get()) is None:
            _take_name(temporary, target)
        else:
            waiting[temporary] = target
    except OSError as error:
        raise not_written(target, error, size_bytes=size_bytes) from error
    finally:
        if waiting is None:
            _remove(temporary)


@contextmanager
def together() -> Iterator[None]:
    """Within this context a file that whole_file completes in this thread waits under its temporary name. On a clean
    exit all of them take their names, in order; after an error none does, and earlier files of these names stay. Only
    where one cannot take its name, those that took theirs before it are removed: part of an answer is none.

    Raises as whole_file.
    """
    waiting, named = dict[Path, Path](), list[Path]()
    token = _waiting.set(waiting)
    try:
        yield
        for temporary, target in waiting.items():
            named.append(target)
            try:
                _take_name(temporary, target)
            except OSError as error:
                for file in named:
                    _remove(file)
                raise not_written(target, error) from error
    finally:
        _waiting.reset(token)
        for temporary in waiting:
            _remove(temporary)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`. At the end it is removed, unless it was renamed: to `target`, once all is in
    it."""
    temporary = temporary_of(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_of(target: Path) -> Path:
    """A new temporary path next to `target`; if it outlives its process, remove_leftovers_of finds it."""
    return target.with_name(f".{secrets.token_hex(6)}.tmp.{temporary_end(target.name)}")


def temporary_end(name: str) -> str:
    """The end of a temporary name: the final `name`, because writers (matplotlib, nibabel) choose the format by the
    suffix. A name that is too long loses its start."""
    encoded = os.fsencode(name)
    short = len(encoded) <= _LONGEST_END_BYTES
    return name if short else encoded[-_LONGEST_END_BYTES:].decode(errors="ignore")


def not_written(
    target: Path, error: OSError, *, size_bytes: int | None = None, kind: type[StorageError] | None = None
) -> StorageError:
    """The error that whole_file raises: why `target` could not be written, and how much room there is. If no `kind` is
    given, that of a disk which is full or cannot be written at all is NoRoom."""
    kind = kind or (NoRoom if error.errno in _NO_ROOM else StorageError)
    room = "the file" if size_bytes is None else f"{size_bytes} bytes"
    return kind(
        target,
        found=f"{error.strerror or error}{_free(target.parent)}",
        expected=f"a folder that can be written, with room for {room}",
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise StorageError where the body cannot read `path`, which is there: its content may be sound, so it is not
    taken for a damaged file. Where there is no such file, and of what a library says of its content, OSError stays.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.ENOENT, errno.ENOTDIR):
            raise
        raise StorageError(
            path,
            found=error.strerror or error,
            expected="a file that can be read",
            remedy="look after its disk, or whom its permissions let read it; then start the same command again",
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all; bytes of a file name that is not UTF-8 become \\udcXX."""
    content = text.encode(errors="backslashreplace")
    with whole_file(path, size_bytes=len(content)) as temporary:
        temporary.write_bytes(content)


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, whole or not at all; None becomes an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def move_aside(path: Path) -> Path:
    """Rename a file to the first free of STEM.previous.EXT, STEM.previous-2.EXT, and so on; returns the new path."""
    aside = _first_free(path)
    os.rename(path, aside)
    return aside


def copy_aside(path: Path) -> Path:
    """As move_aside, but copy the file, which stays where it is; returns the path of the copy."""
    aside = _first_free(path)
    with whole_file(aside) as temporary:
        shutil.copyfile(path, temporary)
    return aside


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left in `folder`: temporary files and folders, and folders moved aside (`.old.`) to
    be replaced. No other process may be writing there.

    name  a glob pattern that the final names must match; for a long name, its temporary_end
    """
    for kind in ("tmp", "old"):
        for leftover in folder.glob(f".*.{kind}.{name}"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def remove_leftovers_of(files: Iterable[Path]) -> None:
    """Remove what killed processes left of just these `files`, by their final names. Others may be writing in their
    folders."""
    ends: dict[Path, set[str]] = {}
    for file in files:
        ends.setdefault(file.parent, set()).add(temporary_end(file.name))
    for folder, ours in ends.items():
        left = {leftover.name.partition(".tmp.")[2] for leftover in folder.glob(".*.tmp.*")}
        for end in left & ours:
            remove_leftovers(folder, glob.escape(end))


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where its file system and permissions allow that.

    Raises OSError where the disk fails.
    """
    try:
        _flush(folder)
    except OSError as error:
        if error.errno not in _CANNOT_BE_FLUSHED:
            raise


def _take_name(temporary: Path, target: Path) -> None:
    os.replace(temporary, target)
    _fail_at("replaced", target, temporary)
    flush_folder(target.parent)


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # after a clean exit it is gone; where it cannot be removed, the error raised says why
        temporary.unlink()


def _first_free(path: Path) -> Path:
    names = (f"{path.stem}.previous{'' if n == 1 else f'-{n}'}{path.suffix}" for n in count(1))
    return next(aside for name in names if not (aside := path.with_name(name)).exists())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(folder: Path) -> str:
    try:
        return f", {shutil.disk_usage(folder).free} bytes free" if folder.is_dir() else ""
    except OSError:  # no permission, or a name that is too long
        return ""


def _fail_at(stage: str, target: Path, temporary: Path) -> None:
    pattern, _, wanted = os.environ.get(FAILPOINT, "").rpartition(":")
    if stage == wanted and fnmatch(target.name, pattern):
        if stage == "half":
            os.truncate(temporary, temporary.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
