"""What a network costs, counted layer by layer from its numbers, without building it and without torch.

Planning chooses patch and batch by these counts, so each kind of networks.NETWORKS has an entry in LAYERS; a test
compares the parameters counted here with those of the network that is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plan import NetworkSpec

Outputs = Mapping[str, int]
Patch = Sequence[int]

OWN_LEVELS = 2
"""Decoder stages that each group of a dual decoder has for itself."""

LOSS_CHANNELS = 6
"""Numbers per logit that equation (1) keeps in float32: logits, their logarithms and probabilities, and gradients."""

TOKEN_LEVEL = 4
"""A token of the masked autoencoder is a cube of 2^4 voxels an edge."""

SEEN = 0.25
"""Share of the tokens that its encoder sees."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear map with the norm and rectifier behind it.

    level       halvings between the network's input and its output
    parameters  numbers it learns
    products    multiply-adds per voxel of its output
    kept        channels per voxel of its output that the backward pass needs
    alive       channels per voxel of its output that exist while it runs
    """

    level: int
    parameters: int
    products: float
    kept: float
    alive: float = 0


@dataclass(frozen=True)
class Cost:
    """Of one sample of one patch; `kept` and `alive` are counts of numbers, `products` of multiply-adds."""

    parameters: int
    products: float
    kept: float
    alive: float


def cost(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Cost | None:
    """The cost of `spec` with a head of 1 + n channels for each of its groups; None for a kind without an entry."""
    if spec.kind not in LAYERS:
        return None
    layers = list(LAYERS[spec.kind](spec, {group: outputs[group] for group in spec.groups}, patch))
    voxels = math.prod(patch)

    def at(level: int) -> float:
        return voxels / 2 ** (level * spec.dimensions)

    return Cost(
        parameters=sum(layer.parameters for layer in layers),
        products=sum(layer.products * at(layer.level) for layer in layers),
        kept=sum(layer.kept * at(layer.level) for layer in layers),
        alive=max(layer.alive * at(layer.level) for layer in layers),
    )


def _conv(level: int, channels_in: int, channels_out: int, *, taps: int, beside: int = 0) -> Layer:
    """With bias, norm and rectifier. Kept: its result, and that of the norm, which the rectifier overwrites.

    beside  channels that exist while it runs and are not its own
    """
    products, alive = taps * channels_in * channels_out, beside + channels_in + 2 * channels_out
    return Layer(level, products + 3 * channels_out, products, 2 * channels_out, alive)


def _two_convs(level: int, channels_in: int, channels_out: int, *, taps: int, beside: int = 0) -> Iterator[Layer]:
    yield _conv(level, channels_in, channels_out, taps=taps, beside=beside)
    yield _conv(level, channels_out, channels_out, taps=taps, beside=beside)


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


def _heads(spec: NetworkSpec, outputs: int) -> Iterator[Layer]:
    """The head at full resolution, and those of deep supervision at coarser ones."""
    channels = 1 + outputs
    for level in range(spec.deep_supervision + 1):
        width = spec.features[level] if level else spec.features[-1]
        yield Layer(level, (width + 1) * channels, width * channels, LOSS_CHANNELS * channels, width + 3 * channels)


def _unet(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    yield from _encoder(spec)
    yield from _ascent(spec, range(len(spec.features) - 2, 0, -1))
    for count in outputs.values():
        yield from _heads(spec, count)


def _dual_decoder(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    yield from _encoder(spec)
    yield from _ascent(spec, range(len(spec.features) - 2, OWN_LEVELS, -1))
    for count in outputs.values():
        yield from _ascent(spec, range(OWN_LEVELS, 0, -1))
        yield from _heads(spec, count)


def _masked_autoencoder(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    """Per token: the encoder sees SEEN of them."""
    hidden, mlp, layers, heads, decoder_hidden, decoder_mlp, decoder_layers, decoder_heads = spec.features
    cube = spec.input_channels * 2 ** (TOKEN_LEVEL * spec.dimensions)
    tokens = math.prod(patch) / 2 ** (TOKEN_LEVEL * spec.dimensions)
    yield _linear(cube, hidden)
    yield Layer(TOKEN_LEVEL, int(tokens) * (hidden + decoder_hidden), 0, 0)  # position codes
    yield Layer(TOKEN_LEVEL, 3 * (hidden + decoder_hidden), 0, 0)  # class token, mask token, two last norms
    for _ in range(layers):
        yield _transformer(hidden, mlp, heads, tokens=SEEN * tokens, share=SEEN)
    yield _linear(hidden, decoder_hidden, share=SEEN)
    for _ in range(decoder_layers):
        yield _transformer(decoder_hidden, decoder_mlp, decoder_heads, tokens=tokens)
    yield _linear(decoder_hidden, cube)


def _linear(numbers_in: int, numbers_out: int, *, share: float = 1.0) -> Layer:
    products = numbers_in * numbers_out
    parameters = products + numbers_out
    return Layer(TOKEN_LEVEL, parameters, share * products, share * numbers_out, numbers_in + numbers_out)


def _transformer(hidden: int, mlp: int, heads: int, *, tokens: float, share: float = 1.0) -> Layer:
    """Kept: two norms, queries, keys, values, what attention gives, two sums; the hidden layer before and after; the
    weights of every token for every other, before and after the softmax."""
    products = 4 * hidden**2 + 2 * hidden * mlp
    parameters = products + 2 * hidden + mlp + 6 * hidden  # MONAI's block has a third norm, which it does not use
    kept = 8 * hidden + 2 * mlp + 2 * heads * tokens
    return Layer(TOKEN_LEVEL, parameters, share * (products + 2 * hidden * tokens), share * kept, kept)


LAYERS: dict[str, Callable[[NetworkSpec, Outputs, Patch], Iterator[Layer]]] = {
    "unet": _unet,
    "dual_decoder": _dual_decoder,
    "residual_unet": _unet,
    "residual_dual_decoder": _dual_decoder,
    "mae_vit": _masked_autoencoder,
}
