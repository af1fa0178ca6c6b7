"""What a layer costs. planning.cost.kinds.cost adds up the layers of a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..plan import NetworkSpec

LOSS_CHANNELS = 6
"""How many numbers per logit the loss, equation (1), keeps in float32: logits, logarithms, probabilities, gradients."""

GRADIENTS = 2
"""How many numbers the gradients of a layer take, per number alive in the layer: what they are computed from is copied
into another memory order."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear map with the norm and rectifier behind it.

    level       halvings between the network's input and its output
    parameters  numbers it learns
    products    multiply-adds per voxel of its output
    kept        channels per voxel of its output that the backward pass needs
    alive       channels per voxel of its output that exist while it runs
    held        channels per voxel of its output that exist from then on until the forward pass ends
    gradients   channels per voxel of its output that its backward pass takes in addition to those kept; None:
                GRADIENTS for each one alive
    """

    level: int
    parameters: int
    products: float = 0
    kept: float = 0
    alive: float = 0
    gradients: float | None = None
    held: float = 0

    @property
    def backward(self) -> float:
        return GRADIENTS * self.alive if self.gradients is None else self.gradients


def conv(level: int, channels_in: int, channels_out: int, *, taps: int, beside: int = 0) -> Layer:
    """A convolution with bias, norm and rectifier. Its result and that of the norm, which the rectifier overwrites, are
    kept.

    beside  channels of others that exist while it runs
    """
    products, alive = taps * channels_in * channels_out, beside + channels_in + 2 * channels_out
    return Layer(level, products + 3 * channels_out, products, 2 * channels_out, alive)


def heads(spec: NetworkSpec, outputs: int) -> Iterator[Layer]:
    """The head at full resolution and those of deep supervision at coarser ones, with what the loss keeps of them."""
    channels = 1 + outputs
    for level in range(spec.deep_supervision + 1):
        width = spec.features[level] if level else spec.features[-1]
        parameters, kept, alive = (width + 1) * channels, LOSS_CHANNELS * channels, width + 3 * channels
        yield Layer(level, parameters, width * channels, kept, alive, gradients=width, held=channels)


def linear(level: int, numbers_in: int, numbers_out: int, *, share: float = 1.0) -> Layer:
    """A linear map with bias, applied at a share of the places."""
    products = numbers_in * numbers_out
    parameters = products + numbers_out
    return Layer(level, parameters, share * products, share * numbers_out, numbers_in + numbers_out)
