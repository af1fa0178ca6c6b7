"""Measure flarenet_plan on thousands of tiny cases: seconds, memory, and how many cases were actually prepared.

    python benchmarks/scale/plan_4000.py                 # 4000 cases, 2 workers, in a temporary folder
    python benchmarks/scale/plan_4000.py --cases 400 --workers 1 --folder /fast/disk/scale

Three times: from nothing, again with nothing changed, and with ten cases more. The first of each pair of rows is
--dry-run, which measures the cases and makes the plan but writes nothing; the second also prepares the cases.
Targets for 4000 cases on two cores: 300 s and 500 MB from nothing, 20 s with nothing changed, 10 cases prepared
with ten more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import psutil

LABELS = ("background", "liver", "right kidney", "spleen", "pancreas", "left kidney", "tumor")
PATTERNS = ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], [1, 3], [6], [])
SHAPE = (8, 8, 8)
NAME = "Scale"

COMMAND = """
import sys
from flarenet.cli.plan import main
if __name__ == "__main__":
    sys.exit(main())
"""


@dataclass(frozen=True)
class Row:
    """One run.

    cpu_seconds  processor seconds of all its processes, which a busy machine changes least
    parent_mb    peak memory of the command's own process
    tree_mb      peak memory of it and its children together
    prepared     number of cases that were prepared
    """

    what: str
    seconds: float
    cpu_seconds: float
    parent_mb: float
    tree_mb: float
    prepared: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="a new folder, which stays (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        rows = list(measure(root, arguments.cases, arguments.workers))
    print(table(rows, arguments))
    return 0


def measure(root: Path, count: int, workers: int) -> Iterable[Row]:
    for what, cases in (("from nothing", count), ("nothing changed", count), ("ten cases more", count + 10)):
        write_set(root / "raw" / NAME, cases)
        words = ["-d", NAME, "--root", str(root), "--workers", str(workers)]
        yield timed(f"{what}, --dry-run", root, [*words, "--dry-run"])
        yield timed(what, root, words)


def timed(what: str, root: Path, words: list[str]) -> Row:
    """Run flarenet_plan in its own process, and sample its memory and that of its children ten times a second."""
    path = root / "run.py"
    path.write_text(COMMAND)
    parent_mb = tree_mb = 0.0
    before, began, used = time.time(), time.perf_counter(), cpu_seconds()
    with subprocess.Popen([sys.executable, path, *words], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            own, children = resident_mb(process.pid)
            parent_mb, tree_mb = max(parent_mb, own), max(tree_mb, own + children)
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{what}: exit code {process.returncode}")
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - used
    return Row(what, seconds, cpu, parent_mb, tree_mb, prepared_since(root / "prepared", before))


def cpu_seconds() -> float:
    """Processor seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident_mb(pid: int) -> tuple[float, float]:
    """(resident MB of a process, of all its descendants together); (0, 0) if it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        own, *others = (member.memory_info().rss / (1 << 20) for member in family)
    except psutil.NoSuchProcess:  # it has ended
        return 0.0, 0.0
    return own, sum(others)


def prepared_since(folder: Path, moment: float) -> int:
    """Number of cases with a record written since `moment`, in any configuration."""
    return len({path.parent.name for path in folder.glob("*/*/*/record.json") if path.stat().st_mtime >= moment})


def write_set(folder: Path, count: int) -> None:
    """Write `count` cases of SHAPE voxels in five patterns; existing cases are kept."""
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    (folder / "labelsTr").mkdir(exist_ok=True)
    table = {f"case{index:05d}": write_case(folder, index) for index in range(count)}
    content = {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(LABELS)},
        "numTraining": count,
        "file_ending": ".nii.gz",
        "dataset": table,
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def write_case(folder: Path, index: int) -> dict:
    name, annotated = f"case{index:05d}", PATTERNS[index % len(PATTERNS)]
    entry = {"images": [f"imagesTr/{name}_0000.nii.gz"], "annotated": annotated}
    if annotated:
        entry["label"] = f"labelsTr/{name}.nii.gz"
    if not (folder / entry["images"][0]).exists():
        random = np.random.default_rng(index)
        write(folder / entry["images"][0], random.integers(-200, 300, SHAPE, dtype=np.int16))
        if annotated:
            write(folder / entry["label"], random.choice(np.array([0, *annotated], dtype=np.uint8), SHAPE))
    return entry


def write(path: Path, array: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 5.0, 1.0])), path)


def table(rows: Iterable[Row], arguments: argparse.Namespace) -> str:
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"{arguments.cases} cases of 8 x 8 x 8 voxels, {arguments.workers} workers, {cores} cores",
        "",
        "| | seconds | CPU seconds | MB, parent | MB, all processes | cases prepared |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        seconds, memory = f"{row.seconds:.1f} | {row.cpu_seconds:.1f}", f"{row.parent_mb:.0f} | {row.tree_mb:.0f}"
        lines.append(f"| {row.what} | {seconds} | {memory} | {row.prepared} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
