"""A network as a graph of fixed operations, for libraries that convert it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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


def traced(network: nn.Module, groups: Sequence[str], window: Tensor) -> torch.jit.ScriptFunction:
    """What `network` does in eval mode, on the CPU, with input of the size of `window`, as InOrder answers it.

    A function, with the numbers as constants: of a module torch and the converter would also describe each part, and an
    engine would take a third longer to open.
    """
    in_order = InOrder(network, groups).eval()
    with torch.inference_mode(), _constant(network), warnings.catch_warnings():
        # sizes are numbers from here on, as is wanted; torch's own successor of trace takes seven times as long
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(lambda x: in_order(x), _small(network, window), check_trace=False)


@contextmanager
def _constant(network: nn.Module) -> Iterator[None]:
    """No number of `network` wants a gradient meanwhile: what does is no constant to torch."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


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
