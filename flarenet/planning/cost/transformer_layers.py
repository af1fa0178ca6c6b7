"""The layers of the transformers, for cost.kinds: those of the networks that networks.unetr and .masked build.

Parameters are exact. Multiply-adds leave out norms, activations and softmax. Memory is that of a step in which
everything learns. Where the encoder is frozen, its part is not kept, so the estimate is too high.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..plan import NetworkSpec
from .layers import GRADIENTS, Layer, heads, linear
from .network_numbers import SWIN_DEPTH, SWIN_HEADS, SWIN_MULTIPLE, SWIN_WINDOW, TOKEN_VOXELS, Outputs, Patch

TOKEN_LEVEL = 4
"""The level of the vision transformer's tokens, which are cubes with an edge of 2^4 voxels."""

SEEN = 0.25
"""The share of the tokens that the encoder of a masked autoencoder sees."""


def unetr(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    *encoder, width = spec.features
    hidden = encoder[0]
    yield from _vision_transformer(spec, encoder, patch)
    yield _residual(0, spec.input_channels, width)
    for level in (1, 2, 3):  # tokens, raised to this level
        yield _raise(3, hidden, width * 2**level)
        for finer in range(2, level - 1, -1):
            yield _raise(finer, width * 2**level, width * 2**level)
            yield _residual(finer, width * 2**level, width * 2**level)
    yield from _ascent((hidden, 8 * width, 4 * width, 2 * width, width))
    for count in outputs.values():
        yield from heads(spec, count)


def swin_unetr(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    width = spec.features[0]
    yield from _swin_transformer(spec, patch)
    yield _residual(0, spec.input_channels, width)
    for level, wide in ((1, width), (2, 2 * width), (3, 4 * width), (5, 16 * width)):
        yield _residual(level, wide, wide)
    yield from _ascent((16 * width, 8 * width, 4 * width, 2 * width, width, width))
    for count in outputs.values():
        yield from heads(spec, count)


def masked_vit(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    """The encoder sees SEEN of the tokens, the decoder all of them."""
    encoder, (width, mlp, layers, attending) = spec.features[:4], spec.features[4:]
    tokens = math.prod(patch) // TOKEN_VOXELS**3
    yield from _vision_transformer(spec, encoder, patch, share=SEEN)
    yield linear(TOKEN_LEVEL, encoder[0], width, share=SEEN)
    yield Layer(TOKEN_LEVEL, (3 + tokens) * width)  # mask token, last norm, position code
    for _ in range(layers):
        yield _attention(width, mlp, attending, tokens=tokens)
    yield linear(TOKEN_LEVEL, width, spec.input_channels * TOKEN_VOXELS**3)


def masked_swin(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    width = spec.features[0]
    yield from _swin_transformer(spec, patch)
    yield Layer(1, width)  # mask token
    yield linear(5, 16 * width, spec.input_channels * SWIN_MULTIPLE**3)


def _vision_transformer(
    spec: NetworkSpec, numbers: Sequence[int], patch: Patch, *, share: float = 1.0
) -> Iterator[Layer]:
    hidden, mlp, layers, attending = numbers
    tokens = math.prod(patch) // TOKEN_VOXELS**3
    yield linear(TOKEN_LEVEL, spec.input_channels * TOKEN_VOXELS**3, hidden)
    yield Layer(TOKEN_LEVEL, (2 + tokens) * hidden)  # last norm and position code
    for _ in range(layers):
        yield _attention(hidden, mlp, attending, tokens=share * tokens, share=share)


def _attention(hidden: int, mlp: int, heads: int, *, tokens: float, share: float = 1.0) -> Layer:
    """A transformer block in which each of `tokens` attends to every other.

    Kept are: two norms, queries, keys, values, the result of attention, two sums; the hidden layer before and after its
    activation; and the attention weights after the softmax.
    """
    products = 4 * hidden**2 + 2 * hidden * mlp
    parameters = products + 2 * hidden + mlp + 6 * hidden  # MONAI's block has a third norm, which it does not use
    kept = 8 * hidden + 2 * mlp + heads * tokens
    return Layer(TOKEN_LEVEL, parameters, share * (products + 2 * hidden * tokens), share * kept, kept)


def _swin_transformer(spec: NetworkSpec, patch: Patch) -> Iterator[Layer]:
    width = spec.features[0]
    yield Layer(1, (8 * spec.input_channels + 1) * width, 8 * spec.input_channels * width, 2 * width, 3 * width)
    for stage, attending in enumerate(SWIN_HEADS):
        level, wide = 1 + stage, width * 2**stage
        for _ in range(SWIN_DEPTH):
            yield _window_attention(level, wide, attending, [n // 2**level for n in patch])
        merged = 8 * wide  # eight voxels side by side, their norm, a linear map without bias, the norm of its result
        yield Layer(level + 1, 2 * merged + merged * 2 * wide, merged * 2 * wide, 2 * merged + 4 * wide, 3 * merged)


def _window_attention(level: int, wide: int, heads: int, size: Sequence[int]) -> Layer:
    """As _attention, but within windows that cover the map. Windows at its edge hold padding, which is computed too.

    While it runs, the weights exist before and after the softmax; in the backward pass, their gradients too.
    """
    windows = [min(SWIN_WINDOW, n) for n in size]
    covered = math.prod(math.ceil(n / window) * window / n for n, window in zip(size, windows))
    tokens, maps, mlp = math.prod(windows), 4 * wide**2, 8 * wide**2
    parameters = maps + mlp + 13 * wide + (2 * SWIN_WINDOW - 1) ** 3 * heads
    products = covered * (maps + 2 * wide * tokens) + mlp
    weights = covered * heads * tokens
    within = covered * 6 * wide
    backward = GRADIENTS * (within + 3 * weights)
    return Layer(level, parameters, products, within + weights + 12 * wide, within + 2 * weights, gradients=backward)


def _residual(level: int, channels_in: int, channels_out: int) -> Layer:
    """MONAI's UnetResBlock: two 3^3 convolutions and norms without parameters; where the width changes, also a 1^3
    convolution on the shortcut."""
    products = 27 * (channels_in + channels_out) * channels_out
    kept = 4 * channels_out
    if channels_in != channels_out:
        products, kept = products + channels_in * channels_out, kept + channels_out
    return Layer(level, products, products, kept, channels_in + 4 * channels_out)


def _raise(level: int, channels_in: int, channels_out: int) -> Layer:
    """A transposed convolution to this level, without bias: each of its voxels is made from one coarser voxel."""
    products = channels_in * channels_out
    return Layer(level, 8 * products, products, channels_out, 2 * channels_out)


def _ascent(widths: Sequence[int]) -> Iterator[Layer]:
    """From the coarsest to full resolution, at each level: a transposed convolution, a concatenation, whose result is
    kept, and a residual block."""
    pairs = list(zip(widths, widths[1:]))
    for level, (deep, fine) in zip(range(len(pairs) - 1, -1, -1), pairs):
        yield Layer(level, 8 * deep * fine, deep * fine, 2 * fine, 4 * fine)
        yield _residual(level, 2 * fine, fine)
