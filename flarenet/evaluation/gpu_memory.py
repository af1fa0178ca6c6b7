"""GPU memory in use, from NVIDIA's management library, which needs no CUDA and takes no GPU memory itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pynvml

from ..errors import UsageError

MB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """A GPU whose memory can be read."""

    name: str
    handle: Any

    def used_mb(self) -> float:
        """The memory in use by all processes together, without what the driver reserves, as nvidia-smi shows it."""
        return pynvml.nvmlDeviceGetMemoryInfo(self.handle, version=pynvml.nvmlMemory_v2).used / MB


def find_gpu(index: int | None = None) -> Gpu | None:
    """The GPU that a command would use: number `index`, else the first of CUDA_VISIBLE_DEVICES, else number 0.

    None where there is no GPU, or CUDA_VISIBLE_DEVICES hides them all. Raises UsageError where there is no GPU `index`.
    """
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:  # no driver, or one that does not respond
        count = 0
    if index is not None and index >= count:
        expected = f"0 to {count - 1}" if count else "none: there is no GPU"
        raise UsageError(f"--gpu {index}", found=f"{count} GPUs", expected=expected)
    if not count:
        return None
    handle = pynvml.nvmlDeviceGetHandleByIndex(index) if index is not None else _visible()
    return None if handle is None else Gpu(str(pynvml.nvmlDeviceGetName(handle)), handle)


def _visible() -> Any:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        if first.isdigit():
            return pynvml.nvmlDeviceGetHandleByIndex(int(first))
        return pynvml.nvmlDeviceGetHandleByUUID(first) if first.startswith(("GPU-", "MIG-")) else None
    except pynvml.NVMLError:  # CUDA would not see it either
        return None
