"""How glibc's malloc keeps the memory of a command's process. With any other C library nothing changes."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def share_one_heap() -> None:
    """Of glibc's heaps, one a thread, arrays that go from stage to stage leave holes in each, more of them the longer
    the scan: 738 MB with 300 slices of 512 x 512, and 617 with one heap, in the same time."""
    _tune(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """What is freed stays with the process, for its next array of that size: for training in 2D.

    Else every large array is given back and asked for again, page by page: on a CPU up to half of a training step
    (benchmarks/training/step.py). The peak grows by a tenth at most; in 3D it grew by up to 60 %, for less gain.
    """
    _tune(_M_MMAP_MAX, 0)
    _tune(_M_TRIM_THRESHOLD, -1)


def _tune(parameter: int, value: int) -> None:
    if tune := getattr(ctypes.CDLL(None), "mallopt", None):
        tune(parameter, value)
