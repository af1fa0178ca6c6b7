"""How intensities are normalised and clipped: each rule gives (value, the reason) for a fingerprint."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ...errors import some_of
from ..measuring.fingerprint import Fingerprint

Window = tuple[float, float]

SOFT_TISSUE_HU = (-160.0, 240.0)
"""The usual window for reading the abdomen (width 400, level 40). A clip window is narrower only where it has to be."""

WIDEST_HU = (-325.0, 325.0)
"""The widest clip window, unless labels lie beyond it, as lung and bone do. Beyond it lie gas, bone and metal, which
tell no abdominal organ from another; a wider window would only reduce the contrast of organs."""

STORAGE_FLOOR_HU = -500.0
"""CT reaches -1000 HU outside the patient. A lowest value above this means that values were cut on storage."""

NARROWEST_HU = 100.0
"""The narrowest window that is used for what all sources kept: a narrower one would hide the organs themselves."""


def normalisation(fingerprint: Fingerprint) -> tuple[Literal["window", "percentile"], str]:
    """CT, whose values mean the same in every scan, is scaled by "window", anything else by "percentile"."""
    if fingerprint.modality == "CT":
        return "window", "CT is in HU, so one window serves every scan; it is scaled to [0, 1]"
    return "percentile", (
        f"{fingerprint.modality} has no unit: each image is clipped to its own 0.5 and 99.5 percentile, then scaled "
        "to [0, 1]"
    )


def clip_window(fingerprint: Fingerprint) -> tuple[Window, str]:
    """The HU window that images are clipped to, in steps of 5 HU.

    It reaches from the 0.5 to the 99.5 percentile of the foreground, but is at least SOFT_TISSUE_HU and at most
    WIDEST_HU, and is then narrowed to what every source of the set has kept, unless that leaves less than NARROWEST_HU.
    Where labels have their mean beyond WIDEST_HU, that end reaches to the percentile of the foreground, and at least to
    the 5 or 95 percentile of these labels: what is clipped to one value cannot be told apart.
    """
    low, high = fingerprint.intensities.percentile_00_5_hu, fingerprint.intensities.percentile_99_5_hu
    names = fingerprint.labels.names
    drawn = [(names[value], label) for cohort in fingerprint.cohorts for value, label in cohort.labels.items()]
    dark = [(name, label.percentile_05_hu) for name, label in drawn if label.mean_hu < WIDEST_HU[0]]
    bright = [(name, label.percentile_95_hu) for name, label in drawn if label.mean_hu > WIDEST_HU[1]]
    lower = max(min(low, SOFT_TISSUE_HU[0]), WIDEST_HU[0]) if not dark else min(low, *(hu for _, hu in dark))
    upper = min(max(high, SOFT_TISSUE_HU[1]), WIDEST_HU[1]) if not bright else max(high, *(hu for _, hu in bright))
    why = f"{fingerprint.intensities.source} lies between {low:g} and {high:g} HU (0.5 and 99.5 percentile)"
    if dark or bright:
        beyond = list(dict.fromkeys(name for name, _ in (*dark, *bright)))
        why += f"; {some_of(beyond)} mostly beyond {WIDEST_HU[0]:g} to {WIDEST_HU[1]:g} HU, else the widest window"
    (floor, ceiling), cut = kept_by_all(fingerprint)
    narrow = 5.0 * math.ceil(max(lower, floor) / 5), 5.0 * math.floor(min(upper, ceiling) / 5)
    if narrow[1] - narrow[0] < NARROWEST_HU:
        return _in_fives(lower, upper), why + f"; the sources share no window of {NARROWEST_HU:g} HU, so none is forced"
    return narrow, why + (f"; {cut}" if (floor > lower or ceiling < upper) else "")


def kept_by_all(fingerprint: Fingerprint) -> tuple[Window, str]:
    """(window, reason): the window that every source of the set has kept on storage. Its floor is -infinity where
    sources were not cut below.

    It reaches from the 95th percentile, over the cases, of the lowest value to the 5th percentile of the highest. Where
    there are several cases, a value that only a single one has is ignored, so that one odd case changes nothing.
    """
    lows, highs = (sorted(hu) for hu in zip(*((case.min_hu, case.max_hu) for case in fingerprint.cases)))
    lowest = min(float(np.percentile(lows, 95, method="nearest")), lows[-2:][0])
    highest = max(float(np.percentile(highs, 5, method="nearest")), highs[:2][-1])
    floor = lowest if lowest > STORAGE_FLOOR_HU else -math.inf
    why = (
        f"some sources were cut at {lowest:g} or {highest:g} HU on storage, and a different floor or ceiling betrays "
        "the source, so all are clipped to what every source kept"
    )
    return (floor, highest), why


def _in_fives(lower: float, upper: float) -> Window:
    return 5.0 * math.floor(lower / 5), 5.0 * math.ceil(upper / 5)
