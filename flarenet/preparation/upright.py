"""Scans whose axes lean, as of a tilted gantry: on upright axes for the network, and label maps back onto their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..volume import Grid, Triple, Volume, upright_grid

Planes = Mapping[str, np.ndarray]
"""{name: [C, Y, X]} of one slice."""


def upright(volume: Volume) -> Volume:
    """The volume itself where its axes stand at right angles, else resampled linearly to volume.upright_grid.

    What lies outside it gets its lowest value.
    """
    grid = upright_grid(volume.grid)
    if grid is volume.grid:
        return volume
    to_source = np.linalg.solve(volume.grid.affine, grid.affine)
    return Volume(_sampled(volume.data, to_source, grid.shape, order=1, fill=float(volume.data.min())), grid)


def on_grid(labels_map: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A label map [Z, Y, X] of `source` at the voxels of `target`: nearest, 0 outside; itself where both agree."""
    if source.is_near(target):
        return labels_map
    planes = planes_on_grid(({"labels": plane[None]} for plane in labels_map), source, target, outside={"labels": [0]})
    return np.concatenate([plane["labels"] for plane in planes])


def planes_on_grid(
    planes: Iterable[Planes], source: Grid, target: Grid, *, outside: Mapping[str, Sequence[float]]
) -> Iterator[Planes]:
    """The slices of `target`, lowest first, from those of `source`, lowest first: each voxel that of the nearest one.

    outside  name -> the value of each channel where `source` has no voxel
    A slice is kept as long as a later one needs it. Those of a tilted gantry lie in the planes of their upright ones:
    of these one or two are kept.
    """
    to_source = np.linalg.solve(source.affine, target.affine)
    first, last = _reach(to_source, source.shape[0], target.shape)
    needed = np.minimum.accumulate(first[::-1])[::-1]  # by this slice of `target` or a later one
    kept: deque[Planes] = deque()
    lowest, coming = 0, iter(planes)
    for z in range(target.shape[0]):
        while lowest + len(kept) <= last[z]:
            kept.append(next(coming))
        while lowest < needed[z]:
            kept.popleft()
            lowest += 1
        block = [kept[number - lowest] for number in range(first[z], last[z] + 1)]
        yield {
            name: _nearest(np.stack([each[name] for each in block], 1), to_source, (first[z], z), target.shape, values)
            for name, values in outside.items()
        }


def _reach(to_source: np.ndarray, depth: int, shape: Triple) -> tuple[np.ndarray, np.ndarray]:
    """For each slice of a grid of `shape` the first and the last of `depth` slices that its voxels may lie nearest to:
    one more on either side than its corners reach, but for those that are not there."""
    corners = np.array([(0, y, x, 1) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)])
    heights = (corners @ to_source[0])[:, None] + to_source[0, 0] * np.arange(shape[0])
    reach = np.floor(heights.min(0)).astype(int) - 1, np.ceil(heights.max(0)).astype(int) + 1
    return np.clip(reach[0], 0, depth - 1), np.clip(reach[1], 0, depth - 1)


def _nearest(
    block: np.ndarray, to_source: np.ndarray, at: tuple[int, int], shape: Triple, outside: Sequence[float]
) -> np.ndarray:
    """[C, Y, X] of a slice from `block` [C, z, y, x]; `at`: which slice of the source the block begins with, and which
    slice of the target is wanted."""
    moved = to_source @ _raised(at[1])
    moved[0, 3] -= at[0]
    channels = zip(block, outside)
    return np.concatenate([_sampled(one, moved, (1, *shape[1:]), order=0, fill=fill) for one, fill in channels])


def _raised(slices: int) -> np.ndarray:
    moved = np.eye(4)
    moved[0, 3] = slices
    return moved


def _sampled(data: np.ndarray, to_source: np.ndarray, shape: Triple, *, order: int, fill: float) -> np.ndarray:
    """`data` at the voxels of a grid of `shape`, which lie at `to_source` in it, linearly or the nearest."""
    from scipy.ndimage import affine_transform  # few scans are tilted, and its import takes as long as their slices

    mode = "constant" if order else "grid-constant"  # a voxel is the nearest one up to half a step outside of the grid
    return affine_transform(data, to_source, output_shape=shape, order=order, mode=mode, cval=fill, prefilter=False)
