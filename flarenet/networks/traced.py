"""A network as a graph of fixed operations, for libraries that convert it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .dual_decoder import DualDecoderUNet
from .unet import UNet
from .unetr import UNETR

CONVERTED = (UNet, DualDecoderUNet, UNETR)
"""Networks whose graph is known to answer as they do, whatever the numbers of the window that it was traced with."""


class InOrder(nn.Module):
    """A segmenting network that answers a tuple, in the order of `groups`: converters give a dict's parts new names."""

    def __init__(self, network: nn.Module, groups: Sequence[str]) -> None:
        super().__init__()
        self.network, self.groups = network, tuple(groups)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        answers = self.network(x)
        return tuple(answers[group] for group in self.groups)


def traced(network: nn.Module, groups: Sequence[str], window: Tensor) -> torch.jit.ScriptModule:
    """What `network` does in eval mode, on the CPU, with input of the size of `window`, as InOrder answers it."""
    with torch.inference_mode(), warnings.catch_warnings():
        # sizes are numbers from here on, as is wanted; torch's own successor of trace takes seven times as long
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        small = _small(network, window)
        return torch.jit.trace(InOrder(network, groups).eval(), small, check_trace=False)


def _small(network: nn.Module, window: Tensor) -> Tensor:
    """`window`, or where all that a network does with its size is to halve it, a corner that it halves alike.

    A trace computes what it follows, as long as a whole window takes: this one has two voxels an axis at the deepest
    resolution (an instance norm of one is none), and the same odd sizes on the way there.
    """
    if not isinstance(network, (UNet, DualDecoderUNet)):
        return window
    unit = 2 ** (network.depth - 1)
    corner = tuple(slice(2 * unit + size % unit) for size in window.shape[2:])
    return window[(slice(None), slice(None)) + corner]
