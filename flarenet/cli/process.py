"""Settings of a command's process: torch's threads and glibc's malloc. With another C library those of malloc do
nothing."""

from __future__ import annotations

import ctypes
import os

from ..data.memory import processors

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def keep_to_quota() -> None:
    """Let torch, and libraries that use as many threads, start no more of them than processors are granted.

    Call it before numpy and torch are imported, which would start a thread for each core of the machine. In a container
    that is granted two of 64, most of these would be idle most of the time, and the others would wait for them.
    OMP_NUM_THREADS is kept if it is already set.
    """
    granted = processors()
    if granted < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(granted))


def share_one_heap() -> None:
    """Use one heap for all threads, for prediction.

    glibc has a heap per thread. Arrays passed from stage to stage leave holes in each heap, more of them the longer the
    scan is: 300 slices of 512 x 512 take 738 MB, with one heap 617 MB, in the same time.
    """
    _tune(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Keep freed memory in the process, for its next array of that size. For training in 2D.

    Otherwise every large array is returned to the system and requested again, page by page, which on a CPU takes up to
    half of a training step (benchmarks/training/step.py). Peak memory grows by a tenth at most. In 3D it grew by up to
    60 %, for less gain.
    """
    _tune(_M_MMAP_MAX, 0)
    _tune(_M_TRIM_THRESHOLD, -1)


def _tune(parameter: int, value: int) -> None:
    if tune := getattr(ctypes.CDLL(None), "mallopt", None):
        tune(parameter, value)
