"""The measurements of one case: sizes, intensities and statistics of each label.

Axes are canonical (z, y, x; see volume). Intensities are counted in histograms, so percentiles are exact to one bin:
one HU for CT, a 4096th of the image's own range for other images.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...data.labels import HIDDEN, LabelSet, ignored_share
from ...errors import DatasetError
from ...schema import Frozen
from ...volume import Orientation, Volume, orientation_of, upright_grid

LOWEST_HU, BINS = -2048, 4096
"""For CT the histogram has one bin per HU from -2048 to 2047; what lies outside counts in the outer bins."""

INSIDE_HU = -500.0
"""What lies above it is inside the patient, without lung and air; used where a case has no labelled voxel."""

BODY_HU = -120.0
"""What lies above it is body: fat is about -100 HU, air far below. It also serves sets that were cut at -125 HU on
storage."""

BODY_SHARE = 0.01
"""A plane belongs to the body if more than this share of its voxels lies above BODY_HU: noise does not count."""

BRIGHT = 0.1
"""In images that are no CT, and so have no HU, the body is what lies above this share of the way from the lowest value
to the 99th percentile."""

SLAB_VOXELS = 1 << 20
"""Volumes are worked on so many voxels at a time, so that intermediate arrays stay in the processor's cache."""


class LabelFacts(Frozen):
    """A label in one case. Where it has no voxel, everything but `voxels` is None.

    centre_x  mean index of its voxels along the canonical x axis, which grows to the patient's right
    """

    voxels: int
    mean_hu: float | None = None
    sd_hu: float | None = None
    percentile_05_hu: float | None = None
    median_hu: float | None = None
    percentile_95_hu: float | None = None
    centre_x: float | None = None


