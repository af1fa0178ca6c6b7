"""Files that are there and cannot be read, also by root, whom no permission stops."""

import builtins
import errno


def make_unreadable(path):
    """Put a file at `path` that opens, but of which no byte can be read: as on a disk that is failing."""
    path.unlink()
    path.symlink_to("/proc/self/mem")  # nothing is mapped at address 0, so that a read is an I/O error


def refuse_to_open(monkeypatch, path):
    """Have open() fail for this file as on a disk that is failing."""
    whole = builtins.open

    def failing(file, *more, **how):
        if str(file) == str(path):
            raise OSError(errno.EIO, "Input/output error", str(file))
        return whole(file, *more, **how)

    monkeypatch.setattr(builtins, "open", failing)
