"""Training as logged: losses and held-out Dice over the epochs, and the duration of each step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..training.curve import read_log
from ..training.state import EpochRecord
from .charts import Points, lines
from .content import Chart, Section, plain_table

LOG = "log.jsonl"


@dataclass(frozen=True)
class LoggedRun:
    """The epochs of one step.

    name   the model's
    title  the path of the step below the model's folder, such as fold_1/step_2; empty where it is that folder itself
    """

    name: str
    title: str
    history: tuple[EpochRecord, ...]

    @property
    def fold(self) -> str:
        return self.title.rpartition("/")[0]


def read_runs(named: Sequence[tuple[str, Path]]) -> list[LoggedRun]:
    """Every step that left a log in the folders of `named`, those of a folder by their numbers.

    named  (name, folder), with the folder of a model, or of a trainer with all its steps
    Raises UsageError where a folder holds no log, RunError where a log is broken.
    """
    runs = []
    for name, folder in named:
        found = sorted(folder.rglob(LOG), key=_by_numbers)
        if not found:
            raise UsageError(f"--model {folder}", found=f"no {LOG}", expected="the folder of a model, or of a trainer")
        for path in found:
            title = path.parent.relative_to(folder).as_posix()
            runs.append(LoggedRun(name, "" if title == "." else title, tuple(read_log(path))))
    return runs


def _by_numbers(path: Path) -> list[str | int]:
    """A key to sort by, with which step_2 comes before step_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.as_posix())]


def training_section(runs: Sequence[LoggedRun]) -> Section:
    """Curves of all models in the same axes, the steps of a fold one after the other; a table of the steps."""
    groups = dict.fromkeys(group for run in runs for record in run.history for group in record.dice)
    charts = [Chart("training_loss", "Loss of training.", _curves(runs, "losses", "loss", y="loss"))]
    for group in groups:
        words = f"Mean Dice of the labels of {group} on held-out patches."
        drawing = _curves(runs, "dice", group, y=f"Dice, {group}", ylim=(0, 1))
        charts.append(Chart(f"training_dice_{group}", words, drawing))
    return Section("training", "Training", (*charts, _table(runs, list(groups))))


def _curves(runs: Sequence[LoggedRun], field: str, key: str, *, y: str, **limits):
    drawn: dict[str, list[Points]] = {}
    for run, before in _one_after_the_other(runs):
        points = [(before + r.epoch, getattr(r, field)[key]) for r in run.history if key in getattr(r, field)]
        if points:
            drawn.setdefault(run.name, []).append(points)
    return lines(drawn, x="epoch, over all steps", y=y, **limits)


def _one_after_the_other(runs: Sequence[LoggedRun]) -> Iterable[tuple[LoggedRun, int]]:
    """Each run, and the total epochs of the earlier steps of its fold."""
    done: dict[tuple[str, str], int] = {}
    for run in runs:
        before = done.get((run.name, run.fold), 0)
        yield run, before
        done[run.name, run.fold] = before + len(run.history)


def _table(runs: Sequence[LoggedRun], groups: Sequence[str]):
    rows = []
    for run in (run for run in runs if run.history):
        last, timings = run.history[-1], [record.timing for record in run.history]
        speed = [timing["samples_per_s"] for timing in timings if "samples_per_s" in timing]
        dice = [f"{last.dice[group]:.4f}" if group in last.dice else "-" for group in groups]
        rows.append(
            (
                *(run.name, run.title or "-", str(len(run.history))),
                f"{sum(timing.get('seconds', 0) for timing in timings) / 3600:.2f}",
                f"{sum(speed) / len(speed):.1f}" if speed else "-",
                f"{last.losses['loss']:.4f}" if "loss" in last.losses else "-",
                *dice,
            )
        )
    head = ("model", "step", "epochs", "hours", "samples/s", "last loss", *(f"last Dice, {group}" for group in groups))
    return plain_table("training", "Steps", head, rows, words=frozenset({0, 1}))
