"""What torch would say of this machine, found without torch, whose import takes seconds."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
"""Any CPU can emulate bfloat16, slower than float32; only with these instructions it is faster."""


def computes_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16."""
    try:
        with open("/proc/cpuinfo") as lines:
            return any(BF16_FLAGS & set(line.split()) for line in lines if line.startswith("flags"))
    except OSError:  # a sandbox without /proc
        return False


def may_have_gpu() -> bool:
    """Whether torch may find a GPU. Where there is neither NVIDIA's driver nor AMD's it finds none."""
    if os.path.exists("/dev/kfd"):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def threads() -> int:
    """As many threads as torch takes; before it is imported, as many as it would take: one for each core, but at most
    MKL_NUM_THREADS or OMP_NUM_THREADS."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    asked = os.environ.get("MKL_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    most = asked.partition(",")[0].strip()
    cores = _cores()
    return min(cores, int(most)) if most.isdigit() and int(most) else cores


def _cores() -> int:
    """The cores that this process may use; a core that works on two threads is one."""
    return len({_core_of(number) for number in os.sched_getaffinity(0)})


def _core_of(number: int) -> str:
    siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
    return siblings.read_text() if siblings.exists() else str(number)
