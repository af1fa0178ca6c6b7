"""Pairs of label maps of full size: that of a phantom, and a distorted copy."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

from flarenet.phantom.case import phantom_case
from flarenet.preparation.resample import resample_nearest
from flarenet.volume import Grid, canonical


def write_pair(folder: Path, shape: tuple[int, int, int], *, seed: int = 5) -> tuple[Path, Path]:
    """Write (truth, prediction) to truth/ and predicted/ of `folder`: uint8 .nii.gz of 14 labels, `shape` (z, y, x)."""
    truth, grid = draw_truth(shape, seed)
    paths = folder / "truth" / "case.nii.gz", folder / "predicted" / "case.nii.gz"
    for path, data in zip(paths, (truth, draw_prediction(truth))):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nibabel.Nifti1Image(data.transpose(2, 1, 0), grid.affine[:, [2, 1, 0, 3]])
        path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    return paths


def draw_truth(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, Grid]:
    upright, _ = canonical(phantom_case(seed, 0, detail=3.0).truth)
    return resample_nearest(upright.data, shape), upright.grid.resampled(shape)


def draw_prediction(truth: np.ndarray) -> np.ndarray:
    """`truth` shifted by up to three voxels along each axis, varying from place to place, with one false tumour."""
    depth, height, width = truth.shape
    prediction = np.empty_like(truth)
    for z in range(depth):
        rows, columns = (
            np.clip(np.arange(n) + np.rint(3 * np.sin(z / 11 + np.arange(n) / 23)).astype(int), 0, n - 1)
            for n in (height, width)
        )
        source = truth[min(max(z + round(1.5 * np.sin(z / 17)), 0), depth - 1)]
        prediction[z] = source[rows][:, columns]
    z, y, x = (n // 2 for n in truth.shape)
    prediction[z : z + 4, y : y + 8, x : x + 8] = 14
    return prediction
