"""Instance norm and the leaky ReLU after it as GPU kernels in Triton, for channels-last memory.

In that format x [B, C, *S] lies in memory as [B, N, C] with N voxels. Each program takes a tile of channels and a part
of one sample's voxels, so that few large samples fill a GPU as well as many small ones. One pass over x makes the
statistics of each part; the next pass merges them and writes the result. Nothing is added atomically, so results are
the same bit for bit every time.

Triton comes with torch's wheels for GPUs on Linux. norm.py imports this module at first use, and does without it where
that fails.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096
"""Voxels times channels that a program holds at a time: 32 numbers in each thread of four warps."""

WARPS = 4

MOST_CHANNELS = 64
"""Most channels of a tile: 128 bytes of bfloat16, which is a cache line."""

PROGRAMS = 1024
"""How many programs a kernel should have: a large GPU runs some 660 at once (H200: 132 processors with about five on
each)."""

MOST_PARTS = 256

UNSPECIALISED = ("N", "S", "rows", "tiles")
"""Arguments that Triton must not specialise on, because it compiles a kernel for each specialisation. Only for C, the
distance between voxels, does it help to know that 16 divides it."""


class Tiling(NamedTuple):
    """How [B, N, C] is divided among programs.

    parts    each sample's voxels are split into so many
    rows     voxels of a part; the last one may have fewer
    tiles    the channels are split into so many
    block_n  voxels that a program holds at a time
    block_c  channels of a tile
    """

    samples: int
    voxels: int
    channels: int
    parts: int
    rows: int
    tiles: int
    block_n: int
    block_c: int

    @property
    def programs(self) -> tuple[int]:
        return (self.samples * self.parts * self.tiles,)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        return self.voxels, self.channels, self.parts, self.rows, self.tiles

    @property
    def blocks(self) -> dict[str, int]:
        """The sizes that are constants of a kernel. They take few values, because a kernel is compiled for each."""
        block_s = 16 if self.parts <= 16 else min(self.block_n, MOST_PARTS)
        return {"BLOCK_N": self.block_n, "BLOCK_C": self.block_c, "BLOCK_S": block_s}


def tiling_of(x: Tensor) -> Tiling:
    samples, channels = x.shape[:2]
    voxels = x[0, 0].numel()
    block_c = min(MOST_CHANNELS, 1 << (channels - 1).bit_length())
    block_n = TILE // block_c
    tiles = -(-channels // block_c)
    parts = max(1, min(MOST_PARTS, -(-PROGRAMS // (samples * tiles)), -(-voxels // (4 * block_n))))
    rows = -(-voxels // (parts * block_n)) * block_n
    return Tiling(samples, voxels, channels, -(-voxels // rows), rows, tiles, block_n, block_c)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, *, slope: float, epsilon: float, into: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(the result, in the memory format of x; mean; 1 / standard deviation); the last two are float32 [B, C].

    x      [B, C, *S], dense in channels-last order
    slope  slope of the leaky ReLU below zero; 1.0: no ReLU
    into   where the result goes. It may be x itself: each program reads a number before it writes to that place
    """
    tiling = tiling_of(x)
    y = torch.empty_like(x) if into is None else into
    parts = torch.empty((2, tiling.samples, tiling.parts, tiling.channels), dtype=torch.float32, device=x.device)
    mean, inverse = torch.empty((2, tiling.samples, tiling.channels), dtype=torch.float32, device=x.device).unbind()
    with _on(x):
        _statistics[tiling.programs](
            x, parts[0], parts[1], *tiling.sizes, BLOCK_N=tiling.block_n, BLOCK_C=tiling.block_c, num_warps=WARPS
        )
        _apply[tiling.programs](
            x, y, parts[0], parts[1], weight, bias, mean, inverse, *tiling.sizes,
            EPSILON=epsilon, SLOPE=slope, **tiling.blocks, num_warps=WARPS,
        )  # fmt: skip
    return y, mean, inverse


