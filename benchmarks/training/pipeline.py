"""Time the pipeline from stored cases to batches: alone, in parts, and while a network trains.

    python -m benchmarks.training.pipeline                          # flarenet alone
    python -m benchmarks.training.pipeline --nnunet VENV            # against nnU-Net v2's 2d loader
    python -m benchmarks.training.pipeline --only alone parts loop

Phantom scans of 512 x 512 pixels, the same for both programs, with the same patch size.
alone   milliseconds per sample with 0, 1 and 2 loader processes. Target: a third of nnU-Net's with 2.
parts   processor milliseconds of each part of making a sample.
loop    samples/s of training with real batches, divided by those with one constant batch, in turn. Target: 0.95.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from benchmarks.preparation.against_nnunet import Side
from benchmarks.preparation.scans import LABELS, scan, write_raw
from flarenet.data.labels import split
from flarenet.data.store import Store
from flarenet.inference.engines.engine import autocast
from flarenet.networks import build
from flarenet.networks.memory_order import training_order
from flarenet.planning.plan import Augmentation, NetworkSpec, Update
from flarenet.planning.rules.training import AUTO_AUGMENTATION
from flarenet.preparation.prepare import FULL
from flarenet.training.augment import augment
from flarenet.training.batches import Batch, Batches, Sample
from flarenet.training.loader import Loader
from flarenet.training.loop import to_device
from flarenet.training.losses import Loss
from flarenet.training.objective import segmentation_objective
from flarenet.training.state import TrainState
from flarenet.training.update import update_weights

CPU, GROUPS = torch.device("cpu"), tuple(LABELS.groups)
LOW_HU, HIGH_HU = -200, 300
FLAT = NetworkSpec(kind="dual_decoder", dimensions=2, features=(16, 32, 64, 128, 256, 128), groups=GROUPS)
DEEP = NetworkSpec(kind="unet", dimensions=3, features=(16, 16, 32, 64, 128, 16), groups=GROUPS[:1])
"""The paper's networks."""


@dataclass(frozen=True)
class Kind:
    """The kind of batches to make."""

    augmentation: Augmentation
    neighbours: int = 0


KINDS = {
    "paper": Kind(Augmentation()),
    "auto, one slice": Kind(AUTO_AUGMENTATION),
    "auto, three slices": Kind(AUTO_AUGMENTATION, neighbours=1),
}

