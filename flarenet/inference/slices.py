"""What comes out of a prediction, slice by slice, and what is done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..volume import Grid, orientation_of


@dataclass(frozen=True, eq=False)
class FinishedSlice:
    """One slice of a scan turned to RAS (see volume.Orientation), with its answer.

    z              its place along the turned scan; it rises or falls by one from each to the next, and every slice of
                   the scan comes once. It falls where a file stores slices so and need not be read as a whole
    labels         uint8 [Y, X], values of the label table, groups laid over each other
    image          float32 [Y, X], HU; None where no sink wants_image
    probabilities  {group: float32 [1 + n, Y, X]}; None where no sink wants_probabilities
    answered       whether a group has a label here, wanted or not
    """

    z: int
    labels: np.ndarray
    image: np.ndarray | None = None
    probabilities: dict[str, np.ndarray] | None = None
    answered: bool = False


class Sink(Protocol):
    """What is done with the finished slices of one scan: the label file, statistics, a preview ... in bounded memory.

    All calls come from one thread. What a sink raises ends the scan: every sink is then abandoned, and the scan fails.
    """

    wants_image: bool
    wants_probabilities: bool

    def take(self, finished: FinishedSlice) -> None:
        """The next slice."""

    def finish(self) -> None:
        """After the last slice: make the output whole, under its final name."""

    def abandon(self) -> None:
        """After an error, once finished or not: leave nothing half-written behind. Must not raise."""


SinkOpener = Callable[[Path, Path, Grid], Sink]
"""(the scan's file, the label file that it becomes, the scan's own grid) -> a sink for it."""


class LabelMap:
    """A sink that keeps the whole map: `labels` uint8 [Z, Y, X] on the scan's own grid, once all slices came."""

    wants_image = wants_probabilities = False

    def __init__(self, grid: Grid) -> None:
        self.labels = np.zeros(grid.shape, dtype=np.uint8)
        self._turned = orientation_of(grid).apply(self.labels)

    def take(self, finished: FinishedSlice) -> None:
        self._turned[finished.z] = finished.labels

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


@contextmanager
def opened(open_sinks: Iterable[Callable[[], Sink]]) -> Iterator[tuple[Sink, ...]]:
    """The sinks, opened in turn; finished in turn where all went well, all abandoned after any error."""
    sinks: list[Sink] = []
    try:
        for open_sink in open_sinks:
            sinks.append(open_sink())
        yield tuple(sinks)
        for sink in sinks:
            sink.finish()
    except BaseException:
        for sink in sinks:
            sink.abandon()
        raise
