"""All logits of a slice of the scan, interpolated as upsample says; for probabilities, and on a GPU for labels too."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .upsample import Mix, NetworkSlice, mixed, source_slices


def logits_between(lower: NetworkSlice, upper: NetworkSlice, share: float) -> dict[str, Tensor]:
    """{group: float32 [1 + n, Y, X]}: all logits of the slice that labels_between answers; for probabilities."""
    between = Mix.of(lower, upper, share)
    return {group: _all(between, group) for group in lower.logits}


def labels_on_gpu(lower: NetworkSlice, upper: NetworkSlice, share: float) -> dict[str, np.ndarray]:
    """As labels_between, for logits on a GPU."""
    every = torch.stack([best(logits) for logits in logits_between(lower, upper, share).values()])
    return dict(zip(lower.logits, every.cpu().numpy()))  # the CPU waits for the GPU once


def best(logits: Tensor) -> Tensor:
    """The argmax over the first axis, uint8; in a tie the lower label. On a CPU several times faster than torch's."""
    if logits.is_cuda:  # one kernel; the loop below starts three for each label
        return logits.argmax(0).to(torch.uint8)
    highest, label = logits[0], torch.zeros(logits.shape[1:], dtype=torch.uint8, device=logits.device)
    for index in range(1, logits.shape[0]):
        label.masked_fill_(logits[index] > highest, index)
        highest = torch.maximum(highest, logits[index])
    return label


def _all(between: Mix, group: str) -> Tensor:
    logits = mixed([torch.as_tensor(each.logits[group]) for each in between.slices], between.share)
    size = between.slices[0].size
    if logits.is_cuda:  # one kernel: starting one for each axis takes longer than they run
        return F.interpolate(logits.unsqueeze(0), size=size, mode="bilinear", align_corners=False).squeeze(0)
    for axis, count in ((2, size[1]), (1, size[0])):
        if logits.shape[axis] != count:
            logits = _along(logits, axis, count)
    return logits


def _along(logits: Tensor, axis: int, count: int) -> Tensor:
    first, second, weight = _taps(count, logits.shape[axis])
    parts = [logits.index_select(axis, index) for index in (first, second)]
    return mixed(parts, weight if axis == 2 else weight.unsqueeze(1))


@lru_cache(maxsize=64)
def _taps(count: int, network_count: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `count` outputs: (its first input, its second input, the share of the second)."""
    below, share = source_slices(count, network_count)
    first = torch.from_numpy(below)
    return first, (first + 1).clamp_(max=network_count - 1), torch.from_numpy(share)
