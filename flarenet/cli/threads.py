"""How many threads torch takes in the process of a command."""

from __future__ import annotations

import os

from ..data.memory import processors


def keep_to_quota() -> None:
    """Let torch, and what takes as many threads as torch, start no more of them than processors are granted.

    Called before numpy and torch are imported, which would take a thread for each core of the machine. In a container
    that is granted two of 64, most of these would stand still most of the time, and the others would wait for them.
    Where OMP_NUM_THREADS is set already, it stays.
    """
    granted = processors()
    if granted < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(granted))
