"""Every number of a configuration, by a small rule: from a fingerprint to (value, the reason in a sentence).

Two recipes. `paper` pins what the paper states; `auto` derives each number from the data and the budget. The rules in
words: docs/planning.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from ..errors import UsageError, unknown
from .budget import Budget
from .fingerprint import Fingerprint
from .memory import GB, PREPARED_BYTES, scans_of, training_gb
from .plan import Configuration, NetworkSpec
from .presets import FEWEST_SAMPLES, network, network_3d
from .speed import prediction_seconds

SOFT_TISSUE_HU = (-160.0, 240.0)
"""The usual abdominal reading window (width 400, level 40): a clip window is never narrower by choice."""

WIDEST_HU = (-325.0, 325.0)
"""Beyond it lie gas, bone and metal, which tell no abdominal organ from another; a wider window only dims them."""

STORAGE_FLOOR_HU = -500.0
"""CT reaches -1000 HU outside the patient; a lowest value above this means that values were cut on storage."""

NARROWEST_HU = 100.0
"""A common window narrower than this would hide the organs themselves, so it is not used."""

FINEST_SHARE = 0.5
"""Of the coarsest axis: in 3D no axis is finer. Pixels less square than that are no scanner's but lie across slices."""

LARGEST_2D_PATCH = 512
MULTIPLE_2D = 32
SLICE_STEP_MM = 2.5
NEIGHBOURS_2D = 1

LARGEST_3D_EDGE = {"s": 128, "m": 160, "l": 192}
"""Of a cubic patch: the paper's, and what cards of 24 GB and more hold of the larger networks."""

SEARCH_2D = ((0.5, 2.5), (0.25, 2.5), (0.1, 2.5), (0.1, 3.0), (0.1, 4.0), (0.1, 5.0))
OVERLAPS_3D = (0.5, 0.25, 0.1)
"""From the best to the fastest: (overlap, least distance of slices in mm) in 2D, overlap in 3D."""

Window = tuple[float, float]
Spacing = tuple[float | None, float, float]


@dataclass(frozen=True)
class Outline:
    """What every trainer's part of a plan starts from.

    unlabelled  whether the 2D curriculum uses unlabelled cases
    """

    recipe: Literal["auto", "paper"]
    budget: Budget
    configurations: dict[str, Configuration]
    unlabelled: bool = True


@dataclass(frozen=True)
class _Edges:
    """Of a 3D patch, in voxels: of a cube that fills it, what edges are multiples of, and the shortest."""

    longest: int
    multiple: int
    shortest: int


TRANSFORMER_EDGES = _Edges(longest=96, multiple=32, shortest=64)
"""96 in the transformers' papers and in their pre-training (the paper's reference [3]); Swin UNETR halves five times,
and its norms need two voxels after that."""

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
            "normalisation": "the paper clips to a window and scales to [0, 1]",
            "clip_hu": "the paper's window",
            "neighbours": "the paper's network sees one slice",
            "interpolation": "the paper's, for images",
            "overlap": "not stated; MONAI's default of a quarter",
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
            "normalisation": "the paper clips to a window and scales to [0, 1]",
            "clip_hu": "the paper's window",
            "interpolation": "the paper's, for images",
            "overlap": "not stated; MONAI's default of a quarter",
        },
    ),
}


def make_outline(fingerprint: Fingerprint, recipe: str, budget: Budget, *, unlabelled: bool = True) -> Outline:
    """The configurations "3d" and "2d" of a recipe, "paper" or "auto".

    Raises UsageError for another name, and for recipe "paper" with another size than the paper's.
    """
    if recipe not in ("auto", "paper"):
        raise unknown("recipe", recipe, ("auto", "paper"))
    if recipe == "paper" and budget.size != "s":
        raise UsageError(f"--size {budget.size}", found="recipe 'paper'", expected="s, the paper's own network")
    made = _derived(fingerprint, budget) if recipe == "auto" else _paper(budget)
    return Outline(cast(Literal["auto", "paper"], recipe), budget, made, unlabelled)


