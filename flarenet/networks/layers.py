"""Layers that compute the same as torch's layers of the same names, but faster."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norm import instance_norm


def is_converted() -> bool:
    """Whether a network is being traced, exported or compiled: then each layer has to be torch's own operation."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.compiler.is_exporting()


class Conv3d(nn.Conv3d):
    """nn.Conv3d: [B, Cin, z, y, x] -> [B, Cout, z, y, x], on a CPU by oneDNN for a single sample too.

    torch runs a single sample of few channels or slices in a loop of its own, which is up to ten times slower:
    use_mkldnn in aten/src/ATen/native/Convolution.cpp does not count the last axis of a block. Prediction runs blocks
    one by one, so this matters there.

    On a CPU that autocasts to bfloat16, inputs of one or two slices, as at the coarsest resolution of a flat patch, are
    computed in float32: for two slices, oneDNN (of torch 2.13, with AVX-512) adds uninitialised memory to the gradient
    of the weights.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _is_misread(input, weight):
            with torch.autocast("cpu", enabled=False):
                found = super()._conv_forward(input.float(), weight, bias)
            return found.to(torch.get_autocast_dtype("cpu"))
        if is_converted() or not _is_slow(input, weight):
            return super()._conv_forward(input, weight, bias)
        padding = cast(tuple[int, ...], self.padding)  # no network here gives it as a word
        return torch.mkldnn_convolution(input, weight, bias, padding, self.stride, self.dilation, self.groups)


def _is_misread(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and x.shape[2] <= 2 and weight.shape[2] > 1


def own_convolutions(network: nn.Module) -> None:
    """Turn every nn.Conv3d in `network`, as in MONAI's blocks, into our Conv3d; parameters and their names stay."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d


def _is_slow(x: Tensor, weight: Tensor) -> bool:
    """Whether torch runs this convolution slowly. Not for kernels of one voxel, nor in bfloat16, which oneDNN runs."""
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
        return False
    return len(x) == 1 and x.dtype == torch.float32 and weight[0, 0].numel() > 1


class InstanceNorm(nn.Module):
    """Instance norm with scale and shift, as nn.InstanceNorm2d and 3d: [B, C, *S] -> [B, C, *S].

    torch's own instance norm folds B into C, and so copies channels-last input to another order and back. That costs
    more than the norm itself: on a GPU nearly half of a training step. So a GPU runs kernels of our own (norm.py). A
    CPU runs group norm with groups of one channel or, in channels-last order, where the gradient of group norm is slow,
    and in types other than float32, batch norm sample by sample. A network that is converted or compiled keeps torch's
    instance norm, which other libraries have as one operation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if is_converted():
            return F.instance_norm(x, weight=self.weight, bias=self.bias)
        if x.device.type != "cpu":
            return instance_norm(x, self.weight, self.bias)
        if x.dtype == torch.float32 and (x.is_contiguous() or not torch.is_grad_enabled()):
            return F.group_norm(x, x.shape[1], self.weight, self.bias)
        samples = x.split(1)
        return torch.cat([F.batch_norm(one, None, None, self.weight, self.bias, training=True) for one in samples])


def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor, *, slope: float = 1.0) -> Tensor:
    """norm(conv(x)), then a leaky ReLU with `slope` below zero; a slope of 1.0 means no ReLU.

    On a GPU, if `norm` is an InstanceNorm, norm and ReLU are one operation, and the convolution omits its bias, because
    the norm would subtract it again. Adding the bias, and summing up its gradient, which is zero, took a sixth of a
    training step.
    """
    if isinstance(norm, InstanceNorm) and x.device.type != "cpu" and not is_converted():
        conv = cast(nn.Conv2d, conv)  # or a Conv3d, which has the same method
        found = conv._conv_forward(x, conv.weight, None)
        return instance_norm(found, norm.weight, norm.bias, slope=slope, overwrite=True)
    normed = cast(Tensor, norm(conv(x)))
    return normed if slope == 1.0 else F.leaky_relu(normed, slope, inplace=True)
