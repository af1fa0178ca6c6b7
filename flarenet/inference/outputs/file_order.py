"""Puts finished slices of the turned scan into the orientation and order of the scan's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...volume import Grid, Triple, orientation_of


class FileOrder:
    """Writes each slice at once if slices come as the file stores them; else keeps all, and writes them at the end.

    Kept slices take a byte for each voxel and channel.
    grid   the scan's own grid
    shape  (z, y, x) of the file
    write  is given the next slice of the file: uint8 [Y, X] for each channel
    """

    def __init__(self, grid: Grid, shape: Triple, write: Callable[[Sequence[np.ndarray]], None]) -> None:
        self._orientation, self._shape, self._write = orientation_of(grid), shape, write
        self._next = 0
        self._kept: list[np.ndarray] | None = None

    def take(self, z: int, planes: Sequence[np.ndarray]) -> None:
        """Slice `z` of the turned scan, uint8 [Y, X] for each channel."""
        flipped = self._orientation.flips[0]
        place = self._shape[0] - 1 - z if flipped else z
        if self._kept is None and self._orientation.axes[0] == 0 and place == self._next:
            self._write([self._orientation.undo_plane(plane) for plane in planes])
            self._next += 1
            return
        if self._kept is None:
            if self._next:
                raise ValueError(f"slice {z} out of order")
            turned = [self._shape[axis] for axis in self._orientation.axes]
            self._kept = [np.empty(turned, dtype=np.uint8) for _ in planes]
        for kept, plane in zip(self._kept, planes):
            kept[z] = plane

    def finish(self) -> None:
        """Write what was kept; called after the last slice."""
        for planes in zip(*(self._orientation.undo(kept) for kept in self._kept or ())):
            self._write(planes)
