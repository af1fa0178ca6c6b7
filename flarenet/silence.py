"""Warnings of other libraries that nobody is to see, in any thread."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_TURN = threading.RLock()


@contextmanager
def silent(*categories: type[Warning], message: str = "") -> Iterator[None]:
    """Within this context no warning of `categories`, or none at all, is shown where its text begins with `message`.

    What is shown is a setting of the whole process. Of two contexts that overlap in two threads, the one that ends
    first would let the other one's warnings through, and the one that ends last would leave all silent from then on. So
    they take turns: one thread waits for the other.
    """
    with _TURN, warnings.catch_warnings():
        for category in categories or (Warning,):
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
