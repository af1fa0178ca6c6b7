"""Scans reoriented to RAS, plane by plane, whether they are in memory or stay in their file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

import numpy as np

from ..data.nifti import ImageFile
from ..planning.plan import Configuration
from ..volume import Box, Grid, Orientation, Volume, box_where, orientation_of

PERCENTILES = (0.5, 99.5)
"""The percentiles that an image without an intensity unit is clipped to, of its voxels above its lowest value: its
tails hold noise and bright artefacts, and how much padding or black air lies around the body must not matter."""

NARROWEST = 1e-30
"""A window this narrow or narrower is treated as having zero width: float32 cannot hold the factor that would scale its
image."""


class ReorientedScan(Protocol):
    """A scan in RAS order.

    original     the scan's own grid
    orientation  reorients the scan to RAS
    grid         the grid of the reoriented scan
    descending   whether the planes of the reoriented scan come highest z first
    """

    original: Grid
    orientation: Orientation
    grid: Grid
    descending: bool

    def planes(self) -> Iterator[np.ndarray]:
        """All planes [Y, X] of the reoriented scan, int16 or float32; as often as wanted."""

    def window(self, configuration: Configuration) -> tuple[float, float]:
        """The window that intensities are clipped to: the plan's, or the image's own PERCENTILES.

        Where the percentiles coincide, or nearly so (NARROWEST), they are those of all voxels, and where these do too,
        the window has width 1 and begins at the lower one.
        """

    def box(self, floor: float) -> Box | None:
        """The smallest box of the reoriented scan that holds everything above `floor`; None where nothing is."""


class ReorientedVolume:
    """A scan in memory, lowest z first; see ReorientedScan. Its voxels are not copied."""

    descending = False

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.original, self.orientation = volume.grid, orientation_of(volume.grid)
        self.grid = self.orientation.apply_to_grid(volume.grid)
        self._data = self.orientation.apply(volume.data)

    def planes(self) -> Iterator[np.ndarray]:
        return iter(self._data)

    def window(self, configuration: Configuration) -> tuple[float, float]:
        if configuration.clip_hu is not None:
            return configuration.clip_hu
        low, high = _percentiles(self._data[self._data > self._data.min()])
        if not high - low > NARROWEST:
            low, high = _percentiles(self._data.flatten())
        return low, high if high - low > NARROWEST else low + 1.0

    def box(self, floor: float) -> Box | None:
        return box_where(plane > floor for plane in self._data)


def _percentiles(voxels: np.ndarray) -> tuple[float, float]:
    """PERCENTILES of `voxels` [n], which are put into another order; 0 and 0 of none."""
    if not voxels.size:
        return 0.0, 0.0
    low, high = (float(value) for value in np.percentile(voxels, PERCENTILES, overwrite_input=True))
    return low, high


class ReorientedFile:
    """A scan that stays in its file; see ReorientedScan. Its planes come in the file's order. Raises ValueError where
    the planes of the file are not axial slices."""

    def __init__(self, image: ImageFile) -> None:
        self.original, self.orientation = image.grid, orientation_of(image.grid)
        if self.orientation.axes[0] != 0:
            raise ValueError("the file's slices are not those of the reoriented scan")
        self.grid, self.descending = self.orientation.apply_to_grid(image.grid), self.orientation.flips[0]
        self._image = image

    def planes(self) -> Iterator[np.ndarray]:
        return (self.orientation.apply_plane(plane) for plane in self._image.planes())

    def window(self, configuration: Configuration) -> tuple[float, float]:
        if configuration.clip_hu is None:
            raise ValueError("percentiles of a scan that is not in memory")
        return configuration.clip_hu

    def box(self, floor: float) -> Box | None:
        box = self._image.boxes[floor]
        return None if box is None else self.orientation.apply_to_box(box, self.original.shape)


def stays_in_file(grid: Grid, configurations: Collection[Configuration]) -> bool:
    """Whether a scan on `grid` can be prepared plane by plane, without the whole of it in memory.

    Its axes must stand at right angles, its planes must be the slices of the reoriented scan, and the window must be
    known beforehand. Blocks are placed from the lowest slice on, so for them the lowest slice must come first.
    """
    orientation = orientation_of(grid)
    blocks = any(len(one.patch) == 3 for one in configurations)
    return (
        not grid.leans
        and orientation.axes[0] == 0
        and not (orientation.flips[0] and blocks)
        and all(one.clip_hu is not None for one in configurations)
    )
