"""Data sets as bare facts, from which fingerprints are made without any image: cohorts, geometry, intensities.

A geometry is a row (share of the scans, slices, rows and columns, slice distance in mm, pixel in mm).
"""

from collections.abc import Sequence
from functools import cache
from itertools import cycle

import numpy as np

from flarenet.data.labels import LabelSet
from flarenet.planning.measuring.fingerprint import Fingerprint, summarise
from flarenet.planning.measuring.measure import BINS, LOWEST_HU, CaseFingerprint, pack_histogram

Geometry = tuple[int, int, int, float, float]

ORGANS = (
    "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland",
    "left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum", "left kidney",
)  # fmt: skip
ABDOMEN = LabelSet(names=("background", *ORGANS, "tumor"), groups={"organ": tuple(range(1, 14)), "cancer": (14,)})

FLARE23_SCANS: tuple[Geometry, ...] = (
    (10, 349, 512, 1.0, 0.78), (7, 529, 512, 0.8, 0.72), (6, 603, 512, 0.8, 0.78), (6, 908, 512, 1.0, 0.81),
    (9, 148, 270, 1.5, 1.5), (8, 247, 512, 1.5, 0.89),
    (8, 89, 512, 2.5, 0.78), (8, 131, 512, 2.5, 0.86), (7, 340, 512, 2.5, 0.84), (7, 398, 512, 2.5, 0.89),
    (3, 138, 512, 3.0, 0.77), (10, 46, 512, 5.0, 0.81), (10, 97, 512, 5.0, 0.79), (1, 35, 512, 7.5, 0.75),
)  # fmt: skip
"""How often which geometry occurs among 3918 scans of the challenge, in per cent: medians of groups of like ones."""

FIVE = (1, 2, 3, 4, 13)
FLARE23_COHORTS = {tuple(range(1, 14)): 250, FIVE: 453, (*FIVE, 14): 609, (14,): 888, (): 1800}

BODY_MM = (260.0, 350.0)
"""(y, x) of a body. The public lists hold no images, so it is assumed."""


@cache
def flare23() -> Fingerprint:
    """The five cohorts of the challenge; foreground -969 to 277 HU with median 90, as published."""
    scans, foreground_hu = FLARE23_SCANS, (-969, 90, 277)
    return data_set("FLARE23", ABDOMEN, FLARE23_COHORTS, scans, foreground_hu=foreground_hu, hu=(-1024, 1500))


def flare_mini() -> Fingerprint:
    """35 scans at 2 x 2 x 3 mm from sources that were cut at -125, -160 and -1000 HU on storage."""
    twelve = tuple(value for value in range(1, 14) if value != 12)
    parts = {twelve: 10, FIVE: 8, (1, 14): 4, (14,): 4, (): 9}
    floors = {twelve: (-125, 275), FIVE: (-125, 275), (1, 14): (-160, 240), (14,): (-160, 240), (): (-1000, 1000)}
    scans = ((7, 95, 179, 3.0, 2.0), (3, 60, 190, 5.0, 2.0))
    return data_set("FLAREmini", ABDOMEN, parts, scans, foreground_hu=(-125, 87, 253), hu=floors)


def kidneys() -> Fingerprint:
    """489 scans, each annotated for kidney, tumor and cyst, the last two as a group of their own."""
    labels = LabelSet(names=("background", "kidney", "tumor", "cyst"), groups={"organ": (1,), "lesion": (2, 3)})
    scans = ((3, 100, 512, 5.0, 0.78), (4, 190, 512, 3.0, 0.8), (3, 600, 512, 1.0, 0.78))
    return data_set("Kidneys", labels, {(1, 2, 3): 489}, scans, foreground_hu=(-60, 105, 300), hu=(-1024, 2000))


def prostate() -> Fingerprint:
    """MR without a unit: 60 scans with zones drawn, 90 with lesions only."""
    labels = LabelSet(
        names=("background", "peripheral zone", "transition zone", "lesion"),
        groups={"zone": (1, 2), "lesion": (3,)},
    )
    scans = ((6, 24, 384, 3.0, 0.5), (4, 20, 320, 3.6, 0.6))
    return data_set(
        "Prostate", labels, {(1, 2): 60, (3,): 90}, scans, foreground_hu=(90, 400, 1200), hu=(0, 2047), modality="MR"
    )


def spleen() -> Fingerprint:
    """One label in 41 scans."""
    labels = LabelSet(names=("background", "spleen"), groups={"organ": (1,)})
    scans = ((5, 80, 512, 5.0, 0.79), (5, 120, 512, 2.5, 0.79))
    return data_set("Spleen", labels, {(1,): 41}, scans, foreground_hu=(-30, 100, 180), hu=(-1024, 3000))


def data_set(
    name: str,
    labels: LabelSet,
    cohorts: dict[tuple[int, ...], int],
    scans: Sequence[Geometry],
    *,
    foreground_hu: tuple[int, int, int],
    hu: tuple[int, int] | dict[tuple[int, ...], tuple[int, int]],
    modality: str = "CT",
) -> Fingerprint:
    """A Fingerprint of such a set. The cohorts share the scans in turn.

    foreground_hu  0.5 percentile, median, 99.5 percentile     hu  lowest and highest value, of all or by cohort
    """
    counts = np.zeros(BINS, dtype=np.int64)
    counts[np.array(foreground_hu) - LOWEST_HU] = 10, 980, 10
    histogram, cases, rows = pack_histogram(counts), [], cycle(_spread_out(scans))
    for pattern, number in cohorts.items():
        low, high = hu[pattern] if isinstance(hu, dict) else hu
        for index, row in zip(range(number), rows):
            cases.append(_case(f"{pattern}_{index:04d}", pattern, row, hu=(low, high), histogram=histogram))
    return summarise(name, labels, cases, modality=modality)


def _spread_out(scans: Sequence[Geometry]) -> list[Geometry]:
    """Each row as often as its share, so mixed that any run of them holds about the same shares."""
    places = [((turn + 0.5) / row[0], row) for row in scans for turn in range(row[0])]
    return [row for _, row in sorted(places)]


def _case(
    name: str, pattern: tuple[int, ...], row: Geometry, *, hu: tuple[int, int], histogram: str
) -> CaseFingerprint:
    _, slices, pixels, z_mm, pixel_mm = row
    y, x = (min(pixels, round(mm / pixel_mm)) for mm in BODY_MM)
    return CaseFingerprint(
        name=name,
        shape=(slices, pixels, pixels),
        spacing_mm=(z_mm, pixel_mm, pixel_mm),
        body_shape=(slices, y, x),
        min_hu=float(hu[0]),
        max_hu=float(hu[1]),
        annotated=pattern,
        voxels={value: 1000 for value in pattern},
        histogram_of="foreground" if pattern else "body",
        histogram=histogram,
        image_sha256=name,
        key=name,
    )
