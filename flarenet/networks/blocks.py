"""The parts of a U-Net, in 2 and 3 dimensions: those of MONAI's BasicUNet, and residual blocks.

Shapes are written for C channels and spatial sizes S = (z, y, x) or (y, x).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..planning.plan import NetworkSpec
from .layers import Conv3d, InstanceNorm, conv_norm

_CONV = {2: nn.Conv2d, 3: Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}

Logits = Tensor | tuple[Tensor, ...]
"""[B, 1 + n, *S]; with deep supervision, in train mode, a tuple of such tensors for S, S/2, S/4 ..."""

LEAK = 0.1
"""Slope of leaky ReLUs below zero, as in BasicUNet."""


class ConvNormAct(nn.Module):
    """3^n convolution, instance norm with scale and shift, leaky ReLU: [B, Cin, *S] -> [B, Cout, *S].

    They are computed together where that is faster: a hook on one of the three may not be called.
    """

    def __init__(self, dimensions: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = _CONV[dimensions](channels_in, channels_out, kernel_size=3, padding=1)
        self.norm = InstanceNorm(channels_out)
        self.act = nn.LeakyReLU(LEAK, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(self.conv, self.norm, x, slope=self.act.negative_slope)


class ConvNorm(nn.Sequential):
    """Convolution and instance norm with scale and shift: [B, Cin, *S] -> [B, Cout, *S].

    Computed as in ConvNormAct; a sequence only because that names the weights of saved models "0" and "1".
    """

    def __init__(self, dimensions: int, channels_in: int, channels_out: int, *, kernel_size: int) -> None:
        conv = _CONV[dimensions](channels_in, channels_out, kernel_size=kernel_size, padding=kernel_size // 2)
        super().__init__(conv, InstanceNorm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(self[0], self[1], x)


class TwoConv(nn.Sequential):
    """Two ConvNormAct: [B, Cin, *S] -> [B, Cout, *S]."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv_0 = ConvNormAct(dimensions, channels_in, channels_out)
        self.conv_1 = ConvNormAct(dimensions, channels_out, channels_out)


