"""What a network costs, counted layer by layer from its numbers, without building it and without torch.

Planning chooses patch and batch by these counts, so each kind of networks.NETWORKS has an entry in LAYERS; a test
compares the parameters counted here with those of the network that is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from .layers import Layer, conv, heads
from .network_numbers import OWN_LEVELS, Outputs, Patch
from .plan import NetworkSpec
from .transformer_layers import masked_swin, masked_vit, swin_unetr, unetr


@dataclass(frozen=True)
class Cost:
    """Of one sample of one patch; `products` counts multiply-adds, the rest numbers.

    alive  while the widest layer runs, with what waits beside it: skips and the answers of earlier heads
    peak   at the fullest moment of the backward pass: when it comes to a layer, what the layers behind it kept is gone
    """

    parameters: int
    products: float
    alive: float
    peak: float


def cost(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Cost | None:
    """The cost of `spec` with a head of 1 + n channels for each of its groups; None for a kind without an entry."""
    if spec.kind not in LAYERS:
        return None
    layers = list(LAYERS[spec.kind](spec, {group: outputs[group] for group in spec.groups}, patch))
    voxels = math.prod(patch)

    def at(level: int) -> float:
        return voxels / 2 ** (level * spec.dimensions)

    before = accumulate((layer.held * at(layer.level) for layer in layers), initial=0.0)
    up_to = accumulate(layer.kept * at(layer.level) for layer in layers)
    return Cost(
        parameters=sum(layer.parameters for layer in layers),
        products=sum(layer.products * at(layer.level) for layer in layers),
        alive=max(held + layer.alive * at(layer.level) for held, layer in zip(before, layers)),
        peak=max(kept + layer.backward * at(layer.level) for kept, layer in zip(up_to, layers)),
    )


def _two_convs(level: int, channels_in: int, channels_out: int, *, taps: int, beside: int = 0) -> Iterator[Layer]:
    yield conv(level, channels_in, channels_out, taps=taps, beside=beside)
    yield conv(level, channels_out, channels_out, taps=taps, beside=beside)


def _residual(level: int, channels_in: int, channels_out: int, *, taps: int) -> Iterator[Layer]:
    yield from _two_convs(level, channels_in, channels_out, taps=taps, beside=channels_in)
    if channels_in != channels_out:  # the 1^n convolution and norm on the way past; its norm is not kept
        products = channels_in * channels_out
        yield Layer(level, products + 3 * channels_out, products, channels_out, channels_in + 4 * channels_out)


def _encoder(spec: NetworkSpec) -> Iterator[Layer]:
    before, taps = spec.input_channels, 3**spec.dimensions
    for level, width in enumerate(spec.features[:-1]):
        if level:
            yield Layer(level, 0, 0, 3 * before, 3 * before)  # pooling keeps its result and, in 64 bits, its places
        if not spec.blocks:
            yield from _two_convs(level, before, width, taps=taps)
        else:
            for channels_in in [before] + [width] * (spec.blocks[level] - 1):
                yield from _residual(level, channels_in, width, taps=taps)
        yield Layer(level, 0, held=width)  # the skip
        before = width


def _ascent(spec: NetworkSpec, levels: Sequence[int]) -> Iterator[Layer]:
    """Decoder stages: transposed convolution, concatenation, which is kept, and two convolutions."""
    taps = 3**spec.dimensions
    for level in levels:
        deep, skip = spec.features[level], spec.features[level - 1]
        raised, width = (deep // 2, skip) if level > 1 else (deep, spec.features[-1])
        parameters = 2**spec.dimensions * deep * raised + raised
        yield Layer(level - 1, parameters, deep * raised, skip + raised, skip + 2 * raised)
        yield from _two_convs(level - 1, skip + raised, width, taps=taps, beside=raised)


def _unet(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    yield from _encoder(spec)
    yield from _ascent(spec, range(len(spec.features) - 2, 0, -1))
    for count in outputs.values():
        yield from heads(spec, count)


def _dual_decoder(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    yield from _encoder(spec)
    yield from _ascent(spec, range(len(spec.features) - 2, OWN_LEVELS, -1))
    for count in outputs.values():
        yield from _ascent(spec, range(OWN_LEVELS, 0, -1))
        yield from heads(spec, count)


LAYERS: dict[str, Callable[[NetworkSpec, Outputs, Patch], Iterator[Layer]]] = {
    "unet": _unet,
    "dual_decoder": _dual_decoder,
    "residual_unet": _unet,
    "residual_dual_decoder": _dual_decoder,
    "unetr": unetr,
    "swin_unetr": swin_unetr,
    "mae_vit": masked_vit,
    "mae_swin": masked_swin,
}
