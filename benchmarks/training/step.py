"""Time one training step at the paper's width, in parts and in several ways, and name the fastest way.

    OMP_NUM_THREADS=2 python -m benchmarks.training.step      # 2D: 16 slices of 224 x 224; 3D: a block of 128^3
    python -m benchmarks.training.step --only 2d --ways "bf16, channels-last" "bf16, channels-last, compiled"

Median milliseconds of --repeats steps after two that are not counted: forward pass, loss, backward pass of both, update
of the weights. The last column is the loss alone, forward and backward, as a share of the step. On a GPU the clock is
read after synchronisation. A CPU without bf16 instructions emulates them, slowly. In 2D freed memory stays with the
process, as in flarenet_train; with --give-back it does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from flarenet.cli.process import keep_freed_memory
from flarenet.data.labels import HIDDEN
from flarenet.inference.engines.engine import autocast, pick_device
from flarenet.networks import build
from flarenet.planning.plan import NetworkSpec
from flarenet.training.losses import segmentation_loss

GROUPS = {"organ": 13, "cancer": 1}
ORGANS = {"organ": 13}
WAYS = {
    "fp32": ("fp32", False, False),
    "fp32, channels-last": ("fp32", True, False),
    "fp32, channels-last, compiled": ("fp32", True, True),
    "bf16": ("bf16", False, False),
    "bf16, channels-last": ("bf16", True, False),
    "bf16, channels-last, compiled": ("bf16", True, True),
}
"""name -> precision, channels-last, compiled"""

PARTS = ("forward", "loss", "backward", "update")


@dataclass(frozen=True)
class Size:
    """A network of docs/results.md, and the size of its batch."""

    network: NetworkSpec
    outputs: dict[str, int]
    batch: int
    patch: tuple[int, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("2d", "3d"), nargs="+", default=["2d", "3d"])
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help="samples of a step (default: 16 slices, 1 block)")
    parser.add_argument("--side", type=int, help="voxels along each axis of a patch (default: 224, 128)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--give-back", action="store_true", help="give freed memory back to the system")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    for name in sorted(arguments.only, reverse=True):  # 3D first: keep_freed_memory cannot be undone
        if name == "2d" and not arguments.give_back:
            keep_freed_memory()
        size = size_of(name, arguments.batch, arguments.side)
        print(f"\n{name}: batch {size.batch} of {size.patch}, {device}, {torch.get_num_threads()} threads")
        print("| way | " + " ms | ".join([*PARTS, "step"]) + " ms | loss, share |\n|---|---|---|---|---|---|---|")
        steps = {}
        for way in arguments.ways:
            spent, loss_ms = measure(size, way, device, arguments.repeats)
            steps[way] = sum(spent.values())
            cells = " | ".join(f"{spent[part]:.0f}" for part in PARTS)
            print(f"| {way} | {cells} | {steps[way]:.0f} | {loss_ms / steps[way]:.1%} |", flush=True)
        print(f"fastest: {min(steps, key=steps.__getitem__)}")
    return 0


def size_of(name: str, batch: int | None = None, side: int | None = None) -> Size:
    """The paper's dual decoder on slices, or its 3D U-Net on blocks."""
    if name == "2d":
        features = (16, 32, 64, 128, 256, 128)
        spec = NetworkSpec(kind="dual_decoder", dimensions=2, features=features, groups=tuple(GROUPS))
        return Size(spec, GROUPS, batch or 16, (side or 224,) * 2)
    features = (16, 16, 32, 64, 128, 16)
    spec = NetworkSpec(kind="unet", dimensions=3, features=features, groups=tuple(ORGANS))
    return Size(spec, ORGANS, batch or 1, (side or 128,) * 3)


def measure(size: Size, way: str, device: torch.device, repeats: int) -> tuple[dict[str, float], float]:
    """(median milliseconds of each part of a step, those of the loss alone, forward and backward)."""
    precision, last, compiled = WAYS[way]
    network, image = prepared(size, device, channels_last=last)
    if compiled:
        network.compile()
    labels, annotated = answers(size, device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    rows = []
    for _ in range(repeats + 2):
        clock = Clock(device)
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            logits = network(image, size.network.groups)
            clock.lap("forward")
            total = segmentation_loss(logits, labels, annotated).total
        clock.lap("loss")
        total.backward()
        clock.lap("backward")
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        clock.lap("update")
        rows.append(clock.laps)
    leaves = {group: found.detach().requires_grad_() for group, found in logits.items()}
    return (
        {part: median(row[part] for row in rows[2:]) for part in PARTS},
        timed(lambda: segmentation_loss(leaves, labels, annotated).total.backward(), device, repeats),
    )


def prepared(size: Size, device: torch.device, *, channels_last: bool) -> tuple[nn.Module, Tensor]:
    """(the network in train mode, an image for it), both in the same memory order."""
    torch.manual_seed(0)
    order = torch.contiguous_format
    if channels_last:
        order = torch.channels_last if len(size.patch) == 2 else torch.channels_last_3d
    network = build(size.network, size.outputs, size.patch).to(device).to(memory_format=order).train()
    image = torch.rand(size.batch, 1, *size.patch).to(device)
    return network, image.contiguous(memory_format=order)


def answers(size: Size, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(labels, annotated labels) of a batch in which everything is annotated and a twentieth is hidden."""
    labels = {}
    for group, count in size.outputs.items():
        drawn = torch.randint(0, 1 + count, (size.batch, *size.patch), dtype=torch.uint8)
        drawn[:, : size.patch[0] // 20] = HIDDEN
        labels[group] = drawn.to(device)
    annotated = {group: torch.ones(size.batch, 1 + count, dtype=torch.bool) for group, count in size.outputs.items()}
    return labels, annotated


class Clock:
    """Milliseconds between laps, by name."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.laps = device, dict[str, float]()
        self._last = self._now()

    def lap(self, name: str) -> None:
        now = self._now()
        self.laps[name], self._last = 1000 * (now - self._last), now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median milliseconds of `work`, after one call that is not counted."""
    found = []
    for _ in range(repeats + 1):
        clock = Clock(device)
        work()
        clock.lap("all")
        found.append(clock.laps["all"])
    return median(found[1:])


if __name__ == "__main__":
    sys.exit(main())
