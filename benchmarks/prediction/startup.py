"""Measure start-up: the cost of a scan in its own process before the work on the scan begins.

    python -m benchmarks.prediction.startup
    python -m benchmarks.prediction.startup --nnunet /path/to/its/venv      # compared with nnU-Net's

Medians of several processes, the lines in turn, each from its start to its end:

  python, import torch       the base of a prediction, the latter where OpenVINO's graph of the network is not kept
  flarenet_predict --help    the target is 0.2 s
  flarenet_predict, 1 slice  one slice of 512 x 512 read, predicted by the paper's 2D network (random weights), written.
                             Its windows are --patch pixels of 1 mm wide: with the paper's 224 a body takes several
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

from .cases import write_model, write_scan

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch", type=int, default=224, help="512: one window sees the whole slice")
    parser.add_argument("--nnunet", type=Path, metavar="VENV", help="a virtual environment that holds nnU-Net")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLARENET_CACHE"] = f"{folder}/cache"
        scan, model = Path(folder, "scan.nii.gz"), Path(folder, "model")
        write_scan(scan, 1)
        write_model(model, patch=(arguments.patch, arguments.patch))
        asked = ["-i", str(scan), "-o", f"{folder}/out.nii.gz", "-m", str(model), "--device", arguments.device]
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


if __name__ == "__main__":
    sys.exit(main())
