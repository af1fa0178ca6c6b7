"""Whether a file is still what was read: by size, time and inode, or by its bytes."""

from __future__ import annotations

from pathlib import Path

from ..schema import Frozen
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
