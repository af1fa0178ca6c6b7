"""In which order the numbers of an image and of a network lie in memory while it is trained."""

from __future__ import annotations

import torch


def training_order(dimensions: int, device: torch.device) -> torch.memory_format:
    """The order in which a step is fastest (benchmarks/training/step.py): channels last on nearly everything.

    dimensions  of the network: 2 or 3

    On a CPU without AVX-512 oneDNN's gradient of 2D weights is slow in that order: with channels first the backward
    pass of the paper's network takes a third of the time. In 3D the whole step is slower with them.
    """
    if dimensions == 2 and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return torch.contiguous_format
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d
