"""Time instance norm and leaky ReLU on a GPU: torch's two operations, and the kernels that fuse them.

    python -m benchmarks.gpu.norm
    python -m benchmarks.gpu.norm --settings 4096,4,1024 8192,8,1024   # other tiles, warps and programs of the kernels

ms     median, of forward alone (no gradient), then of forward with backward; bfloat16 in channels-last order
GB/s   the least bytes that must be moved, divided by those ms. Forward: x twice, and the result; backward: x and the
       gradient of the result twice, and the gradient of x
error  largest difference from torch in float64 on one sample, divided by the largest value: of the result, then of the
       gradients of x, weight and bias. bfloat16 rounds a number by at most 0.0039 of it
"""

from __future__ import annotations

import argparse
import statistics
import sys
import traceback
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from flarenet.networks.norm import instance_norm

SHAPES = ((128, 32, 224, 224), (128, 256, 28, 28), (2, 32, 128, 128, 128))
SLOPE = 0.1
TITLES = ("shape", "way", "ms forwards", "GB/s", "ms both", "GB/s", "error y, dx, dweight, dbias")

Way = Callable[[Tensor, Tensor, Tensor], Tensor]

own: dict[str, tuple[int, int, int]] = {}


def torch_way(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias), SLOPE, inplace=True)


def kernel_way(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return instance_norm(x, weight, bias, slope=SLOPE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--settings", nargs="*", default=[], metavar="TILE,WARPS,PROGRAMS", help="of the kernels")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu.norm needs a GPU, and torch finds none here", file=sys.stderr)
        return 1
    warnings.simplefilter("error")  # if Triton does not work, the row must fail, not time torch's operations
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| " + " | ".join(TITLES) + " |\n" + "|---" * len(TITLES) + "|")
    ways: list[tuple[str, Way, str]] = [("torch", torch_way, ""), ("kernels", kernel_way, "")]
    ways += [(f"kernels {setting}", kernel_way, setting) for setting in arguments.settings]
    failed = False
    for shape in SHAPES:
        for name, way, setting in ways:
            try:
                if way is kernel_way:
                    set_kernels(setting)
                cells = row(way, shape, arguments.repeats)
            except Exception as error:  # noqa: BLE001 - the other rows go on
                traceback.print_exc()
                failed, cells = True, [f"{type(error).__name__}: {error}".splitlines()[0]]
            print("| " + " | ".join(["x".join(map(str, shape)), name, *cells]) + " |", flush=True)
    return int(failed)


def set_kernels(setting: str) -> None:
    """Give the kernels another tile, number of warps and number of programs; "" gives them their own again."""
    from flarenet.networks import norm_kernels

    own.setdefault("setting", (norm_kernels.TILE, norm_kernels.WARPS, norm_kernels.PROGRAMS))
    chosen = map(int, setting.split(",")) if setting else own["setting"]
    norm_kernels.TILE, norm_kernels.WARPS, norm_kernels.PROGRAMS = chosen


def row(way: Way, shape: tuple[int, ...], repeats: int) -> list[str]:
    x, weight, bias, dy = given(shape)
    size = x.numel() * x.element_size()
    with torch.no_grad():
        forwards_ms = median_ms(lambda: way(x, weight, bias), repeats)
    both_ms = median_ms(lambda: torch.autograd.grad(way(x, weight, bias), (x, weight, bias), dy), repeats)
    rates = [f"{passes * size / ms / 1e6:.0f}" for passes, ms in ((3, forwards_ms), (8, both_ms))]
    wrong = ", ".join(f"{error:.1e}" for error in errors(way, x[:1], weight, bias, dy[:1]))
    return [f"{forwards_ms:.3f}", rates[0], f"{both_ms:.3f}", rates[1], wrong]


def given(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    order = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    random = torch.Generator("cuda").manual_seed(0)
    x, dy = (
        torch.empty(shape, dtype=torch.bfloat16, device="cuda", memory_format=order).normal_(mean, 3, generator=random)
        for mean in (2, 0)
    )
    weight, bias = torch.randn((2, shape[1]), device="cuda", generator=random).unbind()
    return x.requires_grad_(), weight.clone().requires_grad_(), bias.clone().requires_grad_(), dy


def median_ms(call: Callable[[], object], repeats: int) -> float:
    for _ in range(3):
        call()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(before.elapsed_time(after) for before, after in zip(events, events[1:]))


def errors(way: Way, x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> list[float]:
    found, expected = [], []
    for into, call, dtype in ((found, way, x.dtype), (expected, torch_way, torch.float64)):
        wide = torch.float32 if dtype == torch.bfloat16 else dtype
        mine = [x.detach().to(dtype).requires_grad_(), *(p.detach().to(wide).requires_grad_() for p in (weight, bias))]
        y = call(*mine)
        into += [y.detach(), *torch.autograd.grad(y, mine, dy.to(dtype))]
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(found, expected)]


if __name__ == "__main__":
    sys.exit(main())
