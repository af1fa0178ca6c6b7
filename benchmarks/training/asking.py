"""Time training steps in which each decoder sees only the samples annotated for its group, or all samples.

    OMP_NUM_THREADS=2 python -m benchmarks.training.asking                  # the paper's width, 8 slices of 224 x 224
    python -m benchmarks.training.asking --features 16 32 64 128 256 16 --patch 160 192

In the batch some samples are annotated for tumors only, the others for organs only. Median seconds of the whole step,
the two ways in turn, and their ratio. In float32 on a CPU, freed memory kept as in flarenet_train.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from statistics import median

import torch

from flarenet.cli.process import keep_freed_memory
from flarenet.networks.memory_order import training_order
from flarenet.planning.plan import Update
from flarenet.training.batches import Batch
from flarenet.training.objective import segmentation_objective
from flarenet.training.state import TrainState
from flarenet.training.update import update_weights

from .step import GROUPS, Clock, Size, answers, prepared, size_of

CPU = torch.device("cpu")
WAYS = {"every sample": True, "those that ask": False}
"""name -> segmentation_objective's same_size"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs=6, help="of the network (default: the paper's)")
    parser.add_argument("--patch", type=int, nargs=2, default=(224, 224))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tumors", type=int, default=1, help="samples that ask for tumors (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()
    spec = size_of("2d").network
    if arguments.features:
        spec = spec.model_copy(update={"features": tuple(arguments.features)})
    size = Size(spec, GROUPS, arguments.batch, tuple(arguments.patch))
    found = measure(size, tumors=arguments.tumors, repeats=arguments.repeats)
    for name, seconds in found.items():
        print(f"{name:16}{seconds:8.3f} s a step")
    print(f"{'ratio':16}{found['every sample'] / found['those that ask']:8.2f}")
    return 0


def measure(size: Size, *, tumors: int, repeats: int) -> dict[str, float]:
    """{way: median seconds of a step}, after one step of each that is not counted."""
    network, image = prepared(size, CPU, channels_last=training_order(2, CPU) == torch.channels_last)
    labels, annotated = answers(size, CPU)
    annotated["organ"][:tumors] = annotated["cancer"][tumors:] = False
    batch = Batch(image, labels, annotated, tuple(map(str, range(size.batch))))
    state = TrainState(network, torch.optim.AdamW(network.parameters(), lr=1e-4))
    clock_ms: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats + 1):
        for name, same_size in WAYS.items():
            objective = partial(segmentation_objective, groups=tuple(GROUPS), same_size=same_size)
            clock = Clock(CPU)
            update_weights(state, batch, objective=objective, update=Update(), where="benchmark")
            clock.lap(name)
            clock_ms[name].append(clock.laps[name])
    return {name: median(each[1:]) / 1000 for name, each in clock_ms.items()}


if __name__ == "__main__":
    sys.exit(main())
