"""Time the loss, forward and backward, against the same formula by autograd, and against the network.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/training/loss.py

Logits in bf16 of 16 slices of 224 x 224 with 14 channels, once with everything annotated and once in the four annotated
patterns of FLARE23; the network is the dual decoder that `auto` plans, with one channel. Milliseconds are
the least of --repeats runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from flarenet.data.labels import HIDDEN
from flarenet.inference.engines.engine import autocast, pick_device
from flarenet.networks import build
from flarenet.planning.plan import NetworkSpec
from flarenet.training.losses import Loss, marginal_loss

LABELS = 13
FIVE = (1, 2, 3, 4, 13)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    print(f"{device}, {torch.get_num_threads()} threads, {arguments.batch} slices of {arguments.side}^2, bf16")
    print("| patterns | loss, ms | by autograd, ms | largest difference of the gradients |\n|---|---|---|---|")
    for name in ("all", "mixed"):
        batch = example(name, arguments.batch, arguments.side, device)
        ours, slope = measure(marginal_loss, batch, arguments.repeats)
        plain, wanted = measure(by_autograd, batch, arguments.repeats)
        off = ((slope - wanted).abs().max() / wanted.abs().max()).item()
        print(f"| {name} | {ours:.0f} | {plain:.0f} | {off:.1%} |", flush=True)
    print(f"the network, forward and backward: {network_ms(arguments, device):.0f} ms")
    return 0


def example(patterns: str, batch: int, side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(logits in channels-last order, as the network returns them; a target with hidden voxels; annotated labels)."""
    draw = torch.Generator().manual_seed(0)
    annotated = torch.ones(batch, 1 + LABELS, dtype=torch.bool)
    if patterns == "mixed":  # all organs, five, liver, and a tumor-only case, which has no label of this group
        for row in range(batch):
            annotated_values = (range(1, 1 + LABELS), FIVE, (1,), ())[row % 4]
            flags = [value in annotated_values for value in range(1, 1 + LABELS)]
            annotated[row] = torch.tensor([bool(annotated_values), *flags])
    target = torch.randint(0, 1 + LABELS, (batch, side, side), generator=draw)
    target = torch.where(annotated.gather(1, target.flatten(1)).view_as(target), target, 0).to(torch.uint8)
    target[:, : side // 20] = HIDDEN
    logits = torch.randn(batch, 1 + LABELS, side, side, generator=draw).to(torch.bfloat16)
    return logits.to(device).contiguous(memory_format=torch.channels_last), target.to(device), annotated.to(device)


def measure(
    loss: Callable[[Tensor, Tensor, Tensor], Loss], batch: tuple[Tensor, Tensor, Tensor], repeats: int
) -> tuple[float, Tensor]:
    """(least ms of forward and backward, the gradient)"""
    logits, target, annotated = batch
    least, slope = float("inf"), logits
    for _ in range(repeats):
        x = logits.detach().requires_grad_()
        began = _now(logits.device)
        with autocast(logits.device, "bf16"):
            total = loss(x, target, annotated).total
        (slope,) = torch.autograd.grad(total, x)
        least = min(least, _now(logits.device) - began)
    return 1000 * least, slope.float()


def by_autograd(logits: Tensor, target: Tensor, annotated: Tensor) -> Loss:
    """marginal_loss with torch operations over the whole batch, differentiated by autograd."""
    used = annotated[:, 0]
    logits, target, annotated = logits[used], target[used], annotated[used]
    log_p = torch.log_softmax(logits.flatten(2).float(), dim=1)
    goal = target.flatten(1).long()
    visible = goal != HIDDEN
    goal = goal.masked_fill(~visible, 0)
    merged = annotated[:, :, None].clone()
    merged[:, 0] = False
    background = log_p.masked_fill(merged, float("-inf")).logsumexp(dim=1, keepdim=True)
    log_p = torch.cat([background, log_p[:, 1:].masked_fill(~annotated[:, 1:, None], float("-inf"))], dim=1)
    log_p_goal = log_p.gather(1, goal[:, None])[:, 0].masked_fill(~visible, 0.0)
    classes = log_p.shape[1]
    place = torch.where(visible, goal, classes).flatten()
    overlap = log_p.new_zeros(classes + 1).index_add(0, place, log_p_goal.exp().flatten())[:classes]
    target_voxels = torch.bincount(place, minlength=classes + 1)[:classes].to(log_p.dtype)
    squares = ((2 * log_p).exp() * visible[:, None]).sum(dim=(0, 2))
    dice = 1 - ((2 * overlap + 1e-5) / (target_voxels + squares + 1e-5))[annotated.any(dim=0)].mean()
    return Loss(dice, -log_p_goal.sum() / visible.sum())


def network_ms(arguments: argparse.Namespace, device: torch.device) -> float:
    groups = {"organ": LABELS, "cancer": 1}
    spec = NetworkSpec(kind="dual_decoder", dimensions=2, features=(32, 32, 64, 128, 256, 32), groups=tuple(groups))
    network = build(spec, groups).to(device).to(memory_format=torch.channels_last)
    x = torch.rand(arguments.batch, 1, arguments.side, arguments.side, device=device)
    x, least = x.contiguous(memory_format=torch.channels_last), float("inf")
    for _ in range(arguments.repeats):
        began = _now(device)
        with autocast(device, "bf16"):
            total = sum(logits.sum() for logits in network(x).values())
        total.backward()
        least = min(least, _now(device) - began)
    return 1000 * least


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
