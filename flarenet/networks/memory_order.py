"""The memory format of images and networks during training."""

from __future__ import annotations

import torch


def training_order(dimensions: int, device: torch.device) -> torch.memory_format:
    """The format in which a training step is fastest (benchmarks/training/step.py): nearly always channels last.

    dimensions  those of the network: 2 or 3

    The exception is 2D on a CPU with AVX2 but not AVX-512: there oneDNN computes the gradient of weights slowly in that
    format. With channels first, the backward pass of the paper's network takes a third of the time. In 3D the whole
    step would be slower with channels first.
    """
    if dimensions == 2 and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return torch.contiguous_format
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d