class Residual(nn.Module):
    """Two 3^n convolutions and the input added to their result (He et al., arXiv 1512.03385).

    [B, Cin, *S] -> [B, Cout, *S]; where Cin and Cout differ, the input passes a 1^n convolution and a norm first.
    """

    def __init__(self, dimensions: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv_0 = ConvNormAct(dimensions, channels_in, channels_out)
        self.conv_1 = ConvNorm(dimensions, channels_out, channels_out, kernel_size=3)
        self.same: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.same = ConvNorm(dimensions, channels_in, channels_out, kernel_size=1)
        self.act = nn.LeakyReLU(LEAK, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv_1(self.conv_0(x)) + self.same(x))


def stage(dimensions: int, channels_in: int, channels_out: int, *, blocks: int) -> nn.Module:
    """The layers of one resolution of the encoder: `blocks` residual blocks, or TwoConv where `blocks` is 0."""
    if not blocks:
        return TwoConv(dimensions, channels_in, channels_out)
    widths = [channels_in] + [channels_out] * blocks
    return nn.Sequential(*(Residual(dimensions, before, after) for before, after in zip(widths, widths[1:])))


class Down(nn.Sequential):
    """Max pooling by 2, then the stage of the coarser resolution: [B, Cin, *S] -> [B, Cout, *(S // 2)]."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int, *, blocks: int = 0) -> None:
        super().__init__()
        self.pool = _POOL[dimensions](kernel_size=2)
        self.convs = stage(dimensions, channels_in, channels_out, blocks=blocks)


class UpCat(nn.Module):
    """Upsample by 2, concatenate the encoder's features of that size in front, then TwoConv.

    deep [B, Cdeep, *(S // 2)], skip [B, Cskip, *S] -> [B, Cout, *S]. The transposed convolution halves the
    channels if `halves`. For an odd S, the last plane of its output is repeated once, as in BasicUNet.
    """

    def __init__(
        self, dimensions: int, channels_deep: int, channels_skip: int, channels_out: int, *, halves: bool = True
    ) -> None:
        super().__init__()
        channels_up = channels_deep // 2 if halves else channels_deep
        self.up = _TRANSPOSED[dimensions](channels_deep, channels_up, kernel_size=2, stride=2)
        self.convs = TwoConv(dimensions, channels_skip + channels_up, channels_out)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        raised = self.up(deep)
        missing = [want - have for want, have in zip(skip.shape[2:], raised.shape[2:])]
        if any(missing):
            # F.pad takes (before, after) for each axis, the last axis first
            raised = F.pad(raised, [n for lack in reversed(missing) for n in (0, lack)], mode="replicate")
        return self.convs(torch.cat([skip, raised], dim=1))


class Encoder(nn.Module):
    """N resolutions: [B, C, *S] -> features at S, S/2 ... S/2^(N-1), finest first.

    Each resolution has as many residual blocks as spec.blocks states, or TwoConv. Networks inherit from this class so
    that its parts keep the short names `conv_0`, `down_1` ... in them.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        dimensions, channels = spec.dimensions, spec.features[:-1]
        blocks = spec.blocks or (0,) * len(channels)
        self.conv_0 = stage(dimensions, spec.input_channels, channels[0], blocks=blocks[0])
        self.depth = len(channels)
        for level in range(1, self.depth):
            down = Down(dimensions, channels[level - 1], channels[level], blocks=blocks[level])
            self.add_module(f"down_{level}", down)

    def encode(self, x: Tensor) -> list[Tensor]:
        found = [self.conv_0(x)]
        for level in range(1, self.depth):
            found.append(self.get_submodule(f"down_{level}")(found[-1]))
        return found


def add_ascent(network: nn.Module, spec: NetworkSpec, *, levels: Iterable[int]) -> None:
    """Add to `network` the decoder stages `upcat_LEVEL`, each from resolution LEVEL to the next finer one."""
    for level in levels:
        deep, finer, last = spec.features[level], spec.features[level - 1], level == 1
        width = spec.features[-1] if last else finer
        network.add_module(f"upcat_{level}", UpCat(spec.dimensions, deep, finer, width, halves=not last))


def ascend(network: nn.Module, deep: Tensor, *, skips: Sequence[Tensor], levels: Iterable[int]) -> list[Tensor]:
    """`deep` and the features after each stage that add_ascent made, coarsest first.

    skips  the encoder's features, finest first
    """
    found = [deep]
    for level in levels:
        found.append(network.get_submodule(f"upcat_{level}")(found[-1], skips[level - 1]))
    return found


def head(dimensions: int, channels: int, outputs: int) -> nn.Module:
    """1^n convolution to the logits of background and `outputs` labels: [B, C, *S] -> [B, 1 + outputs, *S]."""
    return _CONV[dimensions](channels, 1 + outputs, kernel_size=1)


def coarse_heads(spec: NetworkSpec, outputs: int) -> nn.ModuleList:
    """Heads for the decoder stages that end at S/2, S/4 ..., as many as spec.deep_supervision states."""
    widths = spec.features[1 : 1 + spec.deep_supervision]
    return nn.ModuleList(head(spec.dimensions, width, outputs) for width in widths)


def answer(finest: nn.Module, coarse: nn.ModuleList, features: Sequence[Tensor], *, deep: bool) -> Logits:
    """The logits of one group, from the features of its decoder stages, coarsest first. `coarse` is used if `deep`."""
    last, *others = reversed(features)
    if not (deep and coarse):
        return finest(last)
    return (finest(last), *(one(found) for one, found in zip(coarse, others)))


def module_name(group: str) -> str:
    """The name of a group's submodule: the group's own name where torch allows it.

    A character that torch or a dotted path cannot hold becomes ~CODE~, with its code point in hexadecimal. A name that
    is an attribute of every module, such as "train", gets a ~ at its end. Different groups have different names.
    """
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f"~{ord(c):x}~" for c in group) or "~"
    return safe + "~" if hasattr(nn.ModuleDict, safe) or safe in vars(nn.ModuleDict()) else safe
