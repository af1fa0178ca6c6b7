"""Writes finished slices of the reoriented scan in the orientation and order of the scan's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress

import numpy as np

from ...errors import StorageError
from ...volume import Grid, Triple, orientation_of


class FileOrder:
    """Writes each slice at once if slices come as the file stores them; else keeps all, and writes them at the end.

    Kept slices take a byte for each voxel and channel.
    grid  the scan's own grid
    file  gives its shape (z, y, x) and a function that writes its next slice, uint8 [Y, X] for each channel; as
          nifti.labels_file and channels_file
    """

    def __init__(self, grid: Grid, file: AbstractContextManager[tuple[Triple, Callable[..., None]]]) -> None:
        self._file, self._orientation = ExitStack(), orientation_of(grid)
        self._shape, self._write = self._file.enter_context(file)
        self._next = 0
        self._kept: list[np.ndarray] | None = None

    def take(self, z: int, planes: Sequence[np.ndarray]) -> None:
        """Slice `z` of the reoriented scan, uint8 [Y, X] for each channel."""
        flipped = self._orientation.flips[0]
        place = self._shape[0] - 1 - z if flipped else z
        if self._kept is None and self._orientation.axes[0] == 0 and place == self._next:
            self._write(*(self._orientation.undo_plane(plane) for plane in planes))
            self._next += 1
            return
        if self._kept is None:
            if self._next:
                raise ValueError(f"slice {z} out of order")
            reoriented = [self._shape[axis] for axis in self._orientation.axes]
            self._kept = [np.empty(reoriented, dtype=np.uint8) for _ in planes]
        for kept, plane in zip(self._kept, planes):
            kept[z] = plane

    def finish(self) -> None:
        """Write what was kept and complete the file; called after the last slice."""
        for planes in zip(*(self._orientation.undo(kept) for kept in self._kept or ())):
            self._write(*planes)
        self._file.close()

    def abandon(self) -> None:
        """Leave no file, unless it is complete."""
        error = RuntimeError("abandoned")  # raised in what writes the file, which then leaves none
        with suppress(StorageError):  # a full disk, reported already, may fail the end of the gzip stream too
            self._file.__exit__(RuntimeError, error, None)
