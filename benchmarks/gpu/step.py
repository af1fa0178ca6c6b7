"""Time training steps of the 2D network on a GPU: samples/s against an upper bound, memory, and the slowest operators.

    python -m benchmarks.gpu.step                                   # batch 128 of 224 x 224, bf16
    python -m benchmarks.gpu.step --device cpu --batch 2 --side 64  # the same, small, anywhere

bound      samples/s if the card did the multiply-adds of a step (counted by torch, forwards and backwards) at the rate
           that a product of two large matrices reaches on it in the same number type, and nothing else
samples/s  of whole steps, one batch in memory: network, loss, clipping, AdamW
profile    the operators that take most of the time
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training.step import Size, answers, prepared, size_of, timed
from flarenet.inference.engines.engine import PRECISIONS, autocast, pick_device
from flarenet.planning.plan import Update
from flarenet.training.batches import Batch
from flarenet.training.losses import Loss
from flarenet.training.objective import segmentation_objective
from flarenet.training.state import TrainState
from flarenet.training.update import make_scaler, update_weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("bf16", "fp16", "fp32"), default="bf16")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--compiled", action="store_true", help="measure a compiled network too")
    parser.add_argument("--trace", type=Path, help="write the profile for chrome://tracing to this file")
    arguments = parser.parse_args()
    device, size = pick_device(arguments.device), size_of("2d", arguments.batch, arguments.side)
    rate, flops = matrix_rate(device, arguments.precision), step_flops(size, device)
    bound = size.batch * rate / flops
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{name}: {rate / 1e12:.2f} TFLOP/s between matrices in {arguments.precision}")
    print(f"batch {size.batch} of {size.patch}: {flops / 1e12:.3f} TFLOP a step, bound {bound:.0f} samples/s")
    print("\n| network | ms | samples/s | of the bound | peak GB |\n|---|---|---|---|---|")
    for compiled in (False, True) if arguments.compiled else (False,):
        step = step_of(size, device, arguments.precision, compiled=compiled)
        spent_ms, peak_gb = measure(step, device, arguments.repeats)
        speed = 1000 * size.batch / spent_ms
        kind = "compiled" if compiled else "eager"
        print(f"| {kind} | {spent_ms:.1f} | {speed:.1f} | {speed / bound:.1%} | {peak_gb:.2f} |", flush=True)
    print("\n" + profiled(step_of(size, device, arguments.precision), device, arguments.trace))
    return 0


def measure(step: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """(median milliseconds of a step, peak GB on the GPU; NaN on a CPU)."""
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    spent_ms = timed(step, device, repeats)
    return spent_ms, torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")


def step_of(size: Size, device: torch.device, precision: str, *, compiled: bool = False) -> Callable[[], object]:
    """A function that takes one step as the training loop does."""
    network, image = prepared(size, device, channels_last=True)
    if compiled:
        network.compile()
    labels, annotated = answers(size, device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    state = TrainState(network, optimizer, scaler=make_scaler(device, precision))

    def objective(network: nn.Module, batch: Batch) -> Loss:
        with autocast(device, precision):
            return segmentation_objective(network, batch, size.network.groups)

    batch = Batch(image, labels, annotated, tuple(str(row) for row in range(size.batch)))
    return partial(update_weights, state, batch, objective=objective, update=Update(), where="benchmark")


def matrix_rate(device: torch.device, precision: str) -> float:
    """Floating-point operations per second of a product of two square matrices; the best of a few sizes."""
    sides = (4096, 8192, 16384) if device.type == "cuda" else (1024,)
    return max(_product_rate(n, device, PRECISIONS[precision]) for n in sides)


def _product_rate(side: int, device: torch.device, dtype: torch.dtype) -> float:
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))

    def work() -> None:
        for _ in range(5):
            torch.mm(left, right)

    return 5 * 2 * side**3 / (timed(work, device, 5) / 1000)


def step_flops(size: Size, device: torch.device) -> float:
    """Floating-point operations of a step in the network, forward and backward, as the batch size times those of one
    sample; a multiply-add counts as 2."""
    single = Size(size.network, size.outputs, 1, size.patch)
    network, image = prepared(single, device, channels_last=True)
    with FlopCounterMode(display=False) as counter:
        answered = network(image, size.network.groups)
        torch.stack([logits.sum() for logits in answered.values()]).sum().backward()
    return float(counter.get_total_flops() * size.batch)


def profiled(step: Callable[[], object], device: torch.device, trace: Path | None) -> str:
    """A table of the ten operators that take the most time on the device in five steps."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    for _ in range(2):
        step()
    with profile(activities=activities) as seen:
        for _ in range(5):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    if trace is not None:
        seen.export_chrome_trace(str(trace))
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return seen.key_averages().table(sort_by=order, row_limit=10, max_name_column_width=60)


if __name__ == "__main__":
    sys.exit(main())
