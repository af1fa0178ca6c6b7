"""A network as a graph of fixed operations, for libraries that convert it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..silence import silent
from .dual_decoder import DualDecoderUNet
from .unet import UNet
from .unetr import UNETR

CONVERTED = (UNet, DualDecoderUNet, UNETR)
"""Networks whose traced graph is known to compute what they do, whatever values the traced window held. That is not
known of a subclass, which may compute something else."""


class InOrder(nn.Module):
    """A segmentation network that returns a tuple in the order of `groups`: converters rename the keys of a dict."""

    def __init__(self, network: nn.Module, groups: Sequence[str]) -> None:
        super().__init__()
        self.network, self.groups = network, tuple(groups)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        answers = self.network(x)
        return tuple(answers[group] for group in self.groups)


def traced(network: nn.Module, groups: Sequence[str], window: Tensor) -> torch.jit.ScriptFunction:
    """The graph of `network` in eval mode on the CPU, for input of the size of `window`; it returns what InOrder does.

    It is a function with the weights as constants. For a module, torch and the converter would describe every submodule
    too, and an engine would take a third longer to open.
    """
    in_order = InOrder(network, groups).eval()
    with torch.inference_mode(), _constant(network), silent(torch.jit.TracerWarning, DeprecationWarning):
        # the warning that sizes become constants: they should. torch's successor of trace takes seven times as long
        return torch.jit.trace(lambda x: in_order(x), _small(network, window), check_trace=False)


@contextmanager
def _constant(network: nn.Module) -> Iterator[None]:
    """Within this context no parameter of `network` requires a gradient: torch makes constants of only such ones."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _small(network: nn.Module, window: Tensor) -> Tensor:
    """A corner of `window` to trace with, for a network that only halves sizes; else `window` itself.

    Tracing runs the network, which on a whole window takes long. The corner has two voxels an axis at the deepest
    resolution (one voxel cannot be normalised), and its size is odd at the same resolutions as that of `window`.
    """
    if not isinstance(network, (UNet, DualDecoderUNet)):
        return window
    unit = 2 ** (network.depth - 1)
    corner = tuple(slice(2 * unit + size % unit) for size in window.shape[2:])
    return window[(slice(None), slice(None)) + corner]
