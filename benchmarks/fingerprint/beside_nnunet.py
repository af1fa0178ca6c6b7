"""Compare `flarenet_plan --fingerprint` with `nnUNetv2_extract_fingerprint` on the same scans.

    python -m benchmarks.fingerprint.beside_nnunet --nnunet /path/to/venv      # with nnU-Net v2
    python -m benchmarks.fingerprint.beside_nnunet                             # flarenet alone

Six phantom scans of 512 x 512 x (60..150) voxels, two workers each. The commands run in turn, each from nothing;
flarenet's also runs again with nothing changed. Prints medians of seconds, processor seconds and the peak of the memory
of all processes together, and nnU-Net's time as a multiple of flarenet's. Target: at least 4.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks.preparation.scans import SLICES, write_raw

NAME = "Dataset001_Scans"
FLARENET = "import sys\nfrom flarenet.cli.plan import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


@dataclass(frozen=True)
class Run:
    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, metavar="VENV", help="an environment that holds nnU-Net v2")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--slices", type=int, nargs="+", default=list(SLICES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_raw(root / "raw" / NAME, tuple(arguments.slices))
        (root / "command.py").write_text(FLARENET)
        compare(root, arguments)
    return 0


def compare(root: Path, arguments: argparse.Namespace) -> None:
    """Run the commands in turn on the data set of `root` and print their medians."""
    flarenet = [sys.executable, str(root / "command.py"), "--fingerprint", "--root", str(root), "-d", NAME]
    flarenet += ["--workers", str(arguments.workers)]
    first, again, theirs = [], [], []
    for _ in range(arguments.repeat):
        shutil.rmtree(root / "prepared", ignore_errors=True)
        first.append(run(flarenet, root))
        again.append(run(flarenet, root))
        if arguments.nnunet:
            shutil.rmtree(root / "nnunet", ignore_errors=True)
            command = [str(arguments.nnunet / "bin" / "nnUNetv2_extract_fingerprint"), "-d", "1"]
            theirs.append(run([*command, "-np", str(arguments.workers)], root))
    rows = {"flarenet_plan --fingerprint": first, "the same again": again, "nnUNetv2_extract_fingerprint": theirs}
    for name, runs in rows.items():
        if runs:
            seconds, cpu, peak_mb = (median(getattr(run, key) for run in runs) for key in Run.__annotations__)
            print(f"{name:30} {seconds:6.2f} s  {cpu:6.2f} s of processors  {peak_mb:6.0f} MB")
    if theirs:
        ratio = median(run.seconds for run in theirs) / median(run.seconds for run in first)
        print(f"nnU-Net takes {ratio:.1f} times as long")


def run(command: Sequence[str], root: Path) -> Run:
    """Time a command to its end. Raises RuntimeError where it fails."""
    folders = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "nnunet", "nnUNet_results": "nnunet"}
    environment = {**os.environ, **{name: str(root / folder) for name, folder in folders.items()}}
    (root / "nnunet").mkdir(exist_ok=True)
    before, start, peak_mb = os.times(), time.perf_counter(), 0.0
    with (
        open(root / "said.txt", "w+") as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None:
            peak_mb = max(peak_mb, _memory_mb(process.pid))
            time.sleep(0.02)
        seconds, after = time.perf_counter() - start, os.times()
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{said.read()}")
    cpu = sum(getattr(after, part) - getattr(before, part) for part in ("children_user", "children_system"))
    return Run(seconds, cpu, peak_mb)


def _memory_mb(pid: int) -> float:
    """Resident memory of a process and all its descendants; 0 if it has ended."""
    try:
        parent = psutil.Process(pid)
        return sum(part.memory_info().rss for part in (parent, *parent.children(recursive=True))) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


if __name__ == "__main__":
    sys.exit(main())
