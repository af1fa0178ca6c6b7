"""One process at a time: a folder belongs to the run that holds its lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLock, Timeout

from .errors import LockedError, StorageError

LOCK = ".lock"

_PATIENCE_S = 1.0
"""Seconds to try for a lock: enough to take over that of a process that has died."""

_POLL_S = 0.5
"""Seconds between attempts while waiting: a cluster's file system can bear that from many processes at once."""


@contextmanager
def locked(folder: Path, *, wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold the lock of `folder`, which is created if missing. Raises StorageError where it cannot be written.

    The lock is a file that names the process and the host of its holder: a cluster's file system may know no other kind
    of lock. If the holder ran on this host and has died, its lock is taken over. A holder on another host cannot be
    checked, so its lock stays.

    wait  called with a sentence that says who holds the folder, before waiting for it without limit. None: LockedError
          is raised within seconds where another process holds the folder
    """
    path = folder / LOCK
    lock = SoftFileLock(path, timeout=_PATIENCE_S)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as problem:
            holder = _holder(path)
            gone = f"if {holder} is certainly gone, remove {path}"
            if wait is None:
                raise LockedError(
                    folder,
                    found=f"in use by {holder}",
                    expected="no other run in this folder",
                    remedy=f"wait until it has ended; {gone}",
                ) from problem
            wait(f"{folder} is in use by {holder}: waiting until it ends; {gone}")
            lock.acquire(timeout=-1, poll_interval=_POLL_S)
    except OSError as problem:
        found = problem.strerror or problem
        raise StorageError(path, found=found, expected="a folder that can be written") from problem
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        match path.read_text(encoding="utf-8").split():
            case [process, host, *_]:
                return f"process {process} on {host}"
    return "an unknown process"
