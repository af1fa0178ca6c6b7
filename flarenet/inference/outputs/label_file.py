"""The sink that writes the label file of a scan."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from ...data.nifti import labels_file
from ...data.reading import STRICT, Reading
from ...errors import StorageError
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
        self._stack = ExitStack()
        file = labels_file(path, like=grid if scan.is_dir() else scan, reading=reading)
        shape, write = self._stack.enter_context(file)
        self._order = FileOrder(grid, shape, lambda planes: write(planes[0]))

    def take(self, finished: FinishedSlice) -> None:
        self._order.take(finished.z, [finished.labels])

    def finish(self) -> None:
        self._order.finish()
        self._stack.close()

    def abandon(self) -> None:
        error = RuntimeError("abandoned")  # raised in labels_file, which then leaves no file
        with suppress(StorageError):  # a full disk, reported already, may fail the end of the gzip stream too
            self._stack.__exit__(RuntimeError, error, None)
