"""The real run of docs/results.md at the paper's 2D width, command by command: seconds of each, then the scores.

    python benchmarks/gpu/real_run.py --root ROOT -d FLAREmini
    python benchmarks/gpu/real_run.py --root ROOT -d FLAREmini --device cpu --epochs 1 --batches 1    # the same, tiny

ROOT/raw/NAME must hold the data set with its imagesTs and labelsTs. Epochs, batches and the 3D networks are those of
the run on a CPU; the width of the 2D network is as planned, and so is that of MAE.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

TRAINERS = ("3DOrgan", "3DCancer", "MAE", "DualDecoder2D")

DEEP = "[16,32,64,128,128,16]"
GRIDS = (
    "configurations.3d.spacing_mm=[3,3,3]",
    "configurations.3d.inference_spacing_mm=[3,3,3]",
    "configurations.3d.patch=[64,80,96]",
    *(f"trainers.{teacher}.network.features={DEEP}" for teacher in ("3DOrgan", "3DCancer")),
)
SCHEDULE = {
    "3DOrgan/1": (10, 40),
    "3DCancer/1": (10, 20),
    "MAE/1": (4, 15),
    "DualDecoder2D/1": (10, 42),
    "DualDecoder2D/2": (32, 42),
    "DualDecoder2D/3": (14, 45),
    "DualDecoder2D/4": (8, 30),
}
"""Epochs, and batches of each."""

RATES = (
    "trainers.*.steps.*.selection=last",
    "trainers.*.steps.*.batch_size=2",
    "trainers.DualDecoder2D.steps.*.batch_size=16",
    *(
        f"trainers.{teacher}.steps.0.{rest}"
        for teacher in TRAINERS[:2]
        for rest in ("learning_rate=0.001", "warmup_epochs=1")
    ),
    "trainers.MAE.steps.0.warmup_epochs=1",
    "trainers.DualDecoder2D.steps.0.pseudo=null",
    "trainers.DualDecoder2D.steps.2.learning_rate=0.001",
)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--root", type=Path, required=True)
    words.add_argument("-d", "--dataset", required=True)
    words.add_argument("--device", default="auto")
    words.add_argument("--epochs", type=int, help="of every step, in place of the schedule's")
    words.add_argument("--batches", type=int, help="of every epoch, in place of the schedule's")
    words.add_argument("--set", dest="changes", nargs="*", default=[], help="further changes of the plan")
    arguments = words.parse_args()
    rows = []
    for line in commands(arguments):
        began = time.perf_counter()
        code = subprocess.run(line).returncode
        rows.append((" ".join(word for word in line[:2] if word[0] != "-"), time.perf_counter() - began))
        if code:
            print(f"{' '.join(line)} ended with exit code {code}", file=sys.stderr)
            return code
    print(table(rows, json.loads((arguments.root / "scores" / "metrics.json").read_text(encoding="utf-8"))))
    return 0


def commands(arguments: argparse.Namespace) -> list[list[str]]:
    """Every command with its words, in order."""
    root, name = str(arguments.root), arguments.dataset
    here, on = ["-d", name, "--root", root], ["--device", arguments.device]
    raw, found = arguments.root / "raw" / name, str(arguments.root / "predictions")
    images, truth = str(raw / "imagesTs"), str(raw / "labelsTs")
    return [
        ["flarenet_plan", *here, "--set", *GRIDS, *RATES, *schedule(arguments), *arguments.changes],
        *(["flarenet_train", trainer, "--fold", "all", *here, *on] for trainer in TRAINERS),
        ["flarenet_predict", "-i", images, "-o", found, "--root", root, *on],
        ["flarenet_evaluate", "-p", found, "-g", truth, *here, "-o", str(arguments.root / "scores")],
    ]


def schedule(arguments: argparse.Namespace) -> list[str]:
    """The changes of the plan that give every step its epochs and batches."""
    changes = []
    for run, (epochs, batches) in SCHEDULE.items():
        trainer, _, number = run.partition("/")
        step = f"trainers.{trainer}.steps.{int(number) - 1}"
        changes.append(f"{step}.epochs={arguments.epochs or epochs}")
        changes.append(f"{step}.batches_per_epoch={arguments.batches or batches}")
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
