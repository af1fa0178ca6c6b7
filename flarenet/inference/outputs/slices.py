"""The finished slices of a prediction, and the sinks that take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...volume import Grid, orientation_of
from ...whole import together
from ..opening import OpenedScan


@dataclass(frozen=True, eq=False)
class FinishedSlice:
    """One slice of a scan reoriented to RAS (see volume.Orientation), with its answer.

    z              its place along the reoriented scan. From slice to slice z rises or falls by one, and every slice of
                   the scan comes once. z falls where a file stores the highest slice first and is not read as a whole
    labels         uint8 [Y, X], values of the label table, groups laid over each other
    image          float32 [Y, X], HU; None where no sink wants_image
    probabilities  {group: float32 [1 + n, Y, X]}; None where no sink wants_probabilities
    answered       whether some group has a label here, be it wanted or not
    """

    z: int
    labels: np.ndarray
    image: np.ndarray | None = None
    probabilities: dict[str, np.ndarray] | None = None
    answered: bool = False


class Sink(Protocol):
    """Takes the finished slices of one scan and makes something of them in bounded memory: the label file, statistics,
    a preview ...

    All calls come from one thread. If a sink raises anything, every sink is abandoned, and the scan fails.
    """

    wants_image: bool
    wants_probabilities: bool

    def take(self, finished: FinishedSlice) -> None:
        """Take the next slice."""

    def finish(self) -> None:
        """Complete the output; called after the last slice. See opened for when its file takes its name."""

    def abandon(self) -> None:
        """Leave nothing half-written behind; called after an error, also after `finish`. Must not raise."""


SinkOpener = Callable[[Path, OpenedScan], Sink]
"""(the label file that a scan becomes, the scan) -> a sink for it."""


class LabelMap:
    """A sink that keeps the whole map: `labels`, uint8 [Z, Y, X] on the scan's own grid, after all slices have come."""

    wants_image = wants_probabilities = False

    def __init__(self, grid: Grid) -> None:
        self.labels = np.zeros(grid.shape, dtype=np.uint8)
        self._reoriented = orientation_of(grid).apply(self.labels)

    def take(self, finished: FinishedSlice) -> None:
        self._reoriented[finished.z] = finished.labels

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


@contextmanager
def opened(open_sinks: Iterable[Callable[[], Sink]]) -> Iterator[tuple[Sink, ...]]:
    """The sinks, opened in order. If all went well they are finished in order, then all their files take their names.
    After an error all are abandoned, and files of an earlier answer stay."""
    sinks: list[Sink] = []
    try:
        for open_sink in open_sinks:
            sinks.append(open_sink())
        yield tuple(sinks)
        with together():
            for sink in sinks:
                sink.finish()
    except BaseException:
        for sink in sinks:
            sink.abandon()
        raise
