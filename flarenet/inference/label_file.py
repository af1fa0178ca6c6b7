"""The label file of a scan, as a sink of its finished slices."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from ..data.nifti import labels_file
from ..data.reading import STRICT, Reading
from ..errors import StorageError
from ..volume import Grid, orientation_of
from .slices import FinishedSlice


class LabelFile:
    """Writes each slice as it comes where the file's slices are those of the turned scan, in the order in which they
    come; else it keeps the map, a byte a voxel, and writes it at the end.

    scan     the image whose geometry it gets; where that is a folder of DICOM slices, `grid` says it
    reading  how the scan's header is read
    """

    wants_image = wants_probabilities = False

    def __init__(self, scan: Path, path: Path, grid: Grid, *, reading: Reading = STRICT) -> None:
        self._orientation = orientation_of(grid)
        self._stack, self._next = ExitStack(), 0
        file = labels_file(path, like=grid if scan.is_dir() else scan, reading=reading)
        self._shape, self._write = self._stack.enter_context(file)
        self._kept: np.ndarray | None = None

    def take(self, finished: FinishedSlice) -> None:
        flipped = self._orientation.flips[0]
        place = self._shape[0] - 1 - finished.z if flipped else finished.z
        if self._kept is None and self._orientation.axes[0] == 0 and place == self._next:
            self._write(self._orientation.undo_plane(finished.labels))
            self._next += 1
            return
        if self._kept is None:
            if self._next:
                raise ValueError(f"slice {finished.z} out of order")
            self._kept = np.empty([self._shape[axis] for axis in self._orientation.axes], dtype=np.uint8)
        self._kept[finished.z] = finished.labels

    def finish(self) -> None:
        if self._kept is not None:
            for plane in self._orientation.undo(self._kept):
                self._write(plane)
        self._stack.close()

    def abandon(self) -> None:
        error = RuntimeError("abandoned")  # it goes back to labels_file, which leaves no file after an error
        with suppress(StorageError):  # a full disk, told already, may stand in the way of the gzip stream's end too
            self._stack.__exit__(RuntimeError, error, None)
