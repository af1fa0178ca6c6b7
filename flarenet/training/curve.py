"""The files that show the progress of a run, `log.jsonl` and `progress.png`, rewritten after epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..errors import RunError
from ..whole import whole_file, write_text
from .callbacks import EpochDone, Event, Started
from .state import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REDRAWN_S = 20.0
"""Fewest seconds between two drawings: one takes a few tenths of a second, as long as an epoch of a toy data set."""

FEW_EPOCHS = 30
"""Up to so many epochs, each is also marked by a point."""


class Log:
    """Callback: writes `log.jsonl`, an EpochRecord on each line.

    It is rewritten from the run's state, so a resumed run repairs what a process killed before logging left out.
    """

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._path = event.folder / "log.jsonl"
        if isinstance(event, (Started, EpochDone)):
            write_text(self._path, "".join(f"{record.model_dump_json()}\n" for record in event.history))


def read_log(path: Path) -> list[EpochRecord]:
    """The epochs of a `log.jsonl`. Raises RunError, naming the line, for a file that training did not write."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise RunError(path, found=problem, expected="a log of epochs, as training writes it") from problem
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(EpochRecord.model_validate_json(line))
        except ValidationError as problem:
            fault = problem.errors(include_url=False)[0]["msg"]
            raise RunError(f"{path}, line {number}", found=fault, expected="an epoch, as training logs it") from problem
    return records


class Pace:
    """When a run is drawn: at once, then at most every REDRAWN_S seconds, and after the last of `epochs`."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self._drawn_s = epochs, -math.inf

    def is_due(self, epoch: int) -> bool:
        return epoch == self._epochs or time.monotonic() - self._drawn_s >= REDRAWN_S

    def drawn(self) -> None:
        self._drawn_s = time.monotonic()


class Curve:
    """Callback: draws `progress.png`, as often as Pace says."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._run, self._pace = event, Pace(event.step.epochs)
        elif isinstance(event, EpochDone) and self._pace.is_due(event.record.epoch):
            _draw(event.history, self._run.title, self._run.folder / "progress.png")
            self._pace.drawn()


def _draw(history: Sequence[EpochRecord], title: str, path: Path) -> None:
    from matplotlib.figure import Figure  # only a run that draws pays for importing it
    from matplotlib.ticker import MaxNLocator

    judged = any(record.dice for record in history)
    figure = Figure(figsize=(12 if judged else 8, 3.6), layout="constrained")
    loss, *dice, rate = figure.subplots(1, 2 + judged, width_ratios=(5, 5, 3) if judged else (5, 3))
    for name, points in _series(history, "losses").items():
        loss.plot(*points, label=name.replace("_", " "))
    for axis in dice:
        _draw_dice(axis, history)
    rate.plot([record.epoch for record in history], [record.learning_rate for record in history], color="0.3")
    loss.set(title="loss", ylim=(0, None))
    rate.set(title="learning rate", ylim=(0, None))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axis in (loss, *dice, rate):
        axis.set(xlabel="epoch", xlim=(0, len(history) + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        if len(history) <= FEW_EPOCHS:
            for line in axis.lines:
                line.set_marker(".")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    figure.suptitle(title)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _draw_dice(axis: Axes, history: Sequence[EpochRecord]) -> None:
    for points in _series(history, "labels").values():
        axis.plot(*points, color="0.8", linewidth=0.8)
    for name, points in _series(history, "dice").items():
        axis.plot(*points, label=f"{name}, mean of labels", linewidth=2)
    axis.set(title="Dice on held-out patches; grey: single labels", ylim=(0, 1))


def _series(history: Sequence[EpochRecord], field: str) -> dict[str, tuple[list[int], list[float]]]:
    """name -> (epochs, values) of one field of the records."""
    names = dict.fromkeys(name for record in history for name in getattr(record, field))
    found = {name: [(r.epoch, getattr(r, field)[name]) for r in history if name in getattr(r, field)] for name in names}
    return {name: ([epoch for epoch, _ in points], [value for _, value in points]) for name, points in found.items()}
