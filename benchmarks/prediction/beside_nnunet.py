"""Predict one scan with nnU-Net v2 and with flarenet, each in its own process: seconds and peak memory of the case.

    python -m benchmarks.prediction.beside_nnunet --nnunet VENV [--slices 100] [--repeats 3]

VENV is a virtual environment with nnunetv2 2.8.1, whose own commands plan a data set with this scan. Both sides use the
windows and pixel spacing of nnU-Net's 2d plan, and a network of two convolutions of the same width with 15 output
channels: what is compared is everything but the network, start-up included. Mirroring is off. Memory is the highest sum
over a side's processes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from torch import nn

from ..one_network import plan_of
from ..preparation.against_nnunet import Side, measured
from ..preparation.scans import write_raw
from .cases import LABELS

ALL = LABELS.model_copy(update={"groups": {"all": LABELS.values}})


class Net(nn.Module):
    """The network of both sides: two convolutions, as in nnunet_predict.py."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, len(ALL.names), 3, padding=1)
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"all": self.layers(image)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, metavar="VENV")
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return predict(**json.loads(arguments.one))
    with tempfile.TemporaryDirectory() as temporary:
        side = Side(Path(temporary), arguments.nnunet, 1)
        write_raw(side.raw, (arguments.slices,), pixels=arguments.pixels)
        side.nnunet("extract_fingerprint", "-np", "1")
        side.nnunet("plan_experiment")
        runs: dict[str, list] = {"nnU-Net": [], "flarenet": []}
        for _ in range(arguments.repeats):
            for name, line in commands(side, arguments).items():
                runs[name].append(measured(line, side.environment))
    print(f"| {arguments.slices} slices | seconds | peak MB |\n|---|---|---|")
    for name, found in runs.items():
        print(f"| {name} | {median(run.seconds for run in found):.1f} | {median(run.peak_mb for run in found):.0f} |")


def commands(side: Side, arguments: argparse.Namespace) -> dict[str, list[str]]:
    scan, out = side.raw / "imagesTr" / "scan_000_0000.nii.gz", side.folder / "out"
    plans = json.loads((side.folder / "nnunet" / side.raw.name / "nnUNetPlans.json").read_text())
    planned = plans["configurations"]["2d"]
    one = {
        "scan": str(scan),
        "out": f"{out}_flarenet.nii.gz",
        "patch": planned["patch_size"],
        "pixels_mm": planned["spacing"],
        "channels": arguments.channels,
    }
    script = Path(__file__).with_name("nnunet_predict.py")
    theirs = [
        str(arguments.nnunet / "bin" / "python"),
        str(script),
        str(scan),
        f"{out}_nnunet",
        str(arguments.channels),
    ]
    ours = [sys.executable, "-m", "benchmarks.prediction.beside_nnunet", "--one", json.dumps(one)]
    return {"nnU-Net": theirs, "flarenet": ours}


def predict(scan: str, out: str, patch: list[int], pixels_mm: list[float], channels: int) -> None:
    """Predict with flarenet; runs in its own process."""
    from flarenet.inference.many import predict_pairs
    from flarenet.inference.models.model import Model
    from flarenet.inference.predict import Predictor
    from flarenet.planning.plan import NetworkSpec

    spec = NetworkSpec(kind="unet", dimensions=2, features=(2,) * 6, groups=("all",))
    plan = plan_of(spec, ALL, spacing_mm=(None, *pixels_mm), patch=tuple(patch))
    predictor = Predictor(Model(plan, "Net", 1, Path(), "", Net(channels)), device="cpu", precision="fp32")
    _, failures = predict_pairs(predictor, {Path(scan): Path(out)}, progress=lambda *_: None)
    if failures:
        raise SystemExit(str(failures))


if __name__ == "__main__":
    main()
