"""From a scan to what a network sees. The same steps serve training and prediction.

Orientation to RAS, crop to where there is anything brighter than the window's floor, clip, resample, scale to
[0, 1]. Prepared images are fixed-point int16: 0 is the window's floor, FULL its ceiling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from ..planning.plan import Configuration
from ..volume import Box, Grid, Orientation, Triple, Volume, box_where, canonical, crop, orientation_of
from .resample import resample, resample_nearest, resampled_shape

FULL = 2047
"""The stored value of the window's ceiling: steps of a quarter HU in a window of 500 HU, far below the noise of any
scanner; finer ones would only store more digits of it."""

PERCENTILES = (0.5, 99.5)
"""Of all voxels of an image in which intensities have no unit: the tails hold noise and bright artefacts."""


@dataclass(frozen=True)
class Frame:
    """Where a prepared image lies in its scan, and so how to go back.

    original     the scan's own grid                     orientation  turns the scan to RAS
    box          the crop, in voxels of the turned scan  grid         of the prepared image
    """

    original: Grid
    orientation: Orientation
    box: Box
    grid: Grid


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """`image` int16 [Z, Y, X] in RAS order on `frame.grid`; see normalise."""

    image: np.ndarray
    frame: Frame


def prepare_image(volume: Volume, configuration: Configuration, *, inference: bool = False) -> PreparedImage:
    """Prepare a scan in any orientation.

    inference  uses `inference_spacing_mm`, of which the slice distance is a lower bound: slices are never
               interpolated between, because training never saw such slices
    A scan with nothing above the window's floor keeps its whole extent.
    """
    upright, orientation = canonical(volume)
    low, high = window(upright.data, configuration)
    box = box_where(plane > low for plane in upright.data) or Box((0, 0, 0), upright.grid.shape)
    cropped = crop(upright, box)
    grid = cropped.grid
    shape = resampled_shape(grid.shape, grid.spacing_mm, _wanted_spacing(grid, configuration, inference))
    image, done = np.empty(shape, dtype=np.int16), 0
    for slab in resample(_scaled(cropped.data, low, high), grid.shape, shape, configuration.interpolation):
        np.rint(slab, out=slab)
        image[done : done + len(slab)] = np.clip(slab, 0, FULL, out=slab)  # a spline overshoots
        done += len(slab)
    return PreparedImage(image, Frame(volume.grid, orientation, box, grid.resampled(shape)))


def frame_between(original: Grid, grid: Grid) -> Frame:
    """The Frame of an image on `grid` that prepare_image made from a scan on `original`: the grids say it all."""
    orientation = orientation_of(original)
    to_index = np.linalg.inv(orientation.apply_to_grid(original).affine) @ grid.affine
    # the outer edges of the prepared image are the edges of the crop, and these lie half a voxel off whole numbers
    first = (to_index @ [-0.5, -0.5, -0.5, 1])[:3] + 0.5
    last = (to_index @ [*(n - 0.5 for n in grid.shape), 1])[:3] + 0.5
    start, stop = (cast(Triple, tuple(int(round(v)) for v in corner)) for corner in (first, last))
    return Frame(original, orientation, Box(start, stop), grid)


def prepare_map(label_map: np.ndarray, frame: Frame) -> np.ndarray:
    """A label or group map [Z, Y, X] of the scan's own grid, brought to the prepared grid; nearest voxel."""
    return resample_nearest(frame.orientation.apply(label_map)[frame.box.slices], frame.grid.shape)


def window(image: np.ndarray, configuration: Configuration) -> tuple[float, float]:
    """What the intensities of `image` are clipped to: the plan's window, or the image's own PERCENTILES.

    An image whose percentiles coincide gets a window of width 1 above them.
    """
    if configuration.clip_hu is not None:
        return configuration.clip_hu
    low, high = (float(value) for value in np.percentile(image, PERCENTILES))
    return low, max(high, low + 1.0)


def normalise(image: np.ndarray) -> np.ndarray:
    """A prepared image of any shape as float32 in [0, 1]."""
    return np.multiply(image, np.float32(1 / FULL), dtype=np.float32)  # one pass over it


def beside(z: int, depth: int, neighbours: int) -> list[int]:
    """The slices z - neighbours .. z + neighbours of an image of `depth` slices; the outermost one repeats."""
    return [min(max(0, z + step), depth - 1) for step in range(-neighbours, neighbours + 1)]


def _scaled(image: np.ndarray, low: float, high: float) -> Iterator[np.ndarray]:
    """The planes of an image [Z, Y, X], clipped and scaled to [0, FULL], float32; one at a time is in memory."""
    for plane in image:
        scaled = plane.astype(np.float32, order="C")
        np.clip(scaled, low, high, out=scaled)
        scaled -= np.float32(low)
        scaled *= np.float32(FULL / (high - low))
        yield scaled


def _wanted_spacing(grid: Grid, configuration: Configuration, inference: bool) -> tuple[float | None, ...]:
    if not inference:
        return configuration.spacing_mm
    z_mm, y_mm, x_mm = configuration.inference_spacing_mm
    if len(configuration.patch) == 2 and (z_mm is None or grid.spacing_mm[0] >= z_mm):
        z_mm = None
    return z_mm, y_mm, x_mm