def _paper(budget: Budget) -> dict[str, Configuration]:
    deep, edge = PAPER["3d"], TRANSFORMER_EDGES.longest
    if budget.network != "unet":
        why = "96 x 96 x 96, as its reference [3] has it for pre-training: an encoder knows the places of one size only"
        deep = _explained(deep.model_copy(update={"patch": (edge,) * 3}), patch=why)
    return {"3d": deep, "2d": PAPER["2d"]}


def normalisation(fingerprint: Fingerprint) -> tuple[Literal["window", "percentile"], str]:
    """"window" for CT, whose values mean the same in every scan; "percentile" for anything else."""
    if fingerprint.modality == "CT":
        return "window", "CT is in HU, so one window serves every scan; it is scaled to [0, 1]"
    return "percentile", (
        f"{fingerprint.modality} has no unit: each image is clipped to its own 0.5 and 99.5 percentile, then scaled "
        "to [0, 1]"
    )


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


def spacing_2d(fingerprint: Fingerprint, budget: Budget) -> tuple[Spacing, str]:
    """(None, s, s): pixels of one size in plane, slices as the scan has them."""
    median = float(np.median(fingerprint.spacing_mm.median[1:]))
    widest = max(fingerprint.body_mm.median[1:])
    pixel = _in_hundredths(max(median, widest / LARGEST_2D_PATCH))
    why = (
        f"pixels are {median:.2f} mm in the median case, and no finer than a body of {widest:.0f} mm in "
        f"{LARGEST_2D_PATCH} pixels; slices stay as they are, because a slice-wise network never looks across them"
    )
    return _held((None, pixel, pixel), fingerprint, budget, why)


def patch_2d(fingerprint: Fingerprint, budget: Budget) -> tuple[tuple[int, int], str]:
    """(y, x): the median body, in whole multiples of MULTIPLE_2D, at most LARGEST_2D_PATCH and what the card holds."""
    pixel = spacing_2d(fingerprint, budget)[0][1]
    body = fingerprint.body_mm.median[1:]
    whole = [_up(mm / pixel, MULTIPLE_2D) for mm in body]
    limit = LARGEST_2D_PATCH
    while limit > MULTIPLE_2D and not _trains([min(limit, n) for n in whole], fingerprint, budget):
        limit -= MULTIPLE_2D
    y, x = (min(limit, n) for n in whole)
    why = (
        f"the median body is {body[0]:.0f} x {body[1]:.0f} mm, which is {body[0] / pixel:.0f} x {body[1] / pixel:.0f} "
        f"pixels; rounded up to multiples of {MULTIPLE_2D}, so that a slice is seen whole"
    )
    if max(whole) > limit:
        why += f", but at most {limit}, of which the card holds {FEWEST_SAMPLES[2]} or more"
    return (y, x), why


def spacing_3d(fingerprint: Fingerprint, budget: Budget) -> tuple[Spacing, str]:
    """(z, y, x): the median of each axis, none finer than half the coarsest, whichever that is."""
    median = fingerprint.spacing_mm.median
    z, y, x = (_in_hundredths(max(mm, FINEST_SHARE * max(median))) for mm in median)
    if median[0] == max(median):
        why = f"slices are {median[0]:.2f} mm apart in the median case; pixels ({np.median(median[1:]):.2f} mm) "
        why += "no finer than half of that"
    else:
        why = f"voxels are {' x '.join(f'{mm:.2f}' for mm in median)} mm (z, y, x) in the median case; no axis finer "
        why += "than half of the coarsest"
    why += ", so that a voxel is near a cube and a patch sees far enough"
    return _held((z, y, x), fingerprint, budget, why)


def cut_across(fingerprint: Fingerprint) -> Literal["sagittal", "coronal"] | None:
    """How the slices of the median scan lie where the axial ones, which a 2D network sees, are cut across them."""
    z, y, x = fingerprint.spacing_mm.median
    if max(y, x) <= z or min(y, x) >= FINEST_SHARE * max(y, x):
        return None
    return "sagittal" if x > y else "coronal"


