"""In which order the numbers of an image and of a network lie in memory while it is trained."""

from __future__ import annotations

import torch


def training_order(dimensions: int, device: torch.device) -> torch.memory_format:
    """The order in which a step is fastest (benchmarks/training/step.py): channels last on nearly everything.

    dimensions  of the network: 2 or 3

    On a CPU without AVX-512 oneDNN's gradient of 2D weights takes up to three times as long in that order as with
    channels first, which there makes the whole step a quarter to a third faster; in 3D it is the other way round.
    """
    if dimensions == 2 and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return torch.contiguous_format
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d
