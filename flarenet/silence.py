"""Hide warnings of other libraries, safely with several threads."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_TURN = threading.RLock()


@contextmanager
def silent(*categories: type[Warning], message: str = "") -> Iterator[None]:
    """Context that hides warnings of `categories` (default: all) whose text starts with the regex `message`.

    Warning filters belong to the whole process. If contexts of two threads overlapped, the first to end would let the
    other's warnings through, and the last would leave them hidden for good. So one thread waits for the other.
    """
    with _TURN, warnings.catch_warnings():
        for category in categories or (Warning,):
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
