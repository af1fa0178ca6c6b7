"""Prepare the same scans with nnU-Net v2 and with flarenet, and compare the commands.

    python -m benchmarks.preparation.against_nnunet --nnunet VENV

VENV is a virtual environment with nnunetv2 2.8.1. Six scans of 512 x 512 x (60 to 150) voxels are written in nnU-Net's
raw format. nnU-Net measures, plans and prepares them (2d, then 3d_fullres); flarenet prepares both configurations, in
one command, at the spacings that nnU-Net planned, with linear interpolation and with cubic splines, nnU-Net's own
order. Everything is repeated, in turn; seconds are medians, memory is the highest sum over the processes of a command.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from .scans import SLICES, write_raw

FLARENET = [sys.executable, "-c", "import sys; from flarenet.cli.plan import main; sys.exit(main())"]
INTERPOLATIONS = ("linear", "cubic")
FOLDERS = {"2d": "nnUNetPlans_2d", "3d_fullres": "nnUNetPlans_3d_fullres"}
EVERY_S = 0.02


@dataclass(frozen=True)
class Run:
    """The cost of one command."""

    seconds: float
    peak_mb: float


class Side:
    """Both programs on one data set below `folder`."""

    def __init__(self, folder: Path, nnunet: Path, workers: int) -> None:
        self.folder, self.commands, self.workers = folder, nnunet / "bin", str(workers)
        self.raw = folder / "raw" / "Dataset001_Scans"
        self.prepared = folder / "prepared"
        names = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "nnunet", "nnUNet_results": "results"}
        self.environment = {**os.environ, **{name: str(folder / value) for name, value in names.items()}}

    def nnunet(self, command: str, *words: str) -> Run:
        line = [str(self.commands / f"nnUNetv2_{command}"), "-d", "1", *words]
        return measured(line, self.environment)

    def flarenet(self, *words: str, interpolation: str = "linear") -> Run:
        line = [*FLARENET, "-d", self.raw.name, "--root", str(self.folder), "--workers", self.workers, *words]
        return measured([*line, "--set", *self.changes(interpolation)], dict(os.environ))

    def changes(self, interpolation: str) -> list[str]:
        """The changes that give flarenet's plan the spacings of nnU-Net's, and `interpolation`."""
        plans = json.loads((self.folder / "nnunet" / self.raw.name / "nnUNetPlans.json").read_text())
        spacing = {name: plans["configurations"][name]["spacing"] for name in FOLDERS}
        wanted = {"2d": [None, *spacing["2d"]], "3d": spacing["3d_fullres"]}
        fields = ("spacing_mm", "inference_spacing_mm")
        changes = [f"configurations.{name}.{field}={json.dumps(mm)}" for name, mm in wanted.items() for field in fields]
        return [*changes, f"configurations.*.interpolation={interpolation}"]

    def forget(self) -> None:
        """Remove everything that flarenet made."""
        shutil.rmtree(self.prepared, ignore_errors=True)

    def forget_stores(self) -> None:
        """Remove the prepared cases; their measurements stay."""
        for name in ("2d", "3d"):
            shutil.rmtree(self.prepared / self.raw.name / name, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, metavar="VENV")
    parser.add_argument("--slices", type=int, nargs="+", default=SLICES, help="of each scan (default: %(default)s)")
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        side = Side(Path(folder), arguments.nnunet, arguments.workers)
        write_raw(side.raw, tuple(arguments.slices), pixels=arguments.pixels)
        runs: dict[str, list[Run]] = defaultdict(list)
        for number in range(arguments.repeat):
            print(f"repetition {number + 1} of {arguments.repeat}", file=sys.stderr)
            for name, run in repetition(side):
                runs[name].append(run)
        print(table(runs, sizes_mb(side, len(arguments.slices))))
    return 0


def repetition(side: Side) -> list[tuple[str, Run]]:
    """Every command once, from nothing."""
    shutil.rmtree(side.folder / "nnunet", ignore_errors=True)
    found = [("fingerprint nnU-Net", side.nnunet("extract_fingerprint", "-np", side.workers))]
    side.nnunet("plan_experiment")
    for name in FOLDERS:
        found.append((f"{name} nnU-Net", side.nnunet("preprocess", "-c", name, "-np", side.workers)))
    side.forget()
    found.append(("fingerprint flarenet", side.flarenet("--fingerprint")))
    side.flarenet()
    for interpolation in INTERPOLATIONS:
        side.forget_stores()
        found.append((f"both {interpolation}", side.flarenet(interpolation=interpolation)))
    return found


def measured(line: list[str], environment: dict[str, str]) -> Run:
    """Run a command to its end. Raises RuntimeError, with its output, where it fails."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = psutil.Popen(line, env=environment, stdout=said, stderr=subprocess.STDOUT)
        peak_bytes = 0
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _bytes_of_tree(process))
            time.sleep(EVERY_S)
        seconds = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(line)}\n{said.read().decode(errors='replace')[-3000:]}")
    return Run(seconds, peak_bytes / 2**20)


def sizes_mb(side: Side, cases: int) -> dict[str, float]:
    """MB (of 10^6 bytes) on disk per case and configuration, by program."""
    nnunet = [side.folder / "nnunet" / side.raw.name / folder for folder in FOLDERS.values()]
    flarenet = [side.prepared / side.raw.name / name for name in ("2d", "3d")]
    return {
        name: sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
        / (1e6 * len(folders) * cases)
        for name, folders in (("nnU-Net", nnunet), ("flarenet", flarenet))
    }


def table(runs: dict[str, list[Run]], size_mb: dict[str, float]) -> str:
    """Seconds, ratios and memory as Markdown."""
    seconds = {name: median(run.seconds for run in found) for name, found in runs.items()}
    peak_mb = {name: median(run.peak_mb for run in found) for name, found in runs.items()}
    seconds["both nnU-Net"] = sum(seconds[f"{name} nnU-Net"] for name in FOLDERS)
    peak_mb["both nnU-Net"] = max(peak_mb[f"{name} nnU-Net"] for name in FOLDERS)
    lines = ["| command | seconds | nnU-Net's / this | peak MB |", "|---|---|---|---|"]
    for name in seconds:
        ratio = f"{seconds[name.split()[0] + ' nnU-Net'] / seconds[name]:.1f}"
        lines.append(f"| {name} | {seconds[name]:.2f} | {ratio} | {peak_mb[name]:.0f} |")
    share = size_mb["flarenet"] / size_mb["nnU-Net"]
    sizes = ", ".join(f"{name} {mb:.1f}" for name, mb in size_mb.items())
    return "\n".join([*lines, "", f"MB a case and configuration: {sizes} ({share:.2f} of nnU-Net's)"])


def _bytes_of_tree(process: psutil.Process) -> int:
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:  # it ended meanwhile
        pass
    return total


if __name__ == "__main__":
    sys.exit(main())
