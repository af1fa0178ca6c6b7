"""What comes out of a prediction, slice by slice, and what is done with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..volume import Grid


@dataclass(frozen=True, eq=False)
class FinishedSlice:
    """One slice of a scan turned to RAS (see volume.Orientation), with its answer.

    z              its place along the turned scan; slices come in the order in which the scan stores them, so z rises
                   or falls by one from each to the next, and every slice of the scan comes once
    labels         uint8 [Y, X], values of the label table, groups laid over each other
    image          float32 [Y, X], HU; None where no sink wants_image
    probabilities  {group: float32 [1 + n, Y, X]}; None where no sink wants_probabilities
    """

    z: int
    labels: np.ndarray
    image: np.ndarray | None = None
    probabilities: dict[str, np.ndarray] | None = None


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
