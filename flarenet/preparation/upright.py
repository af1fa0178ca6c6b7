"""Scans whose axes lean, as with a tilted gantry: resampled to upright axes for the network, and label maps back to the
axes of the scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..volume import Grid, Triple, Volume, upright_grid
from .passing import Passing

Slice = Mapping[str, np.ndarray]
"""{name: [C, Y, X]}: what there is of one slice."""


def upright(volume: Volume) -> Volume:
    """The volume itself where its axes stand at right angles, else resampled linearly to volume.upright_grid.

    Voxels that lie outside the volume get its lowest value.
    """
    grid = upright_grid(volume.grid)
    if grid is volume.grid:
        return volume
    to_source = np.linalg.solve(volume.grid.affine, grid.affine)
    return Volume(_sampled(volume.data, to_source, grid.shape, order=1, fill=float(volume.data.min())), grid)


def on_grid(labels_map: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A label map [Z, Y, X] on `source`, resampled to `target` by nearest voxel, 0 outside; unchanged where the grids
    agree."""
    if source.is_near(target):
        return labels_map
    slices = slices_on_grid(({"labels": plane[None]} for plane in labels_map), source, target, outside={"labels": [0]})
    return np.concatenate([each["labels"] for each in slices])


def slices_on_grid(
    slices: Iterable[Slice], source: Grid, target: Grid, *, outside: Mapping[str, Sequence[float]]
) -> Iterator[Slice]:
    """Resample slices of `source`, lowest first, to the slices of `target`, lowest first, by nearest voxel.

    outside  name -> the value of each channel where `source` has no voxel
    A slice is kept as long as a later one needs it. The slices of a tilted gantry lie in the planes of the upright
    grid, so of them three are kept.
    """
    to_source = np.linalg.solve(source.affine, target.affine)
    passing = Passing(slices, source.shape[0])
    for z, (first, stop) in enumerate(_reach(to_source, source.shape[0], target.shape)):
        block = passing.between(first, stop)
        to_block = to_source.copy()
        to_block[:, 3] += z * to_source[:, 0]
        to_block[0, 3] -= first
        yield {
            name: _nearest(np.stack([each[name] for each in block], 1), to_block, target.shape, values)
            for name, values in outside.items()
        }


def _reach(to_source: np.ndarray, depth: int, shape: Triple) -> list[tuple[int, int]]:
    """For each slice of a grid of `shape`: the range (first, end) of the `depth` source slices that its voxels may be
    nearest to. It is one slice more on either side than the corners reach, and neither end moves back."""
    corners = np.array([(0, y, x, 1) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)])
    heights = (corners @ to_source[0])[:, None] + to_source[0, 0] * np.arange(shape[0])
    first = np.clip(np.floor(heights.min(0)).astype(int) - 1, 0, depth - 1)
    last = np.clip(np.ceil(heights.max(0)).astype(int) + 1, 0, depth - 1)
    first, last = np.minimum.accumulate(first[::-1])[::-1], np.maximum.accumulate(last)
    return list(zip(first.tolist(), (last + 1).tolist()))


def _nearest(block: np.ndarray, to_block: np.ndarray, shape: Triple, outside: Sequence[float]) -> np.ndarray:
    """One slice [C, Y, X], sampled from `block` [C, z, y, x] by nearest voxel."""
    channels = zip(block, outside)
    return np.concatenate([_sampled(one, to_block, (1, *shape[1:]), order=0, fill=fill) for one, fill in channels])


def _sampled(data: np.ndarray, to_source: np.ndarray, shape: Triple, *, order: int, fill: float) -> np.ndarray:
    """`data` sampled at the voxels of a grid of `shape`: linearly (`order` 1) or by nearest voxel (0).

    to_source  [4, 4]: index in that grid -> index in `data`
    fill       the value outside `data`
    """
    from scipy.ndimage import affine_transform  # few scans are tilted, and its import takes as long as their slices

    # by "grid-constant" `fill` begins a step beyond the last voxel, or half a step for the nearest voxel. By "constant"
    # it would begin at that voxel, and because of rounding in `to_source` a whole outer slice could count as outside
    return affine_transform(
        data, to_source, output_shape=shape, order=order, mode="grid-constant", cval=fill, prefilter=False
    )
