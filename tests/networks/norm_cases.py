"""Instance norm and rectifier by the kernels beside torch's in float64: the largest differences, by their bounds.

    TRITON_INTERPRET=1 python -m tests.networks.norm_cases     # on a CPU, by Triton's interpreter: JSON {case: Found}

Triton reads the variable when it is imported, and other tests of the same process need it compiled.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from flarenet.networks import norm, norm_kernels

ORDERS = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    slope: float = 0.1
    mean: float = 2.0
    spread: float = 3.0
    gradient: float = 1.0
    parts: int = 1  # of a sample's voxels, as the kernels share them out; 1 where they are few
    tile: int = norm_kernels.TILE  # a smaller one has more parts, and merges fewer at a time


CASES = {
    "odd sizes": Case((3, 5, 7, 9)),
    "no rectifier": Case((3, 5, 7, 9), slope=1.0),
    "3D": Case((2, 4, 5, 6, 7)),
    "3D, no rectifier": Case((2, 4, 5, 6, 7), slope=1.0),
    "bfloat16": Case((2, 6, 9, 11), torch.bfloat16),
    "bfloat16, 3D, no rectifier": Case((1, 3, 4, 5, 6), torch.bfloat16, slope=1.0),
    "float16": Case((2, 6, 9, 11), torch.float16),
    "one channel": Case((2, 1, 8, 9)),
    "channels of two tiles": Case((2, 70, 5, 6)),
    "parts, the last not full": Case((1, 32, 67, 43), parts=6),
    "parts and tiles": Case((2, 100, 40, 17), parts=3),
    "more parts than are merged at a time": Case((1, 64, 40, 33), parts=21, tile=1024),
    "a mean of 100 standard deviations": Case((2, 3, 64, 64), mean=100.0, spread=1.0),
    "products that float16 cannot hold": Case((1, 2, 8, 8), torch.float16, slope=1.0, spread=200.0, gradient=30000.0),
}


@dataclass(frozen=True)
class Found:
    """Differences of the result and of the gradients of x, weight and bias; above 1.0 one is beyond its bound."""

    y: float
    dx: float
    dweight: float
    dbias: float
    kept: bool  # type and memory order, of y and dx
    repeats: bool  # on a card a second run, and everywhere one whose result takes the place of x, bit for bit
    parts: int
    merged: int  # of them, at a time


def compare(case: Case, device: torch.device) -> Found:
    with patch.object(norm_kernels, "TILE", case.tile):
        return compare_tiled(case, device)


def compare_tiled(case: Case, device: torch.device) -> Found:
    torch.manual_seed(0)
    x = (case.mean + case.spread * torch.randn(case.shape)).to(device, case.dtype)
    x = x.contiguous(memory_format=ORDERS[x.ndim])
    dy = (case.gradient * torch.randn(case.shape)).to(x)
    weight, bias = torch.randn((2, case.shape[1])).to(device).unbind()
    found = run(norm._InstanceNorm.apply, x, weight, bias, dy=dy, slope=case.slope)
    again = found  # the interpreter takes one program after the other: nothing could come out of order there
    if device.type == "cuda":
        again = run(norm._InstanceNorm.apply, x, weight, bias, dy=dy, slope=case.slope)
    wide = (each.double() for each in (x, weight, bias))
    expected = run(reference, *wide, dy=dy.double(), slope=case.slope)
    kept = all(each.dtype == x.dtype and each.stride() == x.stride() for each in found[:2])
    same = all(torch.equal(one, other) for one, other in zip(found, again))
    with torch.no_grad():
        place = x.clone()
        over = norm._forward(place, weight, bias, case.slope, into=place)[0]
    same = same and over is place and torch.equal(over, found[0])
    lost = 5e-6 + torch.finfo(torch.float32).eps * case.mean / case.spread
    beyond = [beyond_bound(*pair, lost) for pair in zip(found, expected)]
    tiling = norm_kernels.tiling_of(x)
    return Found(*beyond, kept=kept, repeats=same, parts=tiling.parts, merged=tiling.blocks["BLOCK_S"])


def run(call, x: Tensor, weight: Tensor, bias: Tensor, *, dy: Tensor, slope: float) -> list[Tensor]:
    given = [each.detach().requires_grad_() for each in (x, weight, bias)]
    y = call(*given, slope)
    return [y.detach(), *torch.autograd.grad(y, given, dy)]


def reference(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias), slope)


def beyond_bound(found: Tensor, expected: Tensor, lost: float) -> float:
    """The largest difference by what its number type loses (the interpreter cuts digits off, a GPU rounds) and by what
    float32 loses, a share of the largest number: digits of sums, and those of the mean that are below the spread."""
    bound = torch.finfo(found.dtype).eps * expected.abs() + lost * expected.abs().max()
    ratio = ((found.double() - expected).abs() / bound).max().item()
    return ratio if torch.isfinite(found).all() else float("inf")


if __name__ == "__main__":
    json.dump({name: asdict(compare(case, torch.device("cpu"))) for name, case in CASES.items()}, sys.stdout)