def patch_3d(fingerprint: Fingerprint, budget: Budget) -> tuple[tuple[int, int, int], str]:
    """(z, y, x): near a cube in mm, no longer than the median body, as large as the card holds twice.

    A U-Net of four resolutions leaves four voxels of the shortest edge.
    """
    spacing, body = cast(tuple[float, float, float], spacing_3d(fingerprint, budget)[0]), fingerprint.body_mm.median
    edges = TRANSFORMER_EDGES
    if budget.network == "unet":
        edges = _Edges(longest=LARGEST_3D_EDGE[budget.size], multiple=16, shortest=32)
    edge = edges.longest
    while edge > edges.shortest and not _trains(_cuboid(edge, spacing, body, edges), fingerprint, budget):
        edge -= edges.multiple
    z, y, x = _cuboid(edge, spacing, body, edges)
    side_mm = edge * math.prod(spacing) ** (1 / 3)
    limit = "that one patch may have" if edge == edges.longest else "of which the card holds two"
    return (z, y, x), (
        f"a cube of {side_mm:.0f} mm fills the {edge}^3 voxels {limit}; no axis longer than the "
        f"median body of {' x '.join(f'{mm:.0f}' for mm in body)} mm; multiples of {edges.multiple}, which halve evenly"
    )


def _cuboid(
    edge: int, spacing: tuple[float, ...], body: tuple[float, ...], edges: _Edges
) -> tuple[int, int, int]:
    side_mm = edge * math.prod(spacing) ** (1 / 3)
    z, y, x = (
        max(edges.shortest, min(_down(side_mm / mm, edges.multiple), _up(extent / mm, edges.multiple)))
        for mm, extent in zip(spacing, body)
    )
    return z, y, x


def _trains(patch: Sequence[int], fingerprint: Fingerprint, budget: Budget) -> bool:
    """Whether the card holds the fewest samples that are worth a batch, with the network of all groups."""
    outputs = fingerprint.labels.outputs
    spec = _network(budget, patch, tuple(outputs))
    need_gb = training_gb(
        spec, outputs, patch=tuple(patch), batch_size=FEWEST_SAMPLES[len(patch)], precision="auto"
    )
    return need_gb <= budget.gpu_memory_gb


def _network(budget: Budget, patch: Sequence[int], groups: tuple[str, ...], channels: int = 1) -> NetworkSpec:
    if len(patch) == 3:
        return network_3d(budget, patch, groups)
    return network(budget.size, patch, groups, channels=channels)


def _held(spacing: Spacing, fingerprint: Fingerprint, budget: Budget, why: str) -> tuple[Spacing, str]:
    """`spacing`, coarsened evenly where a scan of the set would not fit in memory with it."""
    scan = max(scans_of(fingerprint).values(), key=lambda scan: scan.voxels_at(spacing))
    need_gb = PREPARED_BYTES * scan.voxels_at(spacing) / GB
    if need_gb <= budget.host_memory_gb:
        return spacing, why
    axes = sum(mm is not None for mm in spacing)
    factor = math.ceil(100 * (need_gb / budget.host_memory_gb) ** (1 / axes)) / 100
    coarser = cast(Spacing, tuple(None if mm is None else round(mm * factor, 3) for mm in spacing))
    return coarser, (
        f"{why}; {factor:g} times coarser than that, because a scan of "
        f"{' x '.join(f'{mm:g}' for mm in scan.extent_mm)} mm would need {need_gb:.0f} GB, and a process may have "
        f"{budget.host_memory_gb:g} GB"
    )


