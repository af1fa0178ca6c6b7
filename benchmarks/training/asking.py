"""A training step whose decoders see the samples that ask something of their group, beside one in which each sees all.

    OMP_NUM_THREADS=2 python -m benchmarks.training.asking                  # the paper's width, 8 slices of 224 x 224
    python -m benchmarks.training.asking --features 16 32 64 128 256 16 --patch 160 192

Of a batch with partial labels: some samples ask for tumors alone, the others for organs alone. Median seconds of the
whole step, the two ways in turn, and their ratio. In float32 on a CPU, freed memory kept as in flarenet_train.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from flarenet.cli.heap import keep_freed_memory
from flarenet.networks import build
from flarenet.networks.memory_order import training_order
from flarenet.planning.plan import NetworkSpec, Update
from flarenet.training.batches import Batch
from flarenet.training.objective import segmentation_objective
from flarenet.training.state import TrainState
from flarenet.training.update import learn

OUTPUTS = {"organ": 13, "cancer": 1}
CPU = torch.device("cpu")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--features", type=int, nargs=6, default=(16, 32, 64, 128, 256, 128))
    words.add_argument("--patch", type=int, nargs=2, default=(224, 224))
    words.add_argument("--batch", type=int, default=8)
    words.add_argument("--tumors", type=int, default=1, help="samples that ask for tumors (default: %(default)s)")
    words.add_argument("--repeats", type=int, default=5)
    arguments = words.parse_args()
    keep_freed_memory()
    batch = batch_of(arguments.batch, arguments.tumors, tuple(arguments.patch))
    state = state_of(tuple(arguments.features), tuple(arguments.patch))
    ways = {"every sample": step(state, batch, same_size=True), "those that ask": step(state, batch, same_size=False)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats + 1):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    found = {name: median(each[1:]) for name, each in seconds.items()}
    for name, each in found.items():
        print(f"{name:16}{each:8.3f} s a step")
    print(f"ratio           {found['every sample'] / found['those that ask']:8.2f}")
    return 0


def batch_of(count: int, tumors: int, patch: tuple[int, ...]) -> Batch:
    asks = torch.arange(count) < tumors
    flags = {"organ": ~asks, "cancer": asks}
    labels = {group: torch.randint(0, 1 + n, (count, *patch), dtype=torch.uint8) for group, n in OUTPUTS.items()}
    asked = {group: flags[group][:, None].repeat(1, 1 + n) for group, n in OUTPUTS.items()}
    image = torch.rand(count, 1, *patch).contiguous(memory_format=training_order(2, CPU))
    return Batch(image, labels, asked, tuple(map(str, range(count))))


def state_of(features: tuple[int, ...], patch: tuple[int, ...]) -> TrainState:
    spec = NetworkSpec(kind="dual_decoder", dimensions=2, features=features, groups=tuple(OUTPUTS))
    network = build(spec, OUTPUTS, patch).to(memory_format=training_order(2, CPU)).train()
    return TrainState(network, torch.optim.AdamW(network.parameters(), lr=1e-4))


def step(state: TrainState, batch: Batch, *, same_size: bool) -> Callable[[], object]:
    judge = partial(segmentation_objective, state.network, groups=tuple(OUTPUTS), same_size=same_size)
    return partial(learn, state, batch, judge=judge, update=Update(), where="benchmark")


if __name__ == "__main__":
    sys.exit(main())
