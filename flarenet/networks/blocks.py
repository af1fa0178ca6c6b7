"""The pieces a U-Net is made of, in 2 and 3 dimensions: the form of MONAI's BasicUNet in plain torch.

Shapes are written for C channels and spatial sizes S = (z, y, x) or (y, x).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}

LEAK = 0.1
"""Slope of the leaky rectifier below zero, as in BasicUNet."""


class InstanceNorm(nn.Module):
    """Instance norm with scale and shift, as nn.InstanceNorm: [B, C, *S] -> [B, C, *S], each sample for itself.

    On a CPU it is the batch norm of one sample after the other. torch's own instance norm folds B into C, and so
    copies channels-last input to another order and back, which costs more than the norm itself.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.instance_norm(x, weight=self.weight, bias=self.bias)
        samples = x.split(1)
        return torch.cat([F.batch_norm(one, None, None, self.weight, self.bias, training=True) for one in samples])


class ConvNormAct(nn.Sequential):
    """3^n convolution, instance norm with scale and shift, leaky rectifier: [B, Cin, *S] -> [B, Cout, *S]."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = _CONV[dimensions](channels_in, channels_out, kernel_size=3, padding=1)
        self.norm = InstanceNorm(channels_out)
        self.act = nn.LeakyReLU(LEAK, inplace=True)


class TwoConv(nn.Sequential):
    """Two ConvNormAct: [B, Cin, *S] -> [B, Cout, *S]."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv_0 = ConvNormAct(dimensions, channels_in, channels_out)
        self.conv_1 = ConvNormAct(dimensions, channels_out, channels_out)


class Down(nn.Sequential):
    """Maximum over 2^n voxels, then TwoConv: [B, Cin, *S] -> [B, Cout, *(S // 2)]."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pool = _POOL[dimensions](kernel_size=2)
        self.convs = TwoConv(dimensions, channels_in, channels_out)


class UpCat(nn.Module):
    """Double the size, put the encoder's features of that size in front, then TwoConv.

    deep [B, Cdeep, *(S // 2)], skip [B, Cskip, *S] -> [B, Cout, *S]. The transposed convolution halves the
    channels where `halves`. Where S is odd its last plane is repeated once, as in BasicUNet.
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
            # F.pad counts from the last axis, with (before, after) per axis
            raised = F.pad(raised, [n for lack in reversed(missing) for n in (0, lack)], mode="replicate")
        return self.convs(torch.cat([skip, raised], dim=1))


class Encoder(nn.Module):
    """Five resolutions: [B, Cin, *S] -> features at S, S/2, S/4, S/8, S/16, finest first.

    A base class, so that its parts keep the short names `conv_0`, `down_1` ... `down_4` in the network.
    """

    def __init__(self, dimensions: int, channels_in: int, features: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_0 = TwoConv(dimensions, channels_in, features[0])
        self.down_1 = Down(dimensions, features[0], features[1])
        self.down_2 = Down(dimensions, features[1], features[2])
        self.down_3 = Down(dimensions, features[2], features[3])
        self.down_4 = Down(dimensions, features[3], features[4])

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        x0 = self.conv_0(x)
        x1 = self.down_1(x0)
        x2 = self.down_2(x1)
        x3 = self.down_3(x2)
        return x0, x1, x2, x3, self.down_4(x3)


def head(dimensions: int, channels: int, outputs: int) -> nn.Module:
    """1^n convolution to the logits of background and `outputs` labels: [B, C, *S] -> [B, 1 + outputs, *S]."""
    return _CONV[dimensions](channels, 1 + outputs, kernel_size=1)


def module_name(group: str) -> str:
    """The name of a group's submodule: the group's own name wherever torch allows it.

    A character that torch or a dotted path cannot hold becomes ~ and its code point; a name that is already an
    attribute of every module (as "train") gets a ~ at its end. Different groups have different names.
    """
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f"~{ord(c):x}~" for c in group) or "~"
    return safe + "~" if hasattr(nn.ModuleDict, safe) or safe in vars(nn.ModuleDict()) else safe
