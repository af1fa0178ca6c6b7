"""Scans of full size for the benchmarks: phantoms resampled to 512 x 512 pixels, with scanner noise."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np

from flarenet.phantom.anatomy import LABELS
from flarenet.phantom.case import phantom_case
from flarenet.preparation.resample import resample, resample_nearest
from flarenet.volume import Orientation, Volume, canonical

SLICES = (60, 78, 96, 114, 132, 150)
NOISE_HU = 12.0
LPS = Orientation(flips=(False, True, True))
"""The orientation in which scanners write axial slices."""


def scan(index: int, slices: int, *, pixels: int = 512, seed: int = 5) -> tuple[Volume, np.ndarray]:
    """(image in int16 HU, labels in uint8), [slices, pixels, pixels] on one grid; equal arguments give equal scans."""
    phantom = phantom_case(seed, index, detail=2.0)
    upright, orientation = canonical(phantom.image)
    axial = Volume(LPS.apply(upright.data), LPS.apply_to_grid(upright.grid))
    shape = (slices, pixels, pixels)
    planes = (plane.astype(np.float32) for plane in axial.data)
    noise = np.random.default_rng([seed, index])
    image = np.empty(shape, dtype=np.int16)
    for place, plane in zip(image, resample(planes, axial.grid.shape, shape, "linear")):
        plane += noise.normal(0, NOISE_HU, plane.shape).astype(np.float32)
        place[:] = np.rint(np.clip(plane, -1024, 3071))
    labels = LPS.apply(orientation.apply(phantom.truth.data))
    return Volume(image, axial.grid.resampled(shape)), resample_nearest(labels, shape)


def write_raw(folder: Path, slices: tuple[int, ...] = SLICES, *, pixels: int = 512) -> None:
    """Write a data set in nnU-Net v2's raw format: dataset.json, imagesTr, labelsTr."""
    for index, count in enumerate(slices):
        image, labels = scan(index, count, pixels=pixels)
        _write(folder / f"imagesTr/scan_{index:03d}_0000.nii.gz", image.data, image.grid.affine)
        _write(folder / f"labelsTr/scan_{index:03d}.nii.gz", labels, image.grid.affine)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(LABELS.names)},
        "numTraining": len(slices),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1))


def _write(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.ascontiguousarray(data.transpose(2, 1, 0)), affine[:, [2, 1, 0, 3]])
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=5, mtime=0))
