"""Files that are there and cannot be read, also by root, whom no permission stops."""

import builtins
import errno


def refuse_to_open(monkeypatch, path):
    """Have open() fail for this file as on a disk that is failing."""
    whole = builtins.open

    def failing(file, *more, **how):
        if str(file) == str(path):
            raise OSError(errno.EIO, "Input/output error", str(file))
        return whole(file, *more, **how)

    monkeypatch.setattr(builtins, "open", failing)
