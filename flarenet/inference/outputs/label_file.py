"""The sink that writes the label file of a scan."""

from __future__ import annotations

from pathlib import Path

from ...data.nifti import labels_file
from ..opening import OpenedScan
from .file_order import FileOrder
from .slices import FinishedSlice


class LabelFile:
    """Writes each slice as it comes if the file has them in that order, else all at the end: see FileOrder."""

    wants_image = wants_probabilities = False

    def __init__(self, path: Path, scan: OpenedScan) -> None:
        self._order = FileOrder(scan.grid, labels_file(path, like=scan.like))

    def take(self, finished: FinishedSlice) -> None:
        self._order.take(finished.z, [finished.labels])

    def finish(self) -> None:
        self._order.finish()

    def abandon(self) -> None:
        self._order.abandon()
