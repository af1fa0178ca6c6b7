"""What a run looks like from outside: one CSV line and one picture per epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ..whole import whole_file, write_text
from .state import EpochRecord


def write_progress(history: Sequence[EpochRecord], folder: Path) -> None:
    """Write `progress.csv` and `progress.png` of all epochs so far; nothing where there is no epoch yet."""
    if not history:
        return
    names = list(dict.fromkeys(name for record in history for name in record.scores))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["epoch", "learning_rate", *names])
    for record in history:
        values = [f"{record.scores[name]:.6g}" if name in record.scores else "" for name in names]
        table.writerow([record.epoch, f"{record.learning_rate:.6g}", *values])
    write_text(folder / "progress.csv", text.getvalue())
    _draw(history, names, folder / "progress.png")


def _draw(history: Sequence[EpochRecord], names: Sequence[str], path: Path) -> None:
    from matplotlib.figure import Figure  # only a run that draws pays for importing it

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in names:
        if name == "seconds":
            continue
        axis = right if "dice" in name and "loss" not in name else left
        points = [(r.epoch, r.scores[name]) for r in history if name in r.scores]
        axis.plot([epoch for epoch, _ in points], [value for _, value in points], marker=".", label=name)
    left.set(xlabel="epoch", title="loss")
    right.set(xlabel="epoch", title="Dice on held-out cases", ylim=(0, 1))
    for axis in (left, right):
        if axis.lines:
            axis.legend(fontsize=7)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
