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
        return torch.jit.trace(InOrder(network, groups).eval(), window, check_trace=False)