class CaseFingerprint(Frozen):
    """One case, axes in canonical order.

    shape, spacing_mm  (z, y, x) in voxels and mm, of the grid that preparation works on. Where axes lean this is the
                       upright grid, whose voxels are as large, but nearer to each other along an axis that leans
    body_shape         planes (z, y, x) from the first to the last that belong to the body, along the scan's own axes
    min_hu, max_hu     over the whole image; like all that is called HU here, in the image's own unit where it is no CT
    annotated          the values looked for
    inferred           whether `annotated` was inferred, because nobody stated it
    voxels             label value -> number of voxels, for the values looked for; 0 means looked for and absent
    labels             the same labels in more numbers
    histogram_of       "foreground": all labelled voxels; "body": the inside of the body, where no voxel is labelled
    histogram          a count per bin, packed by pack_histogram
    lowest, step       the value of the first bin and the distance of bins
    ignored            the share of its voxels that nobody annotated; the numbers of labels leave them out
    remarks            warnings about its files; see data.verify
    image_sha256       the digest of the image file
    key                a digest of everything the numbers depend on: if it is equal, nothing has to be measured again
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    body_shape: tuple[int, int, int]
    min_hu: float
    max_hu: float
    annotated: tuple[int, ...]
    inferred: bool = False
    voxels: dict[int, int]
    labels: dict[int, LabelFacts] = {}
    histogram_of: Literal["foreground", "body"]
    histogram: str
    lowest: float = LOWEST_HU
    step: float = 1.0
    ignored: float = 0.0
    remarks: tuple[str, ...] = ()
    image_sha256: str
    key: str


@dataclass(frozen=True)
class Bins:
    """The BINS bins of a histogram, at the values lowest, lowest + step, ..."""

    lowest: float = LOWEST_HU
    step: float = 1.0

    def index(self, values: np.ndarray) -> np.ndarray:
        """The number of the bin nearest to each value, int32."""
        if values.dtype == np.int16 and self.step == 1 and self.lowest == int(self.lowest):
            return np.clip(values.astype(np.int32) - int(self.lowest), 0, BINS - 1)
        return np.clip(np.rint((values - self.lowest) / self.step), 0, BINS - 1).astype(np.int32)

    @property
    def values(self) -> np.ndarray:
        return self.lowest + self.step * np.arange(BINS)


def measure(
    image: Volume,
    label_map: np.ndarray | None,
    labels: LabelSet,
    *,
    name: str,
    is_ct: bool,
    image_sha256: str,
    key: str,
) -> CaseFingerprint:
    """The numbers of a case; `annotated` and `voxels` hold every value of the table until its pattern is settled.

    image      in any order of axes, which may lean; its voxels are counted as they are, without resampling
    label_map  uint8 [Z, Y, X] on the same grid, HIDDEN where nobody annotated anything; None: there is no label file
    """
    upright = upright_grid(image.grid)
    orientation = orientation_of(upright)
    grid, low, high = orientation.apply_to_grid(upright), float(image.data.min()), float(image.data.max())
    bins = Bins() if is_ct else _own_bins(image.data, low, high)
    body_floor, inside_floor = (BODY_HU, INSIDE_HU) if is_ct else (_bright(image.data, low),) * 2
    table = np.zeros((len(labels.names), BINS), dtype=np.int64)
    centres = np.zeros(len(labels.names))
    if label_map is not None:
        table, centres = _by_label(image.data, label_map, len(labels.names), bins, orientation)
    foreground = table.sum(axis=0)
    has_foreground = bool(foreground.any())
    return CaseFingerprint(
        name=name,
        shape=grid.shape,
        spacing_mm=rounded(grid.spacing_mm),
        body_shape=body_shape(image.data, body_floor, orientation),
        min_hu=low,
        max_hu=high,
        annotated=labels.values if label_map is not None else (),
        voxels={} if label_map is None else {value: int(table[value].sum()) for value in labels.values},
        labels={} if label_map is None else {v: _facts(table[v], bins, float(centres[v])) for v in labels.values},
        histogram_of="foreground" if has_foreground else "body",
        histogram=pack_histogram(foreground if has_foreground else _above(image.data, inside_floor, bins)),
        lowest=bins.lowest,
        step=bins.step,
        ignored=0.0 if label_map is None else ignored_share(label_map),
        image_sha256=image_sha256,
        key=key,
    )


def body_shape(
    image: np.ndarray, floor: float = BODY_HU, orientation: Orientation | None = None
) -> tuple[int, int, int]:
    """How many planes there are from the first to the last that belongs to the body, along each canonical axis of
    `image` [Z, Y, X]. An image without body gives its own shape.

    floor        what lies above it is body
    orientation  of the image; None where it is canonical
    """
    footprint, along = np.zeros(image.shape[1:], dtype=np.int64), []
    for _, part in _slabs(image):
        above = part > floor
        along += [np.count_nonzero(plane) for plane in above]
        for start in range(0, len(above), 255):  # as many ones as a byte can add up
            footprint += np.add.reduce(above[start : start + 255].view(np.uint8), axis=0, dtype=np.uint8)
    counts = (np.array(along), footprint.sum(axis=1), footprint.sum(axis=0))
    extent = list(image.shape)
    for axis, count in enumerate(counts):
        planes = np.flatnonzero(count > BODY_SHARE * (image.size // image.shape[axis]))
        if planes.size:
            extent[axis] = int(planes[-1] - planes[0]) + 1
    z, y, x = (extent[axis] for axis in (orientation.axes if orientation else (0, 1, 2)))
    return z, y, x


def pack_histogram(counts: np.ndarray) -> str:
    """Counts [BINS] as text: little-endian uint32, deflated, in base64."""
    return base64.b64encode(zlib.compress(counts.astype("<u4").tobytes(), 6)).decode("ascii")


def unpack_histogram(text: str) -> np.ndarray:
    """The inverse of pack_histogram, int64 [BINS]. Raises DatasetError where the text is not a histogram."""
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 4 * BINS + 1)
    except (ValueError, zlib.error) as problem:
        raise DatasetError("histogram of a fingerprint", found=problem, expected="a packed histogram") from problem
    if len(data) != 4 * BINS:
        raise DatasetError("histogram of a fingerprint", found=f"{len(data)} bytes", expected=f"{4 * BINS} bytes")
    return np.frombuffer(data, dtype="<u4").astype(np.int64)


def percentile(counts: np.ndarray, values: np.ndarray, percent: float) -> float:
    """The lowest of `values` for which at least `percent` % of the counts lie at or below it."""
    below = np.cumsum(counts)
    return float(values[np.searchsorted(below, percent / 100 * below[-1])])


def mean_and_sd(counts: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of `values` by their counts, of which one must be above 0."""
    total = counts.sum()
    mean = float((counts * values).sum() / total)
    return mean, float(np.sqrt((counts * (values - mean) ** 2).sum() / total))