def _derived(fingerprint: Fingerprint, budget: Budget) -> dict[str, Configuration]:
    kind, why = normalisation(fingerprint)
    common = {
        "normalisation": (kind, why),
        "interpolation": ("linear", "as in the paper; a cubic spline costs more, and gains little across thick slices"),
        "clip_hu": clip_window(fingerprint) if kind == "window" else (None, "each image has its own"),
    }
    spacing = spacing_3d(fingerprint, budget)
    deep = _configuration(
        **common,
        spacing_mm=spacing,
        inference_spacing_mm=(spacing[0], "as in training"),
        patch=patch_3d(fingerprint, budget),
    )
    flat = _configuration(
        **common,
        spacing_mm=spacing_2d(fingerprint, budget),
        inference_spacing_mm=(spacing_2d(fingerprint, budget)[0], "as in training"),
        patch=patch_2d(fingerprint, budget),
        neighbours=(NEIGHBOURS_2D, "one slice on either side tells a vessel from a fold, at no cost in time"),
    )
    return {"3d": _timed_3d(deep, fingerprint, budget), "2d": _timed_2d(flat, fingerprint, budget)}


def _timed_2d(configuration: Configuration, fingerprint: Fingerprint, budget: Budget) -> Configuration:
    """With the overlap and the slice distance of prediction: the best of SEARCH_2D that keeps to the budget."""
    pixel = configuration.spacing_mm[1]
    for overlap, step_mm in SEARCH_2D:
        made = configuration.model_copy(
            update={"overlap": overlap, "inference_spacing_mm": (step_mm, pixel, pixel)}
        )
        seconds = _seconds(made, fingerprint, budget)
        if seconds <= budget.inference_seconds:
            break
    return _explained(
        made,
        overlap=_time_why(overlap, seconds, budget),
        inference_spacing_mm=f"pixels as in training; slices closer than {step_mm:g} mm are thinned, because each "
        + ("costs time, and they differ little" if step_mm == SLICE_STEP_MM else "costs time beyond the budget"),
    )


def _timed_3d(configuration: Configuration, fingerprint: Fingerprint, budget: Budget) -> Configuration:
    for overlap in OVERLAPS_3D:
        made = configuration.model_copy(update={"overlap": overlap})
        seconds = _seconds(made, fingerprint, budget)
        if seconds <= budget.inference_seconds:
            break
    return _explained(made, overlap=_time_why(overlap, seconds, budget))


def _time_why(overlap: float, seconds: float, budget: Budget) -> str:
    held = f"within the budget of {budget.inference_seconds:g} s"
    if seconds > budget.inference_seconds:
        held = f"above the budget of {budget.inference_seconds:g} s, and no choice is faster"
    return f"windows that overlap by {overlap:.0%} take about {seconds:.1f} s for a median scan on a card, {held}"


def _seconds(configuration: Configuration, fingerprint: Fingerprint, budget: Budget) -> float:
    outputs = fingerprint.labels.outputs
    spec = _network(budget, configuration.patch, tuple(outputs), channels=1 + 2 * configuration.neighbours)
    return prediction_seconds(scans_of(fingerprint)["median"], configuration, spec, outputs)


def _explained(configuration: Configuration, **why: str) -> Configuration:
    return configuration.model_copy(update={"why": {**configuration.why, **why}})


def _configuration(**numbers) -> Configuration:
    values = {field: value for field, (value, _) in numbers.items()}
    return Configuration(**values, why={field: why for field, (_, why) in numbers.items()})


def _in_hundredths(mm: float) -> float:
    """For people to read; below a tenth of a millimetre two digits would be too few."""
    return round(mm, 2 if mm >= 0.1 else 4)


def _up(size: float, multiple: int) -> int:
    # a hair above a whole multiple (rounding of mm / mm) is that multiple
    return max(1, math.ceil(size / multiple - 1e-6)) * multiple


def _down(size: float, multiple: int) -> int:
    return max(1, math.floor(size / multiple + 1e-6)) * multiple


def _in_fives(lower: float, upper: float) -> Window:
    return 5.0 * math.floor(lower / 5), 5.0 * math.ceil(upper / 5)
