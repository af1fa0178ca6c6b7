"""What a page on a data set needs of each case in addition to its fingerprint: HU by label and a thumbnail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.dataset import Case
from ..data.labels import HIDDEN, LabelSet
from ..data.verify import Content
from ..evaluation.pictures import Cut, as_shown, choose_cuts, colour_of, window_of
from ..planning.measuring.fingerprint import Fingerprint
from ..volume import Volume, canonical
from .pixels import grey_pixels, jpeg, label_pixels

BIN_HU, LOWEST_HU, BINS = 8, -1024, 400
"""Histograms have 400 bins of 8 HU from -1024 HU on, coarse enough to be kept for thousands of cases. Values outside
count in the outer bins."""

MOST_THUMBNAILS, THUMBNAIL_WIDTH = 48, 180
"""How many thumbnails a page holds, some 6 KB each, and their width in pixels."""

OPACITY = 0.45

BYTES_PER_VOXEL = 18
"""The most memory that checking and looking at a case takes, in bytes per voxel of its image; measured, rounded up."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is kept of a case for a page.

    counts     label value -> voxels per bin, uint32 [BINS]
    thumbnail  the bytes of a JPEG; None for a case without one
    """

    counts: Mapping[int, np.ndarray] = field(default_factory=dict)
    thumbnail: bytes | None = None


def bins_hu() -> np.ndarray:
    """The middle of every bin, [BINS]."""
    return LOWEST_HU + BIN_HU * (np.arange(BINS) + 0.5)


def added(looks: Iterable[Look], value: int) -> np.ndarray:
    """The counts of label `value`, added up over cases, int64 [BINS]."""
    return np.sum([np.zeros(BINS, np.int64), *(look.counts[value] for look in looks if value in look.counts)], axis=0)


def worth_a_thumbnail(fingerprint: Fingerprint) -> list[str]:
    """The names of at most MOST_THUMBNAILS cases: the odd ones, then one of each cohort in turn; sorted by cohort."""
    odd = {sentence.partition(":")[0] for sentence in fingerprint.suspicious} | set(fingerprint.ambiguous)
    cases = fingerprint.cases
    waiting = [[case.name for case in cases if case.annotated == pattern] for pattern in fingerprint.patterns]
    chosen = [case.name for case in cases if case.name in odd][:MOST_THUMBNAILS]
    turns = (names[turn] for turn in range(len(cases)) for names in waiting if turn < len(names))
    chosen = list(dict.fromkeys([*chosen, *turns]))[:MOST_THUMBNAILS]
    order = [name for names in waiting for name in names]
    return sorted(chosen, key=order.index)


def look_at(case: Case, content: Content, *, labels: LabelSet, is_ct: bool, thumbnails: frozenset[str]) -> Look:
    """The Look of a case; an empty one where its files cannot be used."""
    image, label_map = content.image, content.label_map
    if image is None or (label_map is not None and label_map.data.shape != image.data.shape):
        return Look()
    counts = _counts(image.data, label_map.data, labels) if label_map is not None and is_ct else {}
    shown = case.name in thumbnails
    return Look(counts, _thumbnail(image, label_map, labels, is_ct=is_ct) if shown else None)


def _counts(image: np.ndarray, label_map: np.ndarray, labels: LabelSet) -> dict[int, np.ndarray]:
    table = np.zeros(len(labels.names) * BINS, dtype=np.int64)
    for plane, labelled in zip(image, label_map):  # plane by plane, so that no array of the size of the scan is made
        inside = (labelled != 0) & (labelled != HIDDEN)
        hu = plane[inside].astype(np.float32)  # a difference of int16 could overflow
        bins = np.clip((hu - LOWEST_HU) // BIN_HU, 0, BINS - 1).astype(np.int64)
        table += np.bincount(labelled[inside] * np.int64(BINS) + bins, minlength=table.size)
    by_label = table.reshape(-1, BINS).astype(np.uint32)
    return {value: by_label[value] for value in labels.values if by_label[value].any()}


def _thumbnail(image: Volume, label_map: Volume | None, labels: LabelSet, *, is_ct: bool) -> bytes:
    """The axial slice with the most labels, or the middle one where there are none; patient's left on the right."""
    reoriented, _ = canonical(image)
    layer = np.zeros(reoriented.data.shape, np.uint8) if label_map is None else canonical(label_map)[0].data
    cut = Cut(0, choose_cuts(layer, labels)[0].index)
    _, y_mm, x_mm = reoriented.grid.spacing_mm
    _, rows, columns = reoriented.data.shape
    size = THUMBNAIL_WIDTH, max(1, round(THUMBNAIL_WIDTH * rows * y_mm / (columns * x_mm)))
    plane = as_shown(reoriented.data, cut)
    under = np.repeat(grey_pixels(plane, window_of(reoriented.data, is_ct=is_ct), size)[..., None], 3, axis=2)
    over = label_pixels(as_shown(layer, cut), size)
    colours = np.array([(0, 0, 0), *(colour_of(value) for value in range(1, 256))]) * 255
    mixed = np.where(over[..., None] > 0, under * (1 - OPACITY) + colours[over] * OPACITY, under)
    return jpeg(mixed.round().astype(np.uint8))
