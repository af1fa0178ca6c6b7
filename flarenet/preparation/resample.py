"""Resampling between grids that fill the same space: outer voxel edges coincide (align_corners=False).

Images are interpolated linearly, label maps take the nearest voxel, as in the FLARE 2023 paper, section 2.2.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch.nn import functional

from ..volume import Triple


def resampled_shape(shape: Triple, spacing_mm: tuple[float, ...], wanted_mm: tuple[float | None, ...]) -> Triple:
    """The shape that brings `spacing_mm` nearest to `wanted_mm`; None keeps an axis; at least one voxel each."""
    # twice rounded: a ratio halfway between two whole numbers must not be decided by the last bits of an affine
    resampled = (
        n if wanted is None else max(1, round(round(n * spacing / wanted, 4)))
        for n, spacing, wanted in zip(shape, spacing_mm, wanted_mm)
    )
    return cast(Triple, tuple(resampled))


def resample_linear(image: np.ndarray, shape: Triple) -> np.ndarray:
    """`image` [Z, Y, X] interpolated linearly to `shape`, as float32."""
    data = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    if tuple(data.shape) == tuple(shape):
        return data.numpy()
    if data.shape[0] == shape[0]:  # slice by slice is several times faster than trilinear, and the same
        return functional.interpolate(data[:, None], size=shape[1:], mode="bilinear", align_corners=False)[:, 0].numpy()
    return functional.interpolate(data[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0].numpy()


def resample_nearest(label_map: np.ndarray, shape: Triple) -> np.ndarray:
    """`label_map` [Z, Y, X] at the nearest voxel centres of `shape`; the type stays."""
    data = label_map
    for axis, (n, wanted) in enumerate(zip(label_map.shape, shape)):
        if n != wanted:
            # centre of voxel k of the new axis, in voxels of the old one, to the nearest old centre
            nearest = np.floor((np.arange(wanted) + 0.5) * n / wanted).astype(np.intp)
            data = data.take(np.clip(nearest, 0, n - 1), axis=axis)
    return np.ascontiguousarray(data)
