"""The sink that writes the label file of a scan."""

from __future__ import annotations

from pathlib import Path

from ...data.nifti import labels_file
from ...data.reading import STRICT, Reading
from ...volume import Grid
from .file_order import FileOrder
from .slices import FinishedSlice


class LabelFile:
    """Writes each slice as it comes if the file has them in that order, else all at the end: see FileOrder.

    scan     the image whose geometry the file gets; for a folder of DICOM slices, `grid` states it
    reading  how the header of the scan is read
    """

    wants_image = wants_probabilities = False

    def __init__(self, scan: Path, path: Path, grid: Grid, *, reading: Reading = STRICT) -> None:
        self._order = FileOrder(grid, labels_file(path, like=grid if scan.is_dir() else scan, reading=reading))

    def take(self, finished: FinishedSlice) -> None:
        self._order.take(finished.z, [finished.labels])

    def finish(self) -> None:
        self._order.finish()

    def abandon(self) -> None:
        self._order.abandon()
