"""Findings on images and label maps that do not look like what they should be; nothing is changed.

Every threshold is far from what sound data show: it finds mistakes, and does not tell good scans from better ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DatasetError
from ..volume import Grid, Volume, canonical
from .findings import Finding, refusal, remark
from .labels import HIDDEN

USUAL_SPACING_MM = (0.2, 10.0)

SCALED_HU = 50.0
"""A CT whose values all lie within +-50 was scaled, to 0..1 or to unit variance."""

AIR_ONLY_HU = -500.0
"""A CT with nothing above it shows neither tissue nor lung."""

MIRRORED = 1.5
"""A label map gets a finding if mirroring it divides the variance of the intensities within labels by more than this.
In 41 real cases mirroring made the variance at least 2.2 times larger."""

SAMPLES_PER_AXIS, FEWEST_SAMPLES = 96, 100

_AXES = {2: "left-right", 1: "front-back", 0: "head-feet"}


@dataclass(frozen=True, eq=False)
class Values:
    """The values of an image: the ends of their range, and a sample from all over the image, of any shape."""

    lowest: float
    highest: float
    sample: np.ndarray


def values_of(data: np.ndarray) -> Values:
    """The Values of an image in memory."""
    return Values(float(data.min()), float(data.max()), data[sample_of(data.shape)])


def sample_of(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The sample of an image of `shape` as slices: along each axis, evenly spaced voxels."""
    return tuple(slice(None, None, max(1, n // SAMPLES_PER_AXIS)) for n in shape)


def doubts_on_image(grid: Grid, values: Values, file: object, *, is_ct: bool) -> list[Finding]:
    """Findings on unusual spacing and, for CT, on values that are not HU; their `case` is empty."""
    return [*_spacing(grid, file), *(_hounsfield(values, file) if is_ct else [])]


def doubts_on_labels(image: Volume, label_map: Volume, file: object) -> list[Finding]:
    """Findings on a label map without background, or one that looks mirrored. Both volumes lie on one grid."""
    if label_map.data.all():
        found = "every voxel labelled" + (" or ignored" if (label_map.data == HIDDEN).any() else "")
        return [remark(file, found=found, expected="background around the labels")]
    return _mirrored(image, label_map, file)


def _spacing(grid: Grid, file: object) -> list[Finding]:
    low, high = USUAL_SPACING_MM
    if low <= min(grid.spacing_mm) and max(grid.spacing_mm) <= high:
        return []
    found = f"voxels of {' x '.join(f'{mm:.4g}' for mm in grid.spacing_mm[::-1])} mm"
    remedy = "is the unit right? nothing is changed"
    return [remark(file, found=found, expected=f"{low:g} to {high:g} mm along each axis", remedy=remedy)]


def _hounsfield(values: Values, file: object) -> list[Finding]:
    low, high = values.lowest, values.highest
    found = f"values from {low:.4g} to {high:.4g}"
    if -SCALED_HU < low and high < SCALED_HU:
        remedy = "undo the scaling, or name the modality in 'channel_names' if this is not a CT"
        return [refusal("", DatasetError(file, found=found, expected="HU: air near -1000, water 0", remedy=remedy))]
    if high < AIR_ONLY_HU:
        return [remark(file, found=found, expected="tissue, near 0 HU", remedy="is this the right scan?")]
    if low < 0:
        return []
    remedy = "is this CT? if so, what was done to its numbers? nothing is shifted"
    if _looks_shifted(values.sample):
        found += ", air near 0 and tissue near 1024"
        remedy = "if so, subtract 1024 from this file; nothing is shifted"
    return [remark(file, found=found, expected="HU: air near -1000, water 0", remedy=remedy)]


def _looks_shifted(sample: np.ndarray) -> bool:
    """Whether the values look like those of a CT before the intercept of -1024 is applied."""
    air, tissue = ((sample >= low) & (sample <= high) for low, high in ((0, 200), (850, 1250)))
    return bool(air.mean() > 0.05 and tissue.mean() > 0.05)


def _mirrored(image: Volume, label_map: Volume, file: object) -> list[Finding]:
    """A finding where the labels fit the image better when mirrored. Labels that fit hold voxels of similar intensity;
    mirrored ones hold a mixture."""
    upright, orientation = canonical(image)
    strides = sample_of(upright.data.shape)
    labels = orientation.apply(label_map.data)[strides]
    labels = np.where(labels == HIDDEN, 0, labels)
    if np.count_nonzero(labels) < FEWEST_SAMPLES:
        return []
    values = np.clip(upright.data[strides], *np.percentile(upright.data[strides], [1, 99])).astype(np.float64)
    as_it_is = _variance(values, labels)
    mirrored = {axis: _variance(values, np.flip(labels, axis)) for axis in _AXES}
    axis = min(mirrored, key=mirrored.__getitem__)
    if mirrored[axis] * MIRRORED >= as_it_is:
        return []
    found = f"labels that fit the image better when mirrored {_AXES[axis]}"
    return [remark(file, found=found, expected="labels where the image has them", remedy="look at both in a viewer")]


def _variance(values: np.ndarray, labels: np.ndarray) -> float:
    """The variance of `values` within labels, without the background; each voxel has the same weight."""
    inside = labels > 0
    index, inner = labels[inside], values[inside]
    counts = np.bincount(index)
    sums, squares = np.bincount(index, inner), np.bincount(index, inner * inner)
    present = counts > 0
    return float((squares[present] - sums[present] ** 2 / counts[present]).sum() / counts.sum())
