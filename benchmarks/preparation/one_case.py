"""Prepare one scan of 512 x 512 x 100 voxels on one core, part by part, and compare it with a lower bound, the floor.

    OMP_NUM_THREADS=1 python -m benchmarks.preparation.one_case

The floor is what the fastest libraries need for the same bytes: isal's gunzip of both files, torch's trilinear
interpolation, nearest labels, blosc2 with zstd, an index of the labels. Both are measured in this process; seconds are
medians over the repetitions (with --cpu processor seconds, for a core that is shared). Peak memory is that of a process
that prepares only this scan.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import blosc2
import numpy as np
import torch
from isal import igzip

from flarenet.data.dataset_file import read_dataset
from flarenet.data.labels import split
from flarenet.data.nifti import read_image, read_labels
from flarenet.data.store import Store
from flarenet.planning.plan import Configuration
from flarenet.preparation.dataset import Work, prepare_case
from flarenet.preparation.prepare import prepare_image, prepare_map
from flarenet.whole import sha256_of
from flarenet.workspace import Workspace

from .scans import write_raw

Timed = Callable[[Callable[[], object]], float]

PEAK = """
import re, sys
from pathlib import Path
from flarenet.data.dataset_file import read_dataset
from flarenet.planning.plan import Configuration
from flarenet.preparation.dataset import Work, prepare_case
from flarenet.workspace import Workspace

dataset = read_dataset(Path(sys.argv[1]) / "raw" / "ONE")
numbers = {word.partition("=")[0]: Configuration.model_validate_json(word.partition("=")[2]) for word in sys.argv[2:]}
prepare_case(Work(dataset.cases[0], dataset.labels, numbers, Workspace(Path(sys.argv[1]), "ONE")))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_raw(root / "raw" / "ONE", (arguments.slices,), pixels=arguments.pixels)
        compare(root, partial(timed, clock=clock, repeat=arguments.repeat))
    return 0


def compare(root: Path, timed: Timed) -> None:
    """Print the floor, the parts and the whole for the only case of the data set ONE of `root`."""
    floor = floor_s(root, timed)
    print(f"floor {sum(floor.values()):.3f} s: {_listed(floor)}")
    for interpolation in ("linear", "cubic"):
        numbers = configurations(interpolation)
        print(f"{interpolation}, parts of 3d: {_listed(parts_s(root, numbers['3d'], timed))}")
        for names in (("3d",), ("2d",), ("3d", "2d")):
            chosen = {name: numbers[name] for name in names}
            seconds = timed(lambda chosen=chosen: prepare(root, chosen))
            size_mb = sum(path.stat().st_size for path in (root / "prepared").rglob("*") if path.is_file()) / 1e6
            print(
                f"{interpolation}, {' and '.join(names)}: {seconds:.3f} s, {seconds / sum(floor.values()):.2f} of the "
                f"floor, {size_mb:.1f} MB on disk, peak {peak_mb(root, chosen):.0f} MB"
            )


def configurations(interpolation: str) -> dict[str, Configuration]:
    spacing = {"2d": (None, 0.8, 0.8), "3d": (2.0, 0.8, 0.8)}
    return {
        name: Configuration(
            spacing_mm=spacing[name],
            inference_spacing_mm=spacing[name],
            patch=patch,
            clip_hu=(-160.0, 240.0),
            interpolation=interpolation,
        )
        for name, patch in (("2d", (224, 224)), ("3d", (64, 160, 160)))
    }


def prepare(root: Path, numbers: dict[str, Configuration]) -> None:
    """Prepare the case from scratch, end to end."""
    shutil.rmtree(root / "prepared", ignore_errors=True)
    dataset = read_dataset(root / "raw" / "ONE")
    prepare_case(Work(dataset.cases[0], dataset.labels, numbers, Workspace(root, "ONE")))


def parts_s(root: Path, configuration: Configuration, timed: Timed) -> dict[str, float]:
    """Seconds of each part of preparing for one configuration."""
    dataset = read_dataset(root / "raw" / "ONE")
    [case], labels = dataset.cases, dataset.labels
    image, label_map = read_image(case.image), read_labels(case.label, labels).data
    prepared = prepare_image(image, configuration)
    frame = prepared.frame
    maps = split(prepare_map(label_map, frame), labels, case.annotated)
    about = {"annotated": case.annotated, "key": "", "grid": frame.grid, "original": frame.original}
    return {
        "digests": timed(lambda: (sha256_of(case.image), sha256_of(case.label))),
        "read image": timed(lambda: read_image(case.image)),
        "read labels": timed(lambda: read_labels(case.label, labels)),
        "image": timed(lambda: prepare_image(image, configuration)),
        "maps": timed(lambda: split(prepare_map(label_map, frame), labels, case.annotated)),
        "write": timed(lambda: Store(root / "parts").write("a", image=prepared.image, maps=maps, **about)),
    }


def floor_s(root: Path, timed: Timed) -> dict[str, float]:
    """Seconds of each part of the floor, on the same files."""
    dataset = read_dataset(root / "raw" / "ONE")
    [case] = dataset.cases
    image, label_map = read_image(case.image), read_labels(case.label, dataset.labels).data
    prepared = prepare_image(image, configurations("linear")["3d"])
    mapped, shape = prepare_map(label_map, prepared.frame), prepared.image.shape
    floats, labels = torch.from_numpy(image.data.astype(np.float32)), torch.from_numpy(label_map)
    cparams = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "nthreads": 1}

    def resized(data: torch.Tensor, mode: str) -> torch.Tensor:
        return torch.nn.functional.interpolate(data[None, None], size=shape, mode=mode)

    return {
        "gunzip": timed(lambda: [igzip.decompress(path.read_bytes()) for path in (case.image, case.label)]),
        "trilinear": timed(lambda: resized(floats, "trilinear")),
        "nearest": timed(lambda: resized(labels, "nearest")),
        "zstd": timed(lambda: blosc2.asarray(prepared.image, cparams=cparams)),
        "index": timed(lambda: np.flatnonzero(mapped)),
    }


def peak_mb(root: Path, numbers: dict[str, Configuration]) -> float:
    """The peak memory in MB of a new process that prepares the case."""
    shutil.rmtree(root / "prepared")
    line = [sys.executable, "-c", PEAK, str(root)]
    line += [f"{name}={configuration.model_dump_json()}" for name, configuration in numbers.items()]
    return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout) / 1024


def timed(work: Callable[[], object], *, clock: Callable[[], float], repeat: int) -> float:
    """Median seconds of `work` by `clock`."""
    seconds = []
    for _ in range(repeat):
        began = clock()
        work()
        seconds.append(clock() - began)
    return median(seconds)


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{part} {seconds:.3f}" for part, seconds in parts.items())


if __name__ == "__main__":
    sys.exit(main())
