"""The whole way on a data set at the paper's network width, command by command: seconds of each, then the scores.

    python benchmarks/gpu/real_run.py --root ROOT -d FLAREmini --epochs 20

ROOT/raw/NAME must hold the data set with its imagesTs and labelsTs. Everything but the epochs is as planned. It runs
on a CPU too, slowly.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

TRAINERS = ("3DOrgan", "3DCancer", "MAE", "DualDecoder2D")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--root", type=Path, required=True)
    words.add_argument("-d", "--dataset", required=True)
    words.add_argument("--device", default="auto")
    words.add_argument("--epochs", type=int, default=20, help="of every step (default: %(default)s)")
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
    changes = [f"trainers.*.steps.*.epochs={arguments.epochs}", "trainers.*.steps.*.warmup_epochs=1"]
    images, truth = str(raw / "imagesTs"), str(raw / "labelsTs")
    return [
        ["flarenet_plan", *here, "--set", *changes, *arguments.changes],
        *(["flarenet_train", trainer, *here, *on] for trainer in TRAINERS),
        ["flarenet_predict", "-i", images, "-o", found, "--root", root, *on],
        ["flarenet_evaluate", "-p", found, "-g", truth, *here, "-o", str(arguments.root / "scores")],
    ]


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
