"""What a run looks like from outside: `log.jsonl` and `progress.png`, written anew after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..whole import whole_file, write_text
from .callbacks import EpochDone, Event, Started
from .state import EpochRecord


class Log:
    """Callback: `log.jsonl`, an EpochRecord a line.

    The state of the run is what counts: the lines are those of its epochs, also after a kill between the two.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"

    def __call__(self, event: Event) -> None:
        if isinstance(event, (Started, EpochDone)):
            write_text(self._path, "".join(f"{record.model_dump_json()}\n" for record in event.history))


class Curve:
    """Callback: `progress.png`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.png"

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            _draw(event.history, self._path)


def _draw(history: Sequence[EpochRecord], path: Path) -> None:
    from matplotlib.figure import Figure  # only a run that draws pays for importing it

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, field in ((left, "losses"), (right, "dice")):
        for name in dict.fromkeys(name for record in history for name in getattr(record, field)):
            points = [(r.epoch, getattr(r, field)[name]) for r in history if name in getattr(r, field)]
            axis.plot([epoch for epoch, _ in points], [value for _, value in points], marker=".", label=name)
    left.set(xlabel="epoch", title="loss")
    right.set(xlabel="epoch", title="Dice on held-out cases", ylim=(0, 1))
    for axis in (left, right):
        if axis.lines:
            axis.legend(fontsize=7)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
