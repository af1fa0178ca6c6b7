"""Every number of a configuration, by a small rule: from a fingerprint to (value, the reason in a sentence).

Two recipes. `paper` pins what the paper states; `auto` derives each number from the data.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import unknown
from .fingerprint import Fingerprint
from .plan import Configuration

SOFT_TISSUE_HU = (-160.0, 240.0)
"""The usual abdominal reading window (width 400, level 40): a clip window is never narrower by choice."""

WIDEST_HU = (-325.0, 325.0)
"""Beyond it lie gas, bone and metal, which tell no abdominal organ from another; a wider window only dims them."""

STORAGE_FLOOR_HU = -500.0
"""CT reaches -1000 HU outside the patient; a lowest value above this means that values were cut on storage."""

NARROWEST_HU = 100.0
"""A common window narrower than this would hide the organs themselves, so it is not used."""

FINEST_2D_MM = 0.75
LARGEST_2D_PATCH = 224
MULTIPLE_2D = 32
SLICE_STEP_MM = 2.5
NEIGHBOURS_2D = 1

VOXELS_3D = 128**3
MULTIPLE_3D = 16
SHORTEST_3D = 32
"""Four halvings leave two voxels of it: the fewest that a norm over them can work with."""

Window = tuple[float, float]
Spacing = tuple[float | None, float, float]

PAPER = {
    "2d": Configuration(
        spacing_mm=(None, 1.0, 1.0),
        inference_spacing_mm=(2.5, 1.0, 1.0),
        patch=(224, 224),
        clip_hu=(-200.0, 300.0),
        why={
            "spacing_mm": "the paper trains on 1 x 1 mm pixels and leaves the slices as they are",
            "inference_spacing_mm": "the paper predicts at 2.5 mm between slices, so that thin slices do not cost time",
            "patch": "the paper's crop of 224 x 224",
            "clip_hu": "the paper's window",
        },
    ),
    "3d": Configuration(
        spacing_mm=(1.0, 1.0, 1.0),
        inference_spacing_mm=(1.0, 1.0, 1.0),
        patch=(128, 128, 128),
        clip_hu=(-200.0, 300.0),
        why={
            "spacing_mm": "the paper resamples to 1 mm cubes",
            "inference_spacing_mm": "as in training",
            "patch": "the paper's crop of 128 x 128 x 128",
            "clip_hu": "the paper's window",
        },
    ),
}


def configurations(fingerprint: Fingerprint, recipe: str = "auto") -> dict[str, Configuration]:
    """The configurations "3d" and "2d" of a recipe, "paper" or "auto". Raises UsageError for another name."""
    recipes = {"paper": lambda _: {name: PAPER[name] for name in ("3d", "2d")}, "auto": _derived}
    if recipe not in recipes:
        raise unknown("recipe", recipe, recipes)
    return recipes[recipe](fingerprint)


def clip_window(fingerprint: Fingerprint) -> tuple[Window, str]:
    """The HU window that images are clipped to, in steps of 5 HU.

    From the 0.5 and 99.5 percentile of the foreground, at least SOFT_TISSUE_HU and at most WIDEST_HU, then narrowed
    to what every source of the set has kept.
    """
    low, high = fingerprint.intensities.percentile_00_5_hu, fingerprint.intensities.percentile_99_5_hu
    lower = max(WIDEST_HU[0], min(low, SOFT_TISSUE_HU[0]))
    upper = min(WIDEST_HU[1], max(high, SOFT_TISSUE_HU[1]))
    why = f"{fingerprint.intensities.source} lies between {low:g} and {high:g} HU (0.5 and 99.5 percentile)"
    (floor, ceiling), cut = kept_by_all(fingerprint)
    narrow = 5.0 * math.ceil(max(lower, floor) / 5), 5.0 * math.floor(min(upper, ceiling) / 5)
    if narrow[1] - narrow[0] < NARROWEST_HU:
        return _in_fives(lower, upper), why + f"; the sources share no window of {NARROWEST_HU:g} HU, so none is forced"
    return narrow, why + (f"; {cut}" if (floor > lower or ceiling < upper) else "")


def kept_by_all(fingerprint: Fingerprint) -> tuple[Window, str]:
    """The window that no source of the set was cut inside of on storage; infinite on a side that was not cut.

    The 95th percentile over cases of the lowest value, and the 5th of the highest: one odd case moves neither.
    """
    lowest = float(np.percentile([case.min_hu for case in fingerprint.cases], 95, method="nearest"))
    highest = float(np.percentile([case.max_hu for case in fingerprint.cases], 5, method="nearest"))
    floor = lowest if lowest > STORAGE_FLOOR_HU else -math.inf
    why = (
        f"some sources were cut at {lowest:g} or {highest:g} HU on storage, and a different floor or ceiling betrays "
        "the source, so all are clipped to what every source kept"
    )
    return (floor, highest), why


def spacing_2d(fingerprint: Fingerprint) -> tuple[Spacing, str]:
    """(None, s, s): pixels of one size in plane, slices as the scan has them."""
    median = float(np.median(fingerprint.spacing_mm.median[1:]))
    pixel = round(max(median, FINEST_2D_MM), 2)
    return (None, pixel, pixel), (
        f"pixels are {median:.2f} mm in the median case, and no finer than {FINEST_2D_MM} mm; "
        "slices stay as they are, because a slice-wise network never looks across them"
    )


def inference_spacing_2d(fingerprint: Fingerprint) -> tuple[Spacing, str]:
    """Pixels as in training; slices no closer than SLICE_STEP_MM."""
    pixel = spacing_2d(fingerprint)[0][1]
    return (SLICE_STEP_MM, pixel, pixel), (
        f"pixels as in training; slices closer than {SLICE_STEP_MM} mm are thinned, because each costs time"
    )


def patch_2d(fingerprint: Fingerprint) -> tuple[tuple[int, int], str]:
    """(y, x): the median body, in whole multiples of MULTIPLE_2D, at most LARGEST_2D_PATCH."""
    pixel = spacing_2d(fingerprint)[0][1]
    body = fingerprint.body_mm.median[1:]
    y, x = (min(LARGEST_2D_PATCH, _up(mm / pixel, MULTIPLE_2D)) for mm in body)
    return (y, x), (
        f"the median body is {body[0]:.0f} x {body[1]:.0f} mm, which is {body[0] / pixel:.0f} x {body[1] / pixel:.0f} "
        f"pixels; rounded up to multiples of {MULTIPLE_2D}, at most {LARGEST_2D_PATCH}"
    )


def spacing_3d(fingerprint: Fingerprint) -> tuple[tuple[float, float, float], str]:
    """(z, s, s): the median slice distance, and pixels no finer than half of it."""
    z, *plane = fingerprint.spacing_mm.median
    pixel = round(max(float(np.median(plane)), 0.5 * z), 1)
    step = round(z, 2)
    return (step, pixel, pixel), (
        f"slices are {z:.2f} mm apart in the median case; pixels ({np.median(plane):.2f} mm) no finer than half of "
        "that, so that a voxel is near a cube and a patch sees far enough"
    )


def patch_3d(fingerprint: Fingerprint) -> tuple[tuple[int, int, int], str]:
    """(z, y, x): near a cube in mm of at most VOXELS_3D voxels, no longer than the median body.

    In multiples of MULTIPLE_3D, none below SHORTEST_3D.
    """
    spacing = spacing_3d(fingerprint)[0]
    side_mm = (VOXELS_3D * math.prod(spacing)) ** (1 / 3)
    body = fingerprint.body_mm.median
    z, y, x = (
        max(SHORTEST_3D, min(_down(side_mm / mm, MULTIPLE_3D), _up(extent / mm, MULTIPLE_3D)))
        for mm, extent in zip(spacing, body)
    )
    return (z, y, x), (
        f"a cube of {side_mm:.0f} mm fills the {VOXELS_3D} voxels that one patch may have; no axis longer than the "
        f"median body of {' x '.join(f'{mm:.0f}' for mm in body)} mm; multiples of {MULTIPLE_3D} for four halvings"
    )


def _derived(fingerprint: Fingerprint) -> dict[str, Configuration]:
    window = clip_window(fingerprint)
    same_3d = spacing_3d(fingerprint)[0], "as in training"
    return {
        "3d": _configuration(
            clip_hu=window,
            spacing_mm=spacing_3d(fingerprint),
            inference_spacing_mm=same_3d,
            patch=patch_3d(fingerprint),
        ),
        "2d": _configuration(
            clip_hu=window,
            spacing_mm=spacing_2d(fingerprint),
            inference_spacing_mm=inference_spacing_2d(fingerprint),
            patch=patch_2d(fingerprint),
            neighbours=(NEIGHBOURS_2D, "one slice on either side tells a vessel from a fold, at no cost in time"),
        ),
    }


def _configuration(**numbers) -> Configuration:
    values = {field: value for field, (value, _) in numbers.items()}
    return Configuration(**values, why={field: why for field, (_, why) in numbers.items()})


def _up(size: float, multiple: int) -> int:
    # a hair above a whole multiple (rounding of mm / mm) is that multiple
    return max(1, math.ceil(size / multiple - 1e-6)) * multiple


def _down(size: float, multiple: int) -> int:
    return max(1, math.floor(size / multiple + 1e-6)) * multiple


def _in_fives(lower: float, upper: float) -> Window:
    return 5.0 * math.floor(lower / 5), 5.0 * math.ceil(upper / 5)
