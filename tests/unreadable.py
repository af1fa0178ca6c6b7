"""Files that are there and cannot be read, also by root, whom no permission stops."""

import builtins
import errno
from itertools import count


def make_unreadable(path):
    """Put a file at `path` that opens, but of which no byte can be read: as on a disk that is failing."""
    path.unlink()
    path.symlink_to("/proc/self/mem")  # nothing is mapped at address 0, so that a read is an I/O error


def refuse_to_open(monkeypatch, path, *, since=1):
    """Have open() fail for this file, from the time number `since` on, as on a disk that is failing."""

    def fail():
        raise OSError(errno.EIO, "Input/output error", str(path))

    at_opening(monkeypatch, path, fail, since=since)


def at_opening(monkeypatch, path, act, *, since=1):
    """Have open() call act() before it opens this file for the time number `since` and whenever after that."""
    whole, times = builtins.open, count(1)

    def watched(file, *more, **how):
        if str(file) == str(path) and next(times) >= since:
            act()
        return whole(file, *more, **how)

    monkeypatch.setattr(builtins, "open", watched)
