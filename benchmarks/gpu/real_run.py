"""Repeat the real run of docs/results.md with the 2D network as planned: seconds of each command, then the scores.

    python -m benchmarks.gpu.real_run --root ROOT -d FLAREmini
    python -m benchmarks.gpu.real_run --root ROOT -d FLAREmini --device cpu --epochs 1 --batches 1    # the same, tiny

ROOT/raw/NAME must hold the data set with its imagesTs and labelsTs. Epochs, batches and the 3D networks are those of
the run on a CPU; the widths of the 2D network are as planned. MAE is left out: U-Nets do not need it. The commands are
run by this Python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.training.flaremini import REAL_RUN, at

TRAINERS = ("3DOrgan", "3DCancer", "DualDecoder2D")

SCHEDULE = {
    "3DOrgan/1": (10, 40),
    "3DCancer/1": (8, 20),
    "DualDecoder2D/1": (8, 42),
    "DualDecoder2D/2": (52, 42),
    "DualDecoder2D/3": (19, 45),
    "DualDecoder2D/4": (10, 30),
}
"""Run -> (epochs, batches of each epoch)."""

REST = (
    *REAL_RUN,
    "configurations.3d.overlap=0.25",
    "trainers.DualDecoder2D.steps.*.warmup_epochs=1",
    "trainers.DualDecoder2D.steps.0.pseudo=null",
    "trainers.*.augmentation.rotation_deg=15",
    "trainers.*.augmentation.zoom=0.2",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int, help="of every step, in place of the schedule's")
    parser.add_argument("--batches", type=int, help="of every epoch, in place of the schedule's")
    parser.add_argument("--set", dest="changes", nargs="*", default=[], help="further changes of the plan")
    arguments = parser.parse_args()
    for folder in tested(arguments):
        if not folder.is_dir():
            parser.error(f"{folder} is not a folder: the data set must be there, with its test cases")
    rows = []
    for line in commands(arguments):
        began = time.perf_counter()
        code = subprocess.run(run_here(line)).returncode
        rows.append((" ".join(word for word in line[:2] if word[0] != "-"), time.perf_counter() - began))
        if code:
            print(f"{' '.join(line)} ended with exit code {code}", file=sys.stderr)
            return code
    print(table(rows, json.loads((arguments.root / "scores" / "metrics.json").read_text(encoding="utf-8"))))
    return 0


def commands(arguments: argparse.Namespace) -> list[list[str]]:
    """Every command with its arguments, in order."""
    root, name = str(arguments.root), arguments.dataset
    here, on = ["-d", name, "--root", root], ["--device", arguments.device]
    images, truth = map(str, tested(arguments))
    found = str(arguments.root / "predictions")
    return [
        ["flarenet_plan", *here, "--set", *REST, *schedule(arguments), *arguments.changes],
        *(["flarenet_train", trainer, "--fold", "all", *here, *on] for trainer in TRAINERS),
        ["flarenet_predict", "-i", images, "-o", found, "--root", root, *on],
        ["flarenet_evaluate", "-p", found, "-g", truth, *here, "-o", str(arguments.root / "scores")],
    ]


def tested(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The folders of the images that are predicted and of their labels."""
    raw = arguments.root / "raw" / arguments.dataset
    return raw / "imagesTs", raw / "labelsTs"


def run_here(line: list[str]) -> list[str]:
    """A command of flarenet as run by this Python: PATH may have none, or that of another environment."""
    module = f"flarenet.cli.{line[0].removeprefix('flarenet_')}"
    return [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())", *line[1:]]


def schedule(arguments: argparse.Namespace) -> list[str]:
    """The changes of the plan that give every step its epochs and batches."""
    changes = []
    for run, (epochs, batches) in SCHEDULE.items():
        changes.append(f"trainers.{at(run)}.epochs={arguments.epochs or epochs}")
        changes.append(f"trainers.{at(run)}.batches_per_epoch={arguments.batches or batches}")
    return changes


def table(rows: list[tuple[str, float]], metrics: dict) -> str:
    """Seconds by command, then DSC and NSD by class and group, as Markdown."""
    lines = ["| command | seconds |", "|---|---|", *(f"| {name} | {seconds:.0f} |" for name, seconds in rows)]
    lines += ["", "| class | DSC | NSD |", "|---|---|---|"]
    for name, score in {**metrics["classes"], **metrics["groups"]}.items():
        values = (score["dsc"], score["nsd"])
        lines.append(f"| {name} | " + " | ".join("-" if v is None else f"{v:.3f}" for v in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
