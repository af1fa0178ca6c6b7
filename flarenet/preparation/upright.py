"""Scans whose axes lean, as of a tilted gantry: on upright axes for the network, and label maps back onto their own."""

from __future__ import annotations

import numpy as np

from ..volume import Grid, Volume, upright_grid


def upright(volume: Volume) -> Volume:
    """The volume itself where its axes stand at right angles, else resampled linearly to volume.upright_grid.

    What lies outside it gets its lowest value.
    """
    grid = upright_grid(volume.grid)
    if grid is volume.grid:
        return volume
    return Volume(_sampled(volume.data, volume.grid, grid, order=1, fill=float(volume.data.min())), grid)


def on_grid(labels_map: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A label map [Z, Y, X] of `source` at the voxels of `target`: nearest, 0 outside; itself where both agree."""
    if source.is_near(target):
        return labels_map
    return _sampled(labels_map, source, target, order=0, fill=0)


def _sampled(data: np.ndarray, source: Grid, target: Grid, *, order: int, fill: float) -> np.ndarray:
    to_source = np.linalg.solve(source.affine, target.affine)
    from scipy.ndimage import affine_transform  # few scans are tilted, and its import takes as long as their slices

    return affine_transform(data, to_source, output_shape=target.shape, order=order, cval=fill, prefilter=False)
