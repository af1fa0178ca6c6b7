"""Whether a file or a scan is still what was read: by size, time and inode, or by its bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..schema import Frozen, digest
from ..whole import sha256_of


class FileState(Frozen):
    """A file as it was when it was read."""

    size: int
    mtime_ns: int
    inode: int
    sha256: str


def state_of(path: Path) -> FileState:
    """The state of a file as it is now; this reads all its bytes. Raises OSError."""
    found = path.stat()
    return FileState(size=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino, sha256=sha256_of(path))


def looks_unchanged(path: Path | None, state: FileState | None) -> bool:
    """Whether size, time and inode of a file are those of `state`; the file is not opened. None equals None."""
    if path is None or state is None:
        return path is None and state is None
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns, found.st_ino) == (state.size, state.mtime_ns, state.inode)


class ScanState(Frozen):
    """A scan, a file or a folder of DICOM slices, as it was when it was read. It is as large for any number of slices.

    stat    as stat_of gives it
    sha256  as sha256_of_scan gives it
    """

    stat: str
    sha256: str


def stat_of(scan: Path) -> str | None:
    """A digest of name, size, time and inode of a scan's files, which are not opened; None where one is not there or
    cannot be looked at."""
    try:
        found = [(file, file.stat()) for file in _files_of(scan)]
    except OSError:
        return None
    return digest([(file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for file, stat in found])


def sha256_of_scan(scan: Path) -> str:
    """The SHA-256 of a file's bytes; of a folder that of the lines "SHA-256  NAME" of its files by name, as sha256sum
    prints them. Raises OSError."""
    if not scan.is_dir():
        return sha256_of(scan)
    lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in _files_of(scan))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _files_of(scan: Path) -> list[Path]:
    if not scan.is_dir():
        return [scan]
    return sorted(path for path in scan.iterdir() if path.is_file() and path.name[0] != ".")
