"""Measure start-up: the cost of a scan in its own process before the work on the scan begins.

    python benchmarks/prediction/startup.py
    python benchmarks/prediction/startup.py --nnunet /path/to/its/venv      # compared with nnU-Net's

Medians of several processes, the lines in turn, each from its start to its end:

  python, import torch       the base of a prediction, the latter where OpenVINO's graph of the network is not kept
  flarenet_predict --help    the target is 0.2 s
  flarenet_predict, 1 slice  one slice of 512 x 512 read, predicted by the paper's 2D network (random weights), written
    nothing kept             the same without OpenVINO's graph, as in the first process of a model (docs/engines.md)
    to its first slice       of both, until the label file gets the finished slice; the target is 3 s
  nnU-Net's                  the -h of its command, and the import of its predictor, without a model

Also the processor seconds, which a busy machine changes less. Then the packages that the one-slice process spent most
time importing, by -X importtime (their own modules only; it slows all imports down).
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import torch

from flarenet.data.labels import LabelSet
from flarenet.inference.models.model import save_model
from flarenet.networks import build
from flarenet.planning.plan import Configuration, Plan, Step, Subset, TrainerPlan
from flarenet.planning.rules.presets import network

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "import sys; from flarenet.cli.predict import main; sys.exit(main(sys.argv[1:]))"
FIRST_SLICE = """
import sys, time
from flarenet.cli.predict import main, without_pydicom
with without_pydicom():
    from flarenet.inference.outputs.label_file import LabelFile
take = LabelFile.take
def told(sink, finished):
    print("first slice", time.time(), file=sys.stderr)
    take(sink, finished)
LabelFile.take = told
sys.exit(main(sys.argv[1:]))
"""
"""As PREDICT, but prints the time whenever the label file gets a finished slice."""
SIZE = 512
ORGANS = tuple(f"organ {number}" for number in range(1, 14))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--device", default="cpu")
    words.add_argument("--nnunet", type=Path, metavar="VENV", help="a virtual environment that holds nnU-Net")
    arguments = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLARENET_CACHE"] = f"{folder}/cache"
        scan, model = make_scan(Path(folder)), make_model(Path(folder))
        asked = ["-i", scan, "-o", f"{folder}/out.nii.gz", "-m", model, "--device", arguments.device]
        here = [sys.executable, "-c"]
        predict = [*here, FIRST_SLICE, *asked]
        subprocess.run(predict, cwd=ROOT, check=True)  # keeps the graph
        lines = {
            "python": [*here, "pass"],
            "import torch": [*here, "import torch"],
            "flarenet_predict --help": [*here, PREDICT, "--help"],
            "flarenet_predict, 1 slice": predict,
            "nothing kept": ["env", "FLARENET_CACHE=", *predict],
        }
        if arguments.nnunet:
            lines["nnUNetv2_predict -h"] = [str(arguments.nnunet / "bin" / "nnUNetv2_predict"), "-h"]
            imported = "import nnunetv2.inference.predict_from_raw_data"
            lines["import of nnU-Net's predictor"] = [str(arguments.nnunet / "bin" / "python"), "-c", imported]
        print_medians(lines, arguments.runs)
        print_imports([sys.executable, "-X", "importtime", "-c", PREDICT, *asked])
    return 0


def print_medians(lines: dict[str, list[str]], runs: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    processor: dict[str, list[float]] = {name: [] for name in lines}
    first_slice: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, line in lines.items():
            began, before = time.time(), processor_s()
            said = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, check=True).stderr
            seconds[name].append(time.time() - began)
            processor[name].append(processor_s() - before)
            for moment in re.findall(rb"^first slice (\S+)$", said, re.MULTILINE):
                first_slice.setdefault(name, []).append(float(moment) - began)
    print(f"| process | seconds, median of {runs} | least | processor seconds |\n|---|---|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {median(taken):.2f} | {min(taken):.2f} | {median(processor[name]):.2f} |")
    for name, taken in first_slice.items():
        print(f"| {name}: to its first slice | {median(taken):.2f} | {min(taken):.2f} | |")


def processor_s() -> float:
    """Processor seconds of all child processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def print_imports(line: list[str]) -> None:
    said = subprocess.run(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, check=True, text=True
    ).stderr
    spent: Counter[str] = Counter()
    for own_us, name in re.findall(r"^import time: +(\d+) \| +\d+ \| +([\w.]+)$", said, re.MULTILINE):
        spent[name.split(".")[0]] += int(own_us)
    print(f"\n| package | seconds of importing, of {spent.total() / 1e6:.2f} |\n|---|---|")
    for name, own_us in spent.most_common(10):
        print(f"| {name} | {own_us / 1e6:.3f} |")


def make_scan(folder: Path) -> str:
    data = np.random.default_rng(0).integers(-1000, 1000, (SIZE, SIZE, 1)).astype(np.int16)
    image = nibabel.Nifti1Image(data, np.diag([-0.8, -0.8, 2.5, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, folder / "scan.nii.gz")
    return str(folder / "scan.nii.gz")


def make_model(folder: Path) -> str:
    """Write a model folder of a network with random weights for 13 organs and tumor, as in the paper."""
    labels = LabelSet(names=("background", *ORGANS, "tumor"), groups={"organ": tuple(range(1, 14)), "cancer": (14,)})
    groups = tuple(labels.groups)
    spec = network("s", (SIZE, SIZE), groups)
    numbers = {"batch_size": 1, "batches_per_epoch": 1, "epochs": 1, "learning_rate": 1.0}
    step = Step(subset=Subset(patterns=(tuple(range(1, 15)),)), groups=groups, **numbers)
    own = (None, 0.8, 0.8)
    seen = Configuration(spacing_mm=own, inference_spacing_mm=own, patch=(SIZE, SIZE), clip_hu=(-325.0, 325.0))
    plan = Plan(
        recipe="paper",
        dataset="Startup",
        labels=labels,
        fingerprint_hash="0",
        configurations={"2d": seen},
        trainers={"DualDecoder2D": TrainerPlan(configuration="2d", network=spec, steps=(step,))},
    )
    torch.manual_seed(0)
    save_model(folder / "step_1", build(spec, labels.outputs), plan=plan, trainer="DualDecoder2D", step=1, summary={})
    return str(folder / "step_1")


if __name__ == "__main__":
    sys.exit(main())
