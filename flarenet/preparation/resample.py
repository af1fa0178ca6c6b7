"""Resampling between grids that fill the same space: outer voxel edges coincide (align_corners=False).

Images are interpolated linearly, as in the FLARE 2023 paper, section 2.2, or by cubic splines; label maps take the
nearest voxel. An interpolation along one axis is a matrix with a narrow band of weights. It is applied in blocks of
rows, each a small dense product: faster than gathering neighbours, and a spline costs little more than a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import numpy as np

from ..planning.cost.memory import ROWS_AT_ONCE
from ..volume import Triple
from .passing import Passing, in_order

Interpolation = Literal["linear", "cubic"]

SPLINE_REACH = 12
"""How many voxels on either side a cubic spline weighs. Each weight is 0.27 of the one before, so they fall below
1e-6."""


@dataclass(frozen=True, eq=False)
class Band:
    """Consecutive rows of a matrix of weights, without the columns in which all of them are 0.

    weights  float32 [row, column]
    """

    rows: slice
    columns: slice
    weights: np.ndarray


def resampled_shape(shape: Triple, spacing_mm: tuple[float, ...], wanted_mm: tuple[float | None, ...]) -> Triple:
    """The shape whose spacing is nearest to `wanted_mm`, for a grid of `shape` with `spacing_mm`. An axis for which
    None is wanted keeps its size; every axis has at least one voxel."""
    # rounded twice: for a ratio halfway between two whole numbers the last bits of an affine must not decide
    resampled = (
        n if wanted is None else max(1, round(round(n * spacing / wanted, 4)))
        for n, spacing, wanted in zip(shape, spacing_mm, wanted_mm)
    )
    return cast(Triple, tuple(resampled))


def resample(
    planes: Iterable[np.ndarray],
    before: Triple,
    after: Triple,
    interpolation: Interpolation,
    *,
    descending: bool = False,
) -> Iterator[np.ndarray]:
    """Resample an image of shape `before`, given plane by plane along z, to planes float32 [Y, X] of shape `after`.

    planes      float32 [Y, X], lowest z first
    descending  whether the planes, given and made, come highest z first; the numbers are the same, bit for bit
    At any time few planes exist, so neither image need be in memory as a whole.
    """
    flat = (_resample_plane(plane, after[1:], interpolation) for plane in planes)
    if before[0] == after[0]:
        yield from flat
        return
    passing = Passing(flat, before[0], descending=descending)
    for band in in_order(bands(before[0], after[0], interpolation), descending):
        columns = np.stack(passing.between(band.columns.start, band.columns.stop))
        rows = (band.weights @ columns.reshape(len(columns), -1)).reshape(-1, *after[1:])
        yield from rows[::-1] if descending else rows


def resample_nearest(label_map: np.ndarray, shape: Triple) -> np.ndarray:
    """`label_map` [Z, Y, X] resampled to `shape` by nearest voxel, in its own type."""
    z, y, x = (_nearest(n, wanted) for n, wanted in zip(label_map.shape, shape))
    in_plane = y[:, None] * label_map.shape[2] + x
    resampled = np.empty(shape, dtype=label_map.dtype)
    for plane, source in zip(resampled, z):
        np.take(label_map[source].reshape(-1), in_plane, out=plane, mode="clip")  # without "clip" take copies
    return resampled


@lru_cache(maxsize=64)
def bands(n: int, wanted: int, interpolation: Interpolation) -> tuple[Band, ...]:
    """The matrix [wanted, n] that interpolates along one axis, in blocks of rows. Each row adds up to 1.

    Beyond its edges the image is continued by its outermost voxels.
    """
    columns, weights = _taps(n, wanted, interpolation)
    blocks = []
    for start in range(0, wanted, ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, wanted))
        first, stop = int(columns[rows].min()), int(columns[rows].max()) + 1
        block = np.zeros((rows.stop - start, stop - first))
        np.add.at(block, (np.arange(len(block))[:, None], columns[rows] - first), weights[rows])
        block /= block.sum(axis=1, keepdims=True)
        blocks.append(Band(rows, slice(first, stop), block.astype(np.float32)))
    return tuple(blocks)


def _resample_plane(plane: np.ndarray, shape: tuple[int, ...], interpolation: Interpolation) -> np.ndarray:
    if plane.shape[0] != shape[0]:
        upright = np.empty((shape[0], plane.shape[1]), dtype=np.float32)
        for band in bands(plane.shape[0], shape[0], interpolation):
            np.matmul(band.weights, plane[band.columns], out=upright[band.rows])
        plane = upright
    if plane.shape[1] != shape[1]:
        across = np.empty(shape, dtype=np.float32)
        for band in bands(plane.shape[1], shape[1], interpolation):
            np.matmul(plane[:, band.columns], band.weights.T, out=across[:, band.rows])
        plane = across
    return plane


def _nearest(n: int, wanted: int) -> np.ndarray:
    """For each new voxel the old voxel that its centre lies in; on an edge, the later one."""
    return np.clip(np.floor((np.arange(wanted) + 0.5) * n / wanted).astype(np.intp), 0, n - 1)


def _taps(n: int, wanted: int, interpolation: Interpolation) -> tuple[np.ndarray, np.ndarray]:
    """For each new voxel the old voxels that it is made of, and their weights: both [wanted, taps]."""
    place = (np.arange(wanted) + 0.5) * n / wanted - 0.5
    below = np.floor(place).astype(np.intp)
    t = place - below
    if interpolation == "linear":
        reach, weights = np.arange(2), np.stack([1 - t, t], axis=1)
    else:
        reach, weights = np.arange(-SPLINE_REACH, SPLINE_REACH + 2), _cardinal_spline(t)
    return np.clip(below[:, None] + reach, 0, n - 1), weights


def _cardinal_spline(t: np.ndarray) -> np.ndarray:
    """The weights that the cubic spline through the voxels gives to voxels -SPLINE_REACH to SPLINE_REACH + 1, for each
    place `t` in [0, 1) between voxels 0 and 1.

    The spline is a sum of B-splines whose coefficients are the voxels filtered by sqrt(3) z^|k| with z = sqrt(3) - 2
    (Unser, Aldroubi, Eden: B-spline signal processing, IEEE Trans. Signal Processing 41, 1993).
    """
    b_spline = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3], axis=1)
    offsets = np.arange(-SPLINE_REACH, SPLINE_REACH + 2)[None, :] - np.arange(-1, 3)[:, None]
    return b_spline / 6 @ (np.sqrt(3) * (np.sqrt(3) - 2) ** np.abs(offsets))
