"""Converts stored numbers to the type that is needed, part by part, so that only the result has the volume's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ...errors import DatasetError
from ..findings import Finding, remark
from ..labels import HIDDEN

MOST_NOT_FINITE = 0.001
"""The largest share of voxels that may be NaN or infinite; they are taken as air."""

LARGEST_VALUE = 1e7
"""The largest number that a scanner gives: HU end near 3e4, counts of PET and MR below 1e7."""

WRAPPED_FROM, WRAPPED_SHARE = 61440, 0.001
"""Negative HU that a writer stored as uint16 are numbers from 61440 on (as int16: -4096 .. -1). A file is suspected of
that where more than this share of its voxels holds such numbers."""

OUTSIDE = HIDDEN
"""Stands in a lookup table for "no label", as well as for what is to be HIDDEN; the largest label is 254."""

MOST_WRONG_VALUES = 1000

Scaling = tuple[float, float] | None


@dataclass
class VoxelStats:
    """What was noted of the stored numbers while an image was read.

    lowest, highest  the ends of the range of the finite numbers
    not_finite       how many numbers are NaN or infinite
    wrapped          how many uint16 numbers are WRAPPED_FROM or more
    between          how many uint16 numbers lie above the largest int16 and below WRAPPED_FROM
    """

    lowest: float = np.inf
    highest: float = -np.inf
    not_finite: int = 0
    wrapped: int = 0
    between: int = 0

    def note(self, part: np.ndarray) -> None:
        low, high = float(part.min()), float(part.max())
        if not np.isfinite([low, high]).all():  # a NaN or inf anywhere shows in these
            finite = part[np.isfinite(part)]
            self.not_finite += part.size - finite.size
            if not finite.size:
                return
            low, high = float(finite.min()), float(finite.max())
        if part.dtype == np.uint16 and high > np.iinfo(np.int16).max:
            wrapped = int((part >= WRAPPED_FROM).sum())
            self.wrapped += wrapped
            self.between += int((part > np.iinfo(np.int16).max).sum()) - wrapped
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)


def image_values(parts: Iterator[np.ndarray], out: np.ndarray, scaling: Scaling, stats: VoxelStats) -> np.ndarray:
    """Convert the numbers of `parts` into `out`, which is flat, and return it; or a float32 copy of it where `out` is
    int16 and the numbers do not fit.

    `parts` may lie in `out` itself.
    """
    done = 0
    for part in parts:
        stats.note(part)
        if out.dtype == np.int16 and not _fits_int16(part):
            out = out.astype(np.float32)
        here = out[done : done + part.size]
        if scaling is not None or not np.may_share_memory(here, part):
            here[:] = plane_values(part, scaling)
        done += part.size
    return out


def plane_values(part: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Stored numbers as values: int16 where they are whole numbers that fit and are not scaled, else float32.

    This is `part` itself where it has that type already.
    """
    if scaling is None and part.dtype.kind != "f":
        return part.astype(np.int16 if _fits_int16(part) else np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # check_voxels refuses NaN and numbers that are too large
        values = part.astype(np.float32, copy=scaling is not None)
        if scaling is not None:
            values *= np.float32(scaling[0])
            values += np.float32(scaling[1])
    return values


def in_range(stats: VoxelStats, scaling: Scaling) -> tuple[float, float]:
    """The lowest and the highest value of an image."""
    slope, intercept = scaling or (1.0, 0.0)
    lowest, highest = sorted((slope * stats.lowest + intercept, slope * stats.highest + intercept))
    return lowest, highest


def check_voxels(stats: VoxelStats, voxels: int, scaling: Scaling, path: object) -> list[Finding]:
    """Raise DatasetError for numbers that are not a scan. Returns a warning where a few, which `fill` replaces, are not
    finite."""
    lowest, highest = in_range(stats, scaling)
    remarks = _check_finite(stats, voxels, path)
    if max(abs(lowest), abs(highest)) > LARGEST_VALUE:
        found = f"values from {lowest:.3g} to {highest:.3g}"
        raise DatasetError(path, found=found, expected=f"at most {LARGEST_VALUE:g}, as scanners give")
    if lowest == highest:
        raise DatasetError(path, found=f"{lowest:g} in every voxel", expected="an image")
    _check_wrapped(stats, voxels, path)
    return remarks


def fill(values: np.ndarray, lowest: float) -> np.ndarray:
    """Replace what is not finite in `values` by `lowest`; returns `values`."""
    for part in np.array_split(values, max(1, values.size >> 20)):
        part[~np.isfinite(part)] = lowest
    return values


def _check_finite(stats: VoxelStats, voxels: int, path: object) -> list[Finding]:
    if not stats.not_finite:
        return []
    found = f"{stats.not_finite} voxels that are NaN or infinite"
    if stats.not_finite > MOST_NOT_FINITE * voxels:
        expected = f"finite numbers, or at most {MOST_NOT_FINITE:.1%} of {voxels} voxels otherwise"
        raise DatasetError(path, found=found, expected=expected)
    return [remark(path, found=found, expected="finite numbers", remedy="taken as air, the lowest value of the image")]


def _check_wrapped(stats: VoxelStats, voxels: int, path: object) -> None:
    """Raise DatasetError for numbers that look like wrapped negatives: many at the upper end and none just below, a gap
    that a range which is really used does not have."""
    if stats.wrapped <= WRAPPED_SHARE * voxels or stats.between:
        return
    found = f"uint16 numbers up to {stats.highest:.0f} in {stats.wrapped} voxels, and none from 32768 to {WRAPPED_FROM}"
    expected, remedy = "HU: these look like negative ones, wrapped around", "store it again as int16"
    raise DatasetError(path, found=found, expected=expected, remedy=remedy)


def _fits_int16(part: np.ndarray) -> bool:
    if part.dtype in (np.int16, np.int8, np.uint8):
        return True
    limits = np.iinfo(np.int16)
    return bool(part.min() >= limits.min and part.max() <= limits.max)


@dataclass
class LookupTable:
    """Looks up labels by the values of a file, and counts the values that are not labels.

    labels     uint8: the label of each value; the last entry is for all other values
    plain      the highest value up to which each value is its own label; -1 where the file numbers labels otherwise
    wrong      value, as text -> how many voxels have it, for values that are not labels
    fractions  whether any of these is not a whole number
    hidden     the values that are to be HIDDEN
    """

    labels: np.ndarray
    plain: int = -1
    wrong: Counter[str] = field(default_factory=Counter)
    fractions: bool = False
    hidden: tuple[int, ...] = ()

    def look_up(self, part: np.ndarray) -> np.ndarray:
        """The labels of stored numbers, uint8; OUTSIDE where there is none or the number is to be HIDDEN."""
        if part.dtype == np.uint8:
            if part.size and part.max() <= self.plain:
                return part
            found = self.labels[part]
        else:
            last = len(self.labels) - 1
            index = np.where((part >= 0) & (part < last), part, last).astype(np.intp)
            found = np.where(index == part, self.labels[index], np.uint8(OUTSIDE))
        if found.size and found.max() == OUTSIDE:
            outside = part[found == OUTSIDE]
            self._note(outside[~np.isin(outside, self.hidden)])
        return found

    def _note(self, wrong: np.ndarray) -> None:
        self.fractions |= bool((wrong != np.rint(wrong)).any())
        for value, count in zip(*(array.tolist() for array in np.unique(wrong, return_counts=True))):
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            if text in self.wrong or len(self.wrong) < MOST_WRONG_VALUES:
                self.wrong[text] += count


def lookup_table(top: int, values: Mapping[int, int]) -> LookupTable:
    """The lookup table of the labels 0 to `top`.

    values  file value -> label, or HIDDEN, where the file numbers labels otherwise; else empty
    """
    meaning = {0: 0, **values} if values else {value: value for value in range(top + 1)}
    labels = np.full(max(256, max(meaning) + 1) + 1, OUTSIDE, dtype=np.uint8)
    for value, label in meaning.items():
        labels[value] = label
    hidden = tuple(value for value, label in meaning.items() if label == HIDDEN)
    return LookupTable(labels, plain=-1 if values else top, hidden=hidden)


def label_values(parts: Iterator[np.ndarray], voxels: int, scaling: Scaling, table: LookupTable) -> np.ndarray:
    """The labels of `parts`, uint8 [voxels]."""
    out, done = np.empty(voxels, np.uint8), 0
    for part in parts:
        stored = part if scaling is None else part * np.float64(scaling[0]) + scaling[1]
        out[done : done + part.size] = table.look_up(stored)
        done += part.size
    return out
