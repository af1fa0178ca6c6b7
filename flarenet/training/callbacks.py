"""Watching a training run: a callback is anything that can be called with an event.

    def show(event: Event) -> None:
        if isinstance(event, EpochDone):
            print(event.record.epoch, event.record.dice)

Events are plain data, and callbacks have no influence on the weights, which are the same bytes without them. An
exception from a callback stops the run; the same command resumes from the last saved state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import FlarenetError, RunError
from ..planning.plan import Step
from .state import EpochRecord


@dataclass(frozen=True, eq=False)
class Example:
    """A slice of a held-out patch and its prediction.

    image          float32 [H, W] in [0, 1]
    labels         uint8 [H, W], values of the label table, annotated or filled in by teachers; HIDDEN where ignored
    predicted      uint8 [H, W], values of the label table
    not_annotated  values of the step's groups neither annotated nor filled in: `labels` lacks them even where they are
    """

    case: str
    image: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    not_annotated: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Findings:
    """The results of a validation.

    losses      name -> loss
    dice        group -> Dice
    labels      label name -> Dice
    examples    some patches to look at
    not_finite  cases of the first batch whose loss is not finite
    """

    losses: dict[str, float] = field(default_factory=dict)
    dice: dict[str, float] = field(default_factory=dict)
    labels: dict[str, float] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    not_finite: tuple[str, ...] = ()


@dataclass(frozen=True)
class Started:
    """A process begins to train or resumes a run; `history` holds the epochs done before."""

    title: str
    folder: Path
    step: Step
    history: tuple[EpochRecord, ...]


@dataclass(frozen=True)
class BatchDone:
    """The weights were updated with batch `index` (from 0) of `epoch` (from 1)."""

    epoch: int
    index: int
    loss: float


@dataclass(frozen=True, eq=False)
class EpochDone:
    """An epoch is over and its state saved; `history` ends with it. `examples` is empty without held-out cases."""

    history: tuple[EpochRecord, ...]
    examples: tuple[Example, ...]

    @property
    def record(self) -> EpochRecord:
        return self.history[-1]


@dataclass(frozen=True)
class Ended:
    """The process stops training: the step is done, or `error` is what stopped it."""

    error: BaseException | None


Event = Started | BatchDone | EpochDone | Ended
Callback = Callable[[Event], None]


@contextmanager
def watched(callbacks: Sequence[Callback], started: Started) -> Iterator[Callback]:
    """Send `started` to `callbacks` and, at the end, Ended; yields a function that sends them the events in between.

    A FlarenetError, OSError or MemoryError from a callback is raised as it is, any other exception as a RunError that
    names the callback. All callbacks get Ended, whatever the others raise; the error that stopped the run takes
    precedence over theirs.
    """
    stopped: BaseException | None = None
    try:
        _tell(callbacks, started)
        yield lambda event: _tell(callbacks, event)
    except BaseException as error:
        stopped = error
        raise
    finally:
        _tell_all(callbacks, Ended(stopped))


def _tell(callbacks: Sequence[Callback], event: Event) -> None:
    for callback in callbacks:
        try:
            callback(event)
        except (FlarenetError, OSError, MemoryError):
            raise
        except Exception as error:
            raise RunError(
                f"callback {getattr(callback, '__name__', type(callback).__name__)} on {type(event).__name__}",
                found=f"{type(error).__name__}: {error}",
                expected="a callback that raises nothing",
                remedy="fix it or leave it out: the same command resumes from the last epoch",
            ) from error


def _tell_all(callbacks: Sequence[Callback], ended: Ended) -> None:
    """Send `ended` to each callback, whatever the others raise; then raise the first error unless one ended the run."""
    first = ended.error
    for callback in callbacks:
        try:
            _tell([callback], ended)
        except Exception as error:  # noqa: BLE001 - raised below, unless the run has an error of its own
            first = first or error
    if first is not ended.error and first is not None:
        raise first
