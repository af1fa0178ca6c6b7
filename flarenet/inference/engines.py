"""Where a network runs and in which number type."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ..errors import UsageError, unknown

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".

    Raises UsageError for a name that is no device, or a device that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    real = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if name not in real:
        if name == "cuda" or name.startswith("cuda:"):
            raise UsageError(f"device {name!r}", found=f"{count} CUDA devices", expected=", ".join(real))
        raise unknown("device", name, real)
    return torch.device(name)


def pick_precision(device: torch.device, precision: str) -> torch.dtype:
    """The number type of a word: "auto" is bfloat16 where the hardware computes in it, else float32.

    Raises UsageError for an unknown word.
    """
    if precision == "auto":
        return torch.bfloat16 if _computes_bf16(device) else torch.float32
    if precision not in PRECISIONS:
        raise unknown("precision", precision, ["auto", *PRECISIONS])
    return PRECISIONS[precision]


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context in which a network's forward pass runs; in float32 it does nothing."""
    dtype = pick_precision(device, precision)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch emulates bfloat16 on any CPU, slower than float32; only these instructions make it faster
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
