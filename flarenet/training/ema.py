"""The exponential moving average of a network's weights (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992)."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def average_of(network: nn.Module) -> nn.Module:
    """A copy of `network` for update_average: in eval mode, and without gradients."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, decay: float, updates: int) -> None:
    """average <- decay * average + (1 - decay) * network; frozen parts stay the same bit for bit.

    updates  number n of updates so far. The decay is at most (1 + n) / (10 + n), so that the random start is soon
             forgotten (tf.train.ExponentialMovingAverage)
    """
    mix = get_ema_multi_avg_fn(min(decay, (1 + updates) / (10 + updates)))
    mix(list(average.parameters()), list(network.parameters()), None)
    for mean, buffer in zip(average.buffers(), network.buffers()):
        mean.copy_(buffer)
