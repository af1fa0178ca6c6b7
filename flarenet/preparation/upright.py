"""Scans whose axes lean, as of a tilted gantry: on upright axes for the network, and label maps back onto their own."""

from __future__ import annotations

from typing import cast

import numpy as np

from ..volume import SHEAR_THAT_COUNTS, Grid, Triple, Volume


def upright(volume: Volume) -> Volume:
    """The volume itself where its axes stand at right angles, else resampled linearly to upright_grid.

    What lies outside it gets its lowest value.
    """
    if volume.grid.shear < SHEAR_THAT_COUNTS:
        return volume
    grid = upright_grid(volume.grid)
    return Volume(_sampled(volume.data, volume.grid, grid, order=1, fill=float(volume.data.min())), grid)


def upright_grid(grid: Grid) -> Grid:
    """A grid with axes at right angles that holds every voxel of `grid`.

    The axes with the smallest voxels keep their direction (Gram-Schmidt): slices that are pushed against each other
    are pushed back within their planes, and nothing is interpolated between them.
    """
    axes = grid.affine[:3, :3].copy()
    order = _order(grid)
    for number, axis in enumerate(order):
        for kept in order[:number]:
            axes[:, axis] -= axes[:, kept] * (axes[:, axis] @ axes[:, kept]) / (axes[:, kept] @ axes[:, kept])
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij")).reshape(3, 8)
    reach = np.linalg.solve(axes, grid.affine[:3, :3] @ corners)
    # a voxel that is on a whole number but for rounding needs no further plane
    first, last = np.floor(reach.min(axis=1) + 1e-3), np.ceil(reach.max(axis=1) - 1e-3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, grid.affine[:3, 3] + axes @ first
    return Grid(cast(Triple, tuple((last - first + 1).astype(int))), affine)


def _order(grid: Grid) -> list[int]:
    """The axes, those first that keep their direction.

    The smallest voxels come first, but for the two finest axes where one step along the coarser of them is more than
    a voxel aside along the other: the rows between two of its steps are then unlike both, and what a third axis that
    leans over it makes of them, half a step off, would lie several fine voxels off. So it keeps its own direction.
    """
    first, second, third = sorted(range(3), key=lambda axis: (grid.spacing_mm[axis], -axis))
    fine, coarse = grid.affine[:3, first], grid.affine[:3, second]
    if abs(fine @ coarse) > fine @ fine:
        first, second = second, first
    return [first, second, third]


def on_grid(labels_map: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A label map [Z, Y, X] of `source` at the voxels of `target`: nearest, 0 outside; itself where both agree."""
    if source.is_near(target):
        return labels_map
    return _sampled(labels_map, source, target, order=0, fill=0)


def _sampled(data: np.ndarray, source: Grid, target: Grid, *, order: int, fill: float) -> np.ndarray:
    to_source = np.linalg.solve(source.affine, target.affine)
    from scipy.ndimage import affine_transform  # few scans are tilted, and its import takes as long as their slices

    return affine_transform(data, to_source, output_shape=target.shape, order=order, cval=fill, prefilter=False)