def backward(
    x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, *, mean: Tensor, inverse: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias, from `dy`, the gradient of the result in the memory format of x."""
    tiling = tiling_of(x)
    dx = torch.empty_like(x)
    parts = torch.empty((2, tiling.samples, tiling.parts, tiling.channels), dtype=torch.float32, device=x.device)
    given = weight, bias, mean, inverse
    with _on(x):
        _reduce_gradient[tiling.programs](
            x, dy, parts[0], parts[1], *given, *tiling.sizes,
            SLOPE=slope, BLOCK_N=tiling.block_n, BLOCK_C=tiling.block_c, num_warps=WARPS,
        )  # fmt: skip
        _apply_gradient[tiling.programs](
            x, dy, dx, parts[0], parts[1], *given, *tiling.sizes, SLOPE=slope, **tiling.blocks, num_warps=WARPS
        )
    by_bias, by_weight = parts.sum((1, 2)).unbind()
    return dx, by_weight.to(weight.dtype), by_bias.to(bias.dtype)


def _on(x: Tensor) -> torch.cuda.device | nullcontext[None]:
    """Triton launches on the current device, which with several GPUs need not be that of x."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@triton.jit
def _share(pid, N, C, S, rows, tiles, BLOCK_C: tl.constexpr):
    """What program `pid` works on: (index of its part among the parts of all samples, index of the sample, the first
    voxel of the part in its sample, the part's voxel count, its channels, which of these channels exist)."""
    tile, part = pid % tiles, pid // tiles
    first = (part % S) * rows
    channel = tile * BLOCK_C + tl.arange(0, BLOCK_C)
    return part, (part // S).to(tl.int64), first, tl.minimum(rows, N - first), channel, channel < C


@triton.jit
def _normal(weight, bias, mean_in, inverse_in, sample_at, channel, inside):
    """Mean, inverse, scale and shift of the channels of a sample, each [1, BLOCK_C]."""
    mean = tl.load(mean_in + sample_at + channel, mask=inside, other=0.0)[None, :]
    inverse = tl.load(inverse_in + sample_at + channel, mask=inside, other=0.0)[None, :]
    scale = inverse * tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    shift = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    return mean, inverse, scale, shift


@triton.jit
def _before_rectifier(x_at, dy_at, there, mean, scale, shift, SLOPE: tl.constexpr):
    """(x - mean, gradient before the leaky ReLU)."""
    apart = tl.load(x_at, mask=there, other=0.0).to(tl.float32) - mean
    grown = tl.load(dy_at, mask=there, other=0.0).to(tl.float32)
    if SLOPE != 1.0:
        grown = tl.where(apart * scale + shift > 0, grown, grown * SLOPE)
    return apart, grown


@triton.jit(do_not_specialize=UNSPECIALISED)
def _statistics(
    x, means, squares, N, C, S, rows, tiles, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Mean and sum of squared deviations of each part, [B, S, C].

    Each place of the block goes through its own voxels by Welford's method (Technometrics 4, 1962), which loses no
    digits where the mean is far from zero; the places are merged at the end.
    """
    part, sample, first, count, channel, inside = _share(tl.program_id(0), N, C, S, rows, tiles, BLOCK_C)
    row = tl.arange(0, BLOCK_N)
    at = x + (sample * N + first) * C + row[:, None] * C + channel[None, :]
    mean = tl.zeros([BLOCK_N, BLOCK_C], dtype=tl.float32)
    square = tl.zeros([BLOCK_N, BLOCK_C], dtype=tl.float32)
    full = count // BLOCK_N
    for block in range(0, full):
        value = tl.load(at + block * BLOCK_N * C, mask=inside[None, :], other=0.0).to(tl.float32)
        step = value - mean
        mean += step * (1.0 / (block + 1))
        square += step * (value - mean)
    left = (full * BLOCK_N + row < count)[:, None]
    value = tl.load(at + full * BLOCK_N * C, mask=left & inside[None, :], other=0.0).to(tl.float32)
    step = tl.where(left, value - mean, 0.0)
    mean += step * (1.0 / (full + 1))
    square += step * (value - mean)
    voxels = (full + left.to(tl.int32)).to(tl.float32)
    near = tl.sum(mean * voxels, axis=0) / count  # the mean, up to the rounding of this sum
    apart = mean - near[None, :]
    rest = tl.sum(voxels * apart, axis=0) / count
    place = part.to(tl.int64) * C + channel
    tl.store(means + place, near + rest, mask=inside)
    tl.store(squares + place, tl.sum(square + voxels * apart * apart, axis=0) - count * rest * rest, mask=inside)


@triton.jit(do_not_specialize=UNSPECIALISED)
def _apply(
    x, y, means, squares, weight, bias, mean_out, inverse_out, N, C, S, rows, tiles,
    EPSILON: tl.constexpr, SLOPE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Merge the statistics of the parts (Chan, Golub and LeVeque, 1979), store mean and inverse, and write this
    program's part of the result."""
    pid = tl.num_programs(0) - 1 - tl.program_id(0)  # what was read last is still in the cache
    part, sample, first, count, channel, inside = _share(pid, N, C, S, rows, tiles, BLOCK_C)
    split = tl.arange(0, BLOCK_S)
    total = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float32)
    place = (sample * S + split)[:, None] * C + channel[None, :]
    for start in range(0, S, BLOCK_S):
        there = (start + split < S)[:, None] & inside[None, :]
        voxels = tl.minimum(rows, N - (start + split) * rows).to(tl.float32)[:, None]
        total += voxels * tl.load(means + place + start * C, mask=there, other=0.0)
    near = tl.sum(total, axis=0) / N  # the mean, up to the rounding of this sum
    total = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float32)
    spread = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float32)
    for start in range(0, S, BLOCK_S):
        there = (start + split < S)[:, None] & inside[None, :]
        voxels = tl.where(there, tl.minimum(rows, N - (start + split) * rows).to(tl.float32)[:, None], 0.0)
        apart = tl.load(means + place + start * C, mask=there, other=0.0) - near[None, :]
        total += voxels * apart
        spread += tl.load(squares + place + start * C, mask=there, other=0.0) + voxels * apart * apart
    rest = tl.sum(total, axis=0) / N
    mean = near + rest
    variance = tl.sum(spread, axis=0) / N - rest * rest
    inverse = 1.0 / tl.sqrt(tl.maximum(variance, 0.0) + EPSILON)
    if part % S == 0:
        tl.store(mean_out + sample * C + channel, mean, mask=inside)
        tl.store(inverse_out + sample * C + channel, inverse, mask=inside)
    scale = inverse * tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    row = tl.arange(0, BLOCK_N)
    offset = (sample * N + first) * C + row[:, None] * C + channel[None, :]
    for start in range(0, count, BLOCK_N):
        there = (start + row < count)[:, None] & inside[None, :]
        value = tl.load(x + offset + start * C, mask=there, other=0.0).to(tl.float32)
        value = (value - mean[None, :]) * scale[None, :] + shift[None, :]
        if SLOPE != 1.0:
            value = tl.where(value > 0, value, value * SLOPE)
        tl.store(y + offset + start * C, value.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=UNSPECIALISED)
