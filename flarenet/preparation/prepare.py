"""From a scan to what a network sees. The same steps serve training and prediction.

The scan is reoriented to RAS, cropped to where anything is brighter than the window's floor, clipped, resampled and
scaled to [0, 1]. Prepared images are fixed-point int16: 0 is the window's floor, FULL its ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import numpy as np

from ..planning.plan import Configuration
from ..volume import Box, Grid, Orientation, Triple, Volume, orientation_of
from .reoriented import ReorientedScan, ReorientedVolume
from .resample import resample, resample_nearest, resampled_shape

FULL = 2047
"""The stored value of the window's ceiling. In a window of 500 HU a step is a quarter HU, far below the noise of any
scanner; finer steps would only store more digits of the noise."""


@dataclass(frozen=True)
class Frame:
    """Where a prepared image lies in its scan, and so how to go back.

    original     the scan's own grid
    orientation  reorients the scan to RAS
    box          the crop, in voxels of the reoriented scan
    grid         the grid of the prepared image
    """

    original: Grid
    orientation: Orientation
    box: Box
    grid: Grid

    @property
    def reoriented(self) -> Grid:
        """The grid of the reoriented scan."""
        return self.orientation.apply_to_grid(self.original)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """`image` int16 [Z, Y, X] in RAS order on `frame.grid`; see normalise."""

    image: np.ndarray
    frame: Frame


def prepare_image(volume: Volume, configuration: Configuration) -> PreparedImage:
    """Prepare a scan in any orientation. One with nothing above the window's floor keeps its whole extent."""
    frame, planes = prepared_planes(ReorientedVolume(volume), configuration, spacing_mm=configuration.spacing_mm)
    image = np.empty(frame.grid.shape, dtype=np.int16)
    for plane, prepared in zip(image, planes):
        plane[:] = prepared
    return PreparedImage(image, frame)


def prepared_planes(
    scan: ReorientedScan,
    configuration: Configuration,
    *,
    spacing_mm: tuple[float | None, ...],
    ahead: Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]] = iter,
) -> tuple[Frame, Iterator[np.ndarray]]:
    """The Frame of the prepared image, and its planes, whole numbers in float32 [Y, X], 0 to FULL; in the order of
    scan.planes().

    spacing_mm  that of the image, as nearly as whole numbers of voxels allow; None leaves an axis as it is
    ahead       wraps the iterator of cropped, clipped planes before they are resampled; prediction passes Stages.ahead,
                which makes them in a thread
    Few planes are in memory at any time.
    """
    low, high = scan.window(configuration)
    box = scan.box(low) or Box((0, 0, 0), scan.grid.shape)
    cropped = scan.grid.cropped(box)
    shape = resampled_shape(cropped.shape, cropped.spacing_mm, spacing_mm)
    depth, *inside = box.slices
    first = scan.grid.shape[0] - depth.stop if scan.descending else depth.start
    planes = islice(scan.planes(), first, first + box.shape[0])
    scaled = ahead(_scaled(plane[tuple(inside)], low, high) for plane in planes)
    resampled = resample(scaled, box.shape, shape, configuration.interpolation, descending=scan.descending)
    return Frame(scan.original, scan.orientation, box, cropped.resampled(shape)), _rounded(resampled)


def frame_between(original: Grid, grid: Grid) -> Frame:
    """The Frame of an image on `grid` that prepare_image made from a scan on `original`; it follows from the two."""
    orientation = orientation_of(original)
    to_index = np.linalg.inv(orientation.apply_to_grid(original).affine) @ grid.affine
    # the outer edges of the prepared image are the edges of the crop, and these lie half a voxel off whole numbers
    first = (to_index @ [-0.5, -0.5, -0.5, 1])[:3] + 0.5
    last = (to_index @ [*(n - 0.5 for n in grid.shape), 1])[:3] + 0.5
    start, stop = (cast(Triple, tuple(int(round(v)) for v in corner)) for corner in (first, last))
    return Frame(original, orientation, Box(start, stop), grid)


def prepare_map(label_map: np.ndarray, frame: Frame) -> np.ndarray:
    """A label or group map [Z, Y, X] on the scan's own grid, resampled to the prepared grid by nearest voxel."""
    return resample_nearest(frame.orientation.apply(label_map)[frame.box.slices], frame.grid.shape)


def normalise(image: np.ndarray) -> np.ndarray:
    """A prepared image of any shape as float32 in [0, 1]."""
    return np.multiply(image, np.float32(1 / FULL), dtype=np.float32)  # one pass over it


def neighbour_slices(z: int, depth: int, neighbours: int) -> list[int]:
    """The numbers z - neighbours .. z + neighbours of the slices of an image; beyond its `depth` slices the outermost
    one repeats."""
    return [min(max(0, z + step), depth - 1) for step in range(-neighbours, neighbours + 1)]


def _rounded(planes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for plane in planes:
        np.rint(plane, out=plane)
        yield np.clip(plane, 0, FULL, out=plane)  # a spline overshoots


def _scaled(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """A plane, clipped and scaled to [0, FULL], float32."""
    scaled = plane.astype(np.float32, order="C")
    np.clip(scaled, low, high, out=scaled)
    scaled -= np.float32(low)
    scaled *= np.float32(FULL / (high - low))
    return scaled
