"""The number of threads that torch uses in a command's process."""

from __future__ import annotations

import os

from ..data.memory import processors


def keep_to_quota() -> None:
    """Let torch, and libraries that use as many threads, start no more of them than processors are granted.

    Call it before numpy and torch are imported, which would start a thread for each core of the machine. In a container
    that is granted two of 64, most of these would be idle most of the time, and the others would wait for them.
    OMP_NUM_THREADS is kept if it is already set.
    """
    granted = processors()
    if granted < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(granted))