STILL = {"noise_sd": 0.0, "scale": 0.0, "shift": 0.0}
CHANGES: dict[str, dict[str, float]] = {
    "copied": {},
    "turned, zoomed": {"rotation_deg": AUTO_AUGMENTATION.rotation_deg, "zoom": AUTO_AUGMENTATION.zoom},
    "gamma": {"gamma": 0.3},
    "scale": {"scale": 0.2},
    "shift": {"shift": 0.1},
    "noise": {"noise_sd": 0.05},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, metavar="VENV", help="an environment that holds nnU-Net v2")
    parser.add_argument("--only", nargs="+", choices=("alone", "parts", "loop"), default=["alone", "parts", "loop"])
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--slices", type=int, nargs="+", default=[60, 78, 96, 114, 132, 150])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="of the loop: real batches, then a constant one")
    parser.add_argument("--batch", type=int, default=16, help="slices in a batch")
    parser.add_argument("--loop-patch", type=int, nargs=2, default=[224, 128], metavar=("2D", "3D"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = stored(Path(folder) / "store", arguments.slices, arguments.pixels)
        if "alone" in arguments.only:
            alone(samples, arguments, Path(folder))
        if "parts" in arguments.only:
            parts(samples, arguments.pixels)
        if "loop" in arguments.only:
            loops(samples, arguments)
    return 0


def stored(folder: Path, slices: list[int], pixels: int) -> list[Sample]:
    store, found = Store(folder), []
    for index, count in enumerate(slices):
        volume, labels = scan(index, count, pixels=pixels)
        window = np.clip((volume.data.astype(np.float32) - LOW_HU) / (HIGH_HU - LOW_HU), 0, 1)
        image, maps = np.rint(window * FULL).astype(np.int16), split(labels, LABELS, LABELS.values)
        key, grid = "benchmark", volume.grid
        store.write(f"scan_{index}", annotated=LABELS.values, key=key, grid=grid, original=grid, image=image, maps=maps)
        case = store.read(f"scan_{index}")
        annotated = {group: np.ones(1 + number, dtype=bool) for group, number in LABELS.outputs.items()}
        found.append(Sample(case.record.name, case.image, case.maps, annotated, case.places))
    return found


def drawn(samples: list[Sample], kind: Kind, patch: tuple[int, ...], size: int) -> Batches:
    return Batches(
        samples,
        patch,
        batch_size=size,
        seed=0,
        augmentation=kind.augmentation,
        foreground=kind.augmentation.foreground,
        neighbours=kind.neighbours,
    )


def alone(samples: list[Sample], arguments: argparse.Namespace, folder: Path) -> None:
    """Time the making of batches, without a network."""
    torch.set_num_threads(1)
    print("| ms a sample | " + " | ".join(f"{n} workers" for n in arguments.workers) + " |")
    print("|---|" + "---|" * len(arguments.workers))
    found: dict[tuple[str, int], float] = {}
    for name, kind in KINDS.items():
        batches = drawn(samples, kind, (arguments.pixels,) * 2, arguments.batch)
        for workers in arguments.workers:
            found[name, workers] = 1000 * seconds_of_a_sample(batches, workers)
        print(f"| {name} | " + " | ".join(f"{found[name, n]:.2f}" for n in arguments.workers) + " |", flush=True)
    if arguments.nnunet:
        theirs = nnunet_ms(folder, arguments)
        print("| nnU-Net 2d | " + " | ".join(f"{theirs[n]:.2f}" for n in arguments.workers) + " |")
        for name in KINDS:
            ratios = (f"{theirs[n] / found[name, n]:.1f}" for n in arguments.workers)
            print(f"| nnU-Net / {name} | " + " | ".join(ratios) + " |", flush=True)


def seconds_of_a_sample(batches: Batches, workers: int, *, warm: int = 8, timed: int = 24) -> float:
    with Loader(workers) as loader:
        ahead = loader.prefetch(batches, epochs=1, batches_per_epoch=warm + timed)
        for index in range(warm):
            ahead.batch(0, index)
        began = time.perf_counter()
        for index in range(warm, warm + timed):
            ahead.batch(0, index)
        return (time.perf_counter() - began) / (timed * batches.batch_size)


def nnunet_ms(folder: Path, arguments: argparse.Namespace) -> dict[int, float]:
    """{workers: milliseconds per sample} of nnU-Net's loader on the same scans."""
    side = Side(folder, arguments.nnunet, 2)
    write_raw(side.raw, tuple(arguments.slices), pixels=arguments.pixels)
    for command, *options in (("extract_fingerprint",), ("plan_experiment",), ("preprocess", "-c", "2d")):
        side.nnunet(command, *options)
    script, found = Path(__file__).with_name("nnunet_loader.py"), {}
    for workers in arguments.workers:
        line = [str(arguments.nnunet / "bin" / "python"), str(script), str(arguments.pixels), str(arguments.batch)]
        environment = {**side.environment, "nnUNet_n_proc_DA": str(workers), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, env=environment, capture_output=True, text=True)
        said = [text.split()[1] for text in done.stdout.splitlines() if text.startswith("ms ")]
        if not said:
            raise RuntimeError(f"{' '.join(line)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
        found[workers] = float(said[0])
    return found


def parts(samples: list[Sample], pixels: int) -> None:
    """Print the cost of a sample before augmentation, and of each change, applied with probability 1."""
    torch.set_num_threads(1)
    turning = Augmentation(probability=1.0, foreground=0.5, **STILL, **CHANGES["turned, zoomed"])
    for patch, neighbours in (((pixels, pixels), 0), ((pixels, pixels), 1), ((128, 128, 128), 0)):
        parts_of(drawn(samples, Kind(Augmentation(probability=0.0, foreground=0.5), neighbours), patch, 1))
        turned = drawn(samples, Kind(turning, neighbours), patch, 1)  # with everything that rotates into the patch
        print(f"  read and turned  {1000 * timed(lambda n, turned=turned: turned.batch(0, n)):7.2f}", flush=True)


def parts_of(plain: Batches) -> None:
    batch = plain.batch(0, 0)
    image, maps = batch.image[0].numpy(), {group: labels[0].numpy() for group, labels in batch.labels.items()}
    print(f"\n{' x '.join(map(str, image.shape))}: ms")
    print(f"  read and placed  {1000 * timed(lambda n: plain.batch(0, n)):7.2f}")
    for name, change in CHANGES.items():
        settings = Augmentation(probability=1.0, **{**STILL, **change})
        change_once = partial(augment, image, maps, settings)
        print(f"  {name:16} {1000 * timed(lambda n, work=change_once: work([n])):7.2f}", flush=True)


def timed(work: Callable[[int], object], *, repeat: int = 30) -> float:
    """Median processor seconds of `work`, which gets the number of the repetition."""
    found = []
    for number in range(repeat):
        began = time.process_time()
        work(number)
        found.append(time.process_time() - began)
    return median(found)


def loops(samples: list[Sample], arguments: argparse.Namespace) -> None:
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    print(f"\n| training, {cores} cores | workers | samples/s | with one constant batch | ratio |")
    print("|---|---|---|---|---|")
    flat, deep = arguments.loop_patch
    for name, spec, patch, size, steps in (
        ("2D", FLAT, (flat, flat), arguments.batch, 8),
        ("3D", DEEP, (deep, deep, deep), 2, 6),
    ):
        batches = drawn(samples, KINDS["auto, one slice"], patch, size)
        for workers in arguments.workers:
            real, constant = side_by_side(spec, batches, workers, steps=steps, rounds=arguments.rounds)
            print(f"| {name} | {workers} | {real:.2f} | {constant:.2f} | {real / constant:.3f} |", flush=True)


def side_by_side(spec: NetworkSpec, batches: Batches, workers: int, *, steps: int, rounds: int) -> tuple[float, float]:
    """Samples/s with real batches and with a constant one; medians over rounds, in turn."""
    torch.manual_seed(0)
    network = build(spec, LABELS.outputs).to(memory_format=training_order(spec.dimensions, CPU))
    state = TrainState(network, torch.optim.AdamW(network.parameters(), lr=1e-4))
    found: dict[str, list[float]] = {"real": [], "constant": []}
    with Loader(workers) as loader:
        # a source per round, so that no round makes batches ahead for another
        sources = [loader.prefetch(batches, epochs=1, batches_per_epoch=steps) for _ in range(1 + rounds)]
        same = [sources[0].batch(0, index) for index in range(steps)][0]
        seconds(state, spec, iter([same]))
        for source in sources[1:]:
            found["constant"].append(seconds(state, spec, (same for _ in range(steps))))
            found["real"].append(seconds(state, spec, map(partial(source.batch, 0), range(steps))))
    rates = {name: steps * batches.batch_size / median(each) for name, each in found.items()}
    return rates["real"], rates["constant"]


def seconds(state: TrainState, spec: NetworkSpec, batches: Iterator[Batch]) -> float:
    """Seconds of training on all `batches`, a step each, fetching them included."""

    def objective(network: nn.Module, batch: Batch) -> Loss:
        with autocast(CPU, "auto"):
            return segmentation_objective(network, batch, spec.groups)

    began = time.perf_counter()
    for batch in batches:
        update_weights(state, to_device(batch, CPU), objective=objective, update=Update(), where="benchmark")
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
