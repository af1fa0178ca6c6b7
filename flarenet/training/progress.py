"""What the command line shows of a run: a bar for the step where there is a terminal, and a line for each epoch."""

from __future__ import annotations

import time
from datetime import timedelta
from statistics import fmean as mean

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from .callbacks import BatchDone, EpochDone, Event, Started
from .state import EpochRecord


class Display:
    """Callback: shows the training of one step on `console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        words = (TextColumn("{task.description}"), TextColumn("{task.fields[said]}"))
        columns = (words[0], BarColumn(bar_width=12), TaskProgressColumn(), words[1])  # fits 80 characters
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, BatchDone):
            self._show_batch(event)
        elif isinstance(event, EpochDone):
            self._show_epoch(event.record)
        else:
            self._bar.stop()

    def _start(self, started: Started) -> None:
        self._run, self._since_s, self._seen = started, time.monotonic(), 0
        self._left_at_start = (started.step.epochs - len(started.history)) * started.step.batches_per_epoch
        self._losses, self._epoch_since_s = list[float](), time.monotonic()
        total = started.step.epochs * started.step.batches_per_epoch
        self._task = self._bar.add_task("", total=total, completed=total - self._left_at_start, said=started.title)
        self._bar.start()

    def _show_batch(self, batch: BatchDone) -> None:
        step = self._run.step
        if not self._seen:  # a run may go on in the middle of an epoch
            self._left_at_start -= batch.index
        self._seen += 1
        self._losses.append(batch.loss)
        speed = len(self._losses) * step.batch_size / max(time.monotonic() - self._epoch_since_s, 1e-6)
        said = f"loss {mean(self._losses):.3f}  {_rate(speed)}  {self._left()}"
        done = (batch.epoch - 1) * step.batches_per_epoch + batch.index + 1
        self._bar.update(self._task, completed=done, description=f"epoch {batch.epoch}/{step.epochs}", said=said)

    def _show_epoch(self, record: EpochRecord) -> None:
        parts = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in record.losses.items()]
        parts += [f"Dice {group} {value:.3f}" for group, value in record.dice.items()]
        parts += [_rate(record.timing["samples_per_s"]), self._left()]
        head = f"{self._run.title} epoch {record.epoch}/{self._run.step.epochs}"
        self._console.print(f"{head}  {'  '.join(parts)}", highlight=False, soft_wrap=True)
        self._losses, self._epoch_since_s = [], time.monotonic()

    def _left(self) -> str:
        """The time left for the whole step, estimated from what each batch took so far, validation included."""
        each_s = (time.monotonic() - self._since_s) / max(1, self._seen)
        return f"{timedelta(seconds=round(each_s * (self._left_at_start - self._seen)))} left"


def _rate(samples_per_s: float) -> str:
    return f"{samples_per_s:.3g} samples/s" if samples_per_s < 100 else f"{samples_per_s:.0f} samples/s"
