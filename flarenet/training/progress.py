"""What the command line shows of a run: a bar for the step on a terminal, a line for each epoch anywhere."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from .callbacks import BatchDone, EpochDone, Event, Started
from .state import EpochRecord


class Display:
    """Callback: what the training of one step says on `console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TaskProgressColumn())
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
        self._run, self._since = started, time.monotonic()
        self._before = len(started.history) * started.step.batches_per_epoch
        self._total = started.step.epochs * started.step.batches_per_epoch
        self._begin_epoch()
        self._task = self._bar.add_task(started.title, total=self._total, completed=self._before)
        self._bar.start()

    def _begin_epoch(self) -> None:
        self._loss, self._epoch_since = 0.0, time.monotonic()

    def _show_batch(self, batch: BatchDone) -> None:
        step, count = self._run.step, batch.index + 1
        self._loss += batch.loss
        done = (batch.epoch - 1) * step.batches_per_epoch + count
        speed = count * step.batch_size / max(time.monotonic() - self._epoch_since, 1e-6)
        said = f"loss {self._loss / count:.3f}  {speed:.3g} samples/s  {self._left(done)}"
        self._bar.update(self._task, completed=done, description=f"{self._head(batch.epoch)}  {said}")

    def _show_epoch(self, record: EpochRecord) -> None:
        parts = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in record.losses.items()]
        parts += [f"Dice {group} {value:.3f}" for group, value in record.dice.items()]
        parts.append(f"{record.timing['samples_per_s']:.3g} samples/s")
        parts.append(self._left(record.epoch * self._run.step.batches_per_epoch))
        self._console.print(f"{self._head(record.epoch)}  {'  '.join(parts)}", highlight=False, soft_wrap=True)
        self._begin_epoch()

    def _head(self, epoch: int) -> str:
        return f"{self._run.title} epoch {epoch}/{self._run.step.epochs}"

    def _left(self, done: int) -> str:
        """The time left for the whole step, by what its batches took so far with validation and everything else."""
        each_s = (time.monotonic() - self._since) / max(1, done - self._before)
        return f"{timedelta(seconds=round(each_s * (self._total - done)))} left"