def rounded(numbers) -> tuple[float, float, float]:
    """Three numbers rounded to five decimals: more would be noise of the single precision of headers."""
    z, y, x = (round(float(number), 5) for number in numbers)
    return z, y, x


def _slabs(data: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first plane, planes) of parts of `data` [Z, Y, X] with about SLAB_VOXELS voxels."""
    planes = max(1, SLAB_VOXELS // max(1, data[0].size))
    for start in range(0, len(data), planes):
        yield start, data[start : start + planes]


def _by_label(
    image: np.ndarray, label_map: np.ndarray, names: int, bins: Bins, orientation: Orientation
) -> tuple[np.ndarray, np.ndarray]:
    """The histogram of each label, [names, BINS] (zeros for the background), and its mean index along canonical x,
    [names]."""
    table, sums = np.zeros(names * BINS, dtype=np.int64), np.zeros(names)
    axis = orientation.axes[2]
    for start, part in _slabs(label_map):
        flat = part.reshape(-1)
        inside = np.flatnonzero((flat != 0) & (flat != HIDDEN))
        if not inside.size:
            continue
        label = flat[inside].astype(np.intp)
        values = image[start : start + len(part)].reshape(-1)[inside]
        table += np.bincount(label * BINS + bins.index(values), minlength=table.size)
        stride = int(np.prod(part.shape[axis + 1 :]))
        index = inside // stride % part.shape[axis] + (start if axis == 0 else 0)
        sums += np.bincount(label, weights=index, minlength=names)
    by_label = table.reshape(names, BINS)
    centres = sums / np.maximum(by_label.sum(axis=1), 1)
    return by_label, image.shape[axis] - 1 - centres if orientation.flips[2] else centres


def _facts(counts: np.ndarray, bins: Bins, centre_x: float) -> LabelFacts:
    voxels = int(counts.sum())
    if not voxels:
        return LabelFacts(voxels=0)
    (mean, sd), values = mean_and_sd(counts, bins.values), bins.values
    low, median, high = (percentile(counts, values, percent) for percent in (5, 50, 95))
    return LabelFacts(
        voxels=voxels,
        mean_hu=round(mean, 3),
        sd_hu=round(sd, 3),
        percentile_05_hu=low,
        median_hu=median,
        percentile_95_hu=high,
        centre_x=round(centre_x, 2),
    )


def _above(image: np.ndarray, floor: float, bins: Bins) -> np.ndarray:
    """The histogram [BINS] of the voxels above `floor`."""
    if image.dtype != np.int16:
        counts = np.zeros(BINS, dtype=np.int64)
        for _, part in _slabs(image):
            counts += np.bincount(bins.index(part[part > floor]), minlength=BINS)
        return counts
    stored = np.arange(1 << 16, dtype=np.uint16)  # every int16 has a bin: nothing is compared or copied voxel by voxel
    each = np.zeros(stored.size, dtype=np.int64)
    for _, part in _slabs(image):
        each += np.bincount(part.view(np.uint16).reshape(-1), minlength=stored.size)
    values = stored.view(np.int16)
    inside = values > floor
    return np.bincount(bins.index(values[inside]), weights=each[inside], minlength=BINS).astype(np.int64)


def _own_bins(image: np.ndarray, low: float, high: float) -> Bins:
    """The bins of an image that is no CT: a bin for each whole number where the range fits, else bins that divide the
    range evenly."""
    if image.dtype == np.int16 and high - low < BINS:
        return Bins(low, 1.0)
    return Bins(low, (high - low) / (BINS - 1) or 1.0)


def _bright(image: np.ndarray, low: float) -> float:
    sample = image[tuple(slice(None, None, max(1, size // 64)) for size in image.shape)]
    return low + BRIGHT * (float(np.percentile(sample, 99)) - low)
