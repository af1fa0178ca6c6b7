"""Instance norm that leaves its input in the order it has in memory, channels-last for one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-5
"""Added to the variance, as in torch and MONAI."""


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As F.instance_norm: x [B, C, *S], weight and bias [C] -> [B, C, *S] in the type and memory order of x.

    Sums and what follows from them are float32 at least. Differentiable once.
    """
    normed: Tensor = _InstanceNorm.apply(x, weight, bias)
    return normed


class _InstanceNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            space, count = _space(x), x[0, 0].numel()
            wide = torch.promote_types(x.dtype, torch.float32)
            mean = x.sum(space, keepdim=True, dtype=wide) / count
            squares = torch.linalg.vector_norm(x, dim=space, keepdim=True, dtype=wide).square() / count
            inverse = (squares - mean.square()).clamp_min(0).add(EPSILON).rsqrt()  # of the standard deviation
            scale = inverse * _per_channel(weight, x)
            ctx.save_for_backward(x, weight, mean, inverse)
            shift = _per_channel(bias, x) - mean * scale
            return torch.addcmul(shift, x, scale, out=torch.empty_like(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """With n = (x - mean) * inverse and means over S: dx = weight * inverse * (dy - mean(dy) - n * mean(dy * n)).

        (Ioffe and Szegedy, arXiv 1502.03167, section 3, for the voxels of one channel of a sample.)
        """
        x, weight, mean, inverse = ctx.saved_tensors
        space, count = _space(x), x[0, 0].numel()
        by_bias = slope.sum(space, keepdim=True, dtype=mean.dtype)
        wide = slope.to(mean.dtype) if slope.dtype == torch.float16 else slope  # a scaled loss has products beyond it
        by_scale = ((wide * x).sum(space, keepdim=True, dtype=mean.dtype) - mean * by_bias) * inverse
        scale = inverse * _per_channel(weight, x)
        of_x = -scale * inverse * by_scale / count
        rest = -scale * by_bias / count - mean * of_x
        grown = torch.addcmul(torch.addcmul(rest, x, of_x), slope, scale, out=torch.empty_like(x))
        return grown, by_scale.sum(0).flatten().to(weight.dtype), by_bias.sum(0).flatten().to(weight.dtype)


def _space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *(1 for _ in _space(x)))
