"""The layers of the U-Nets, for cost.kinds: those of the networks that networks.unet and .dual_decoder build."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..plan import NetworkSpec
from .layers import Layer, conv, heads
from .network_numbers import OWN_LEVELS, Outputs, Patch


def _two_convs(level: int, channels_in: int, channels_out: int, *, taps: int, beside: int = 0) -> Iterator[Layer]:
    yield conv(level, channels_in, channels_out, taps=taps, beside=beside)
    yield conv(level, channels_out, channels_out, taps=taps, beside=beside)


def _residual(level: int, channels_in: int, channels_out: int, *, taps: int) -> Iterator[Layer]:
    yield from _two_convs(level, channels_in, channels_out, taps=taps, beside=channels_in)
    if channels_in != channels_out:  # the 1^n convolution and norm on the shortcut; its norm is not kept
        products = channels_in * channels_out
        yield Layer(level, products + 3 * channels_out, products, channels_out, channels_in + 4 * channels_out)


def _encoder(spec: NetworkSpec) -> Iterator[Layer]:
    before, taps = spec.input_channels, 3**spec.dimensions
    for level, width in enumerate(spec.features[:-1]):
        if level:
            yield Layer(level, 0, 0, 3 * before, 3 * before)  # pooling keeps its result and, in 64 bits, its indices
        if not spec.blocks:
            yield from _two_convs(level, before, width, taps=taps)
        else:
            for channels_in in [before] + [width] * (spec.blocks[level] - 1):
                yield from _residual(level, channels_in, width, taps=taps)
        yield Layer(level, 0, held=width)  # the skip
        before = width


def _ascent(spec: NetworkSpec, levels: Sequence[int]) -> Iterator[Layer]:
    """Decoder stages: a transposed convolution, a concatenation, whose result is kept, and two convolutions."""
    taps = 3**spec.dimensions
    for level in levels:
        deep, skip = spec.features[level], spec.features[level - 1]
        raised, width = (deep // 2, skip) if level > 1 else (deep, spec.features[-1])
        parameters = 2**spec.dimensions * deep * raised + raised
        yield Layer(level - 1, parameters, deep * raised, skip + raised, skip + 2 * raised)
        yield from _two_convs(level - 1, skip + raised, width, taps=taps, beside=raised)


def unet(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    yield from _encoder(spec)
    yield from _ascent(spec, range(len(spec.features) - 2, 0, -1))
    for count in outputs.values():
        yield from heads(spec, count)


def dual_decoder(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Iterator[Layer]:
    yield from _encoder(spec)
    yield from _ascent(spec, range(len(spec.features) - 2, OWN_LEVELS, -1))
    for count in outputs.values():
        yield from _ascent(spec, range(OWN_LEVELS, 0, -1))
        yield from heads(spec, count)