def _reduce_gradient(
    x, dy, by_bias, by_weight, weight, bias, mean_in, inverse_in, N, C, S, rows, tiles,
    SLOPE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums of g and g * n over each part, [B, S, C]: g is the gradient before the ReLU, n the normalised value."""
    part, sample, first, count, channel, inside = _share(tl.program_id(0), N, C, S, rows, tiles, BLOCK_C)
    mean, inverse, scale, shift = _normal(weight, bias, mean_in, inverse_in, sample * C, channel, inside)
    row = tl.arange(0, BLOCK_N)
    offset = (sample * N + first) * C + row[:, None] * C + channel[None, :]
    plain = tl.zeros([BLOCK_N, BLOCK_C], dtype=tl.float32)
    scaled = tl.zeros([BLOCK_N, BLOCK_C], dtype=tl.float32)
    for start in range(0, count, BLOCK_N):
        there = (start + row < count)[:, None] & inside[None, :]
        apart, grown = _before_rectifier(
            x + offset + start * C, dy + offset + start * C, there, mean, scale, shift, SLOPE
        )
        plain += grown
        scaled += grown * (apart * inverse)
    place = part.to(tl.int64) * C + channel
    tl.store(by_bias + place, tl.sum(plain, axis=0), mask=inside)
    tl.store(by_weight + place, tl.sum(scaled, axis=0), mask=inside)


@triton.jit(do_not_specialize=UNSPECIALISED)
def _apply_gradient(
    x, dy, dx, by_bias, by_weight, weight, bias, mean_in, inverse_in, N, C, S, rows, tiles,
    SLOPE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """dx = weight * inverse * (g - mean(g) - n * mean(g * n)), means over the voxels of a channel of a sample.

    (Ioffe and Szegedy, arXiv 1502.03167, section 3.)
    """
    pid = tl.num_programs(0) - 1 - tl.program_id(0)
    part, sample, first, count, channel, inside = _share(pid, N, C, S, rows, tiles, BLOCK_C)
    split = tl.arange(0, BLOCK_S)
    place = (sample * S + split)[:, None] * C + channel[None, :]
    plain = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float32)
    scaled = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float32)
    for start in range(0, S, BLOCK_S):
        there = (start + split < S)[:, None] & inside[None, :]
        plain += tl.load(by_bias + place + start * C, mask=there, other=0.0)
        scaled += tl.load(by_weight + place + start * C, mask=there, other=0.0)
    mean, inverse, scale, shift = _normal(weight, bias, mean_in, inverse_in, sample * C, channel, inside)
    of_one = tl.sum(plain, axis=0)[None, :] / N
    of_apart = tl.sum(scaled, axis=0)[None, :] / N * inverse
    row = tl.arange(0, BLOCK_N)
    offset = (sample * N + first) * C + row[:, None] * C + channel[None, :]
    for start in range(0, count, BLOCK_N):
        there = (start + row < count)[:, None] & inside[None, :]
        apart, grown = _before_rectifier(
            x + offset + start * C, dy + offset + start * C, there, mean, scale, shift, SLOPE
        )
        value = scale * (grown - of_one - apart * of_apart)
        tl.store(dx + offset + start * C, value.to(dx.dtype.element_ty), mask=there)
