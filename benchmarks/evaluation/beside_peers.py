"""Score one case with flarenet, MONAI's surface Dice and nnU-Net's evaluation, on the same two files and one core.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.evaluation.beside_peers [--nnunet VENV]

Each system runs in its own process, after its imports: seconds are from the two files to the scores of 14 labels,
memory is the peak of that process. They do not measure the same: flarenet DSC, NSD, HD95, volumes and lesions; MONAI
the NSD alone, label by label, as a one-hot input of all labels would not fit; nnU-Net Dice and counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .masks import write_pair

OURS = """
from pathlib import Path
from flarenet.evaluation.pairs import Pair, score_pair
from flarenet.phantom.anatomy import LABELS

def work(truth, prediction):
    case = score_pair(Pair("case", Path(truth), Path(prediction), frozenset(LABELS.values)), labels=LABELS)
    return [case.scores[name].nsd for name in LABELS.names_of(LABELS.values)]
"""
MONAI = """
import nibabel, numpy as np, torch
from monai.metrics import compute_surface_dice
from flarenet.phantom.anatomy import LABELS

def work(truth, prediction):
    files = [nibabel.load(path) for path in (prediction, truth)]
    maps, spacing = [np.asarray(file.dataobj) for file in files], [float(mm) for mm in files[1].header.get_zooms()]
    found = []
    for value in LABELS.values:
        one_hot = [torch.from_numpy(map == value)[None, None] for map in maps]
        tolerance = [LABELS.tolerance_of(value)]
        nsd = compute_surface_dice(*one_hot, tolerance, include_background=True, spacing=spacing, use_subvoxels=True)
        found.append(nsd.item())
    return found
"""
NNUNET = """
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

def work(truth, prediction):
    metrics = compute_metrics(truth, prediction, SimpleITKIO(), list(range(1, 15)))["metrics"]
    return [metrics[value]["Dice"] for value in range(1, 15)]
"""
MEASURE = """
import json, re, sys, time, warnings
warnings.simplefilter("ignore")
start = time.perf_counter()
scores = work(*sys.argv[1:])
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print("MEASURED", json.dumps({"seconds": seconds, "peak_mb": peak, "scores": scores}))
"""


@dataclass(frozen=True)
class Run:
    seconds: float
    peak_mb: float
    scores: list[float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 500], metavar="N")
    parser.add_argument("--pixels", type=int, default=512, metavar="N")
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--nnunet", type=Path, metavar="VENV", help="a virtual environment with nnunetv2")
    arguments = parser.parse_args()
    systems = {"flarenet": (Path(sys.executable), OURS), "MONAI surface Dice": (Path(sys.executable), MONAI)}
    if arguments.nnunet:
        systems["nnU-Net"] = (arguments.nnunet / "bin" / "python", NNUNET)
    print("| voxels | system | seconds | peak MB | times as long |\n|---|---|---|---|---|")
    for slices in arguments.slices:
        shape = (slices, arguments.pixels, arguments.pixels)
        with tempfile.TemporaryDirectory() as folder:
            files = write_pair(Path(folder), shape)
            runs = {name: [] for name in systems}
            for _ in range(arguments.repeat):  # in turn, so that other load on the machine slows all
                for name, (python, code) in systems.items():
                    runs[name].append(run(python, code, files))
        show(shape, runs)
    return 0


def run(python: Path, code: str, files: Iterable[Path]) -> Run:
    command = [str(python), "-c", code + MEASURE, *map(str, files)]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        raise RuntimeError(f"{python} ended with {said.returncode}:\n{said.stderr}")
    return Run(**json.loads(said.stdout.rpartition("MEASURED ")[2]))


def show(shape: tuple[int, int, int], runs: dict[str, list[Run]]) -> None:
    ours = median(run.seconds for run in runs["flarenet"])
    for name, of_system in runs.items():
        seconds, peak_mb = (median(getattr(run, key) for run in of_system) for key in ("seconds", "peak_mb"))
        size = " x ".join(map(str, shape[::-1]))
        print(f"| {size} | {name} | {seconds:.2f} | {peak_mb:.0f} | {seconds / ours:.1f} |", flush=True)
    first, second = (runs[name][0].scores for name in ("flarenet", "MONAI surface Dice"))
    apart = max(abs(a - b) for a, b in zip(first, second) if b == b)  # NaN: in neither mask
    print(f"largest difference of NSD between flarenet and MONAI: {apart:.1e}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
