"""Instance norm and the leaky ReLU after it on a GPU. With Triton, one pass takes the statistics and one writes."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-5
"""Added to the variance, as in torch and MONAI."""

_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_ORDERS = {4: torch.channels_last, 5: torch.channels_last_3d}


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, *, slope: float = 1.0, overwrite: bool = False) -> Tensor:
    """F.instance_norm, then F.leaky_relu: x [B, C, *S], weight and bias [C] -> [B, C, *S] in the type of x.

    slope      slope of the leaky ReLU below zero; 1.0: no ReLU
    overwrite  without gradients, the kernels may write the result over x, which saves an activation's memory

    On an NVIDIA or AMD GPU, x in channels-last order goes through the kernels of norm_kernels. They sum in float32, and
    their gradient cannot be differentiated again. Anything else goes through torch's operations.
    """
    if not _has_kernels(x):
        normed = F.instance_norm(x, weight=weight, bias=bias)
        return normed if slope == 1.0 else F.leaky_relu(normed, slope, inplace=True)
    if torch.is_grad_enabled():
        return _InstanceNorm.apply(x, weight, bias, slope)  # type: ignore[no-any-return]
    return _forward(x, weight, bias, slope, into=x if overwrite else None)[0]


class _InstanceNorm(torch.autograd.Function):
    """Saves x for the backward pass but not the result, which it recomputes: memory of one activation, not of two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        y, mean, inverse = _forward(x, weight, bias, slope)
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.slope = slope
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        from . import norm_kernels

        x, weight, bias, mean, inverse = ctx.saved_tensors
        dy = dy.contiguous(memory_format=_ORDERS[x.ndim])
        statistics = {"mean": mean, "inverse": inverse}
        return *norm_kernels.backward(x, dy, weight, bias, **statistics, slope=ctx.slope), None


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor, slope: float, *, into: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    from . import norm_kernels

    return norm_kernels.forward(x, weight, bias, slope=slope, epsilon=EPSILON, into=into)


def _has_kernels(x: Tensor) -> bool:
    if x.device.type != "cuda" or x.dtype not in _TYPES or x.ndim not in _ORDERS or not x.numel():
        return False
    return x.is_contiguous(memory_format=_ORDERS[x.ndim]) and kernels_run_on(x.device)


@cache
def kernels_run_on(device: torch.device) -> bool:
    """Whether Triton can compile and run a kernel on `device`. Tried once in a process; a failure gives a warning."""
    one = torch.ones(1, device=device)
    try:
        _forward(one.view(1, 1, 1, 1), one, one, 1.0)
    except Exception as error:  # noqa: BLE001 - Triton, a C compiler and a driver fail in ways of their own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"instance norm is slower than it needs to be: Triton fails on {device} ({reason})", stacklevel=2)
        return False
    return True
