"""The rules for the numbers of a configuration: each gives (value, the reason in a sentence) for a fingerprint.

There are two recipes: `paper` takes what the paper states, `auto` derives each number from the data and the budget.
docs/planning.md has the rules in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from ...errors import UsageError
from ..budget import Budget, Request
from ..cost.memory import GB, PREPARED_BYTES, prediction_gb, scans_of, training_gb
from ..cost.speed import prediction_seconds
from ..measuring.fingerprint import Fingerprint
from ..plan import Configuration, NetworkSpec
from .intensities import clip_window, normalisation
from .paper import PAPER_CONFIGURATIONS
from .presets import FEWEST_SAMPLES, network, network_3d

FINEST_SHARE = 0.5
"""In 3D no axis is finer than this share of the coarsest. No scanner has pixels that are less square: where pixels seem
to be, they cut across the slices."""

THINNEST, MOST_COARSENED = 64, 4
"""How far a 3D configuration is reduced where prediction takes too much memory: first the patch gets thinner, down to
64 voxels, half of the paper's, then the spacing up to 4 times coarser. Beyond that a person has to decide."""

LARGEST_2D_PATCH = 512
MULTIPLE_2D = 32
NEIGHBOURS_2D = 1

LARGEST_3D_EDGE = {"s": 128, "m": 160, "l": 192}
"""The longest edge of a cubic patch, by size: the paper's, and what cards of 24 GB and more hold of larger networks."""

SEARCH_2D = ((0.5, 2.5), (0.25, 2.5), (0.1, 2.5), (0.1, 3.0), (0.1, 4.0), (0.1, 5.0))
OVERLAPS_3D = (0.5, 0.25, 0.1)
"""The choices for prediction, from the best to the fastest: (overlap, least distance of slices in mm) in 2D, overlap in
3D."""

WIDEST_STEP_PIXELS = 8
"""Slices are resampled to steps of at most so many pixels, as in CT with thick slices: 5 mm, with pixels of 0.7 mm.
SEARCH_2D is made for bodies; it would leave a specimen with voxels of 0.05 mm without slices."""

Spacing = tuple[float | None, float, float]


@dataclass(frozen=True)
class Outline:
    """What every trainer's part of a plan starts from."""

    request: Request
    configurations: dict[str, Configuration]


@dataclass(frozen=True)
class _Edges:
    """What edges a 3D patch may have, in voxels.

    longest   the edge of a cube with as many voxels as the largest patch
    multiple  edges are multiples of this
    shortest  the shortest edge
    """

    longest: int
    multiple: int
    shortest: int


TRANSFORMER_EDGES = _Edges(longest=96, multiple=32, shortest=64)
"""The edges for transformers: 96 in their papers and in their pre-training (the paper's reference [3]). Swin UNETR
halves five times, and its norms need two voxels after that."""


def make_outline(fingerprint: Fingerprint, request: Request) -> Outline:
    """The configurations "3d" and "2d". Raises UsageError for recipe "paper" with another size than the paper's."""
    if request.recipe == "auto":
        return Outline(request, _derived(fingerprint, request))
    if request.budget.size != "s":
        size = request.budget.size
        raise UsageError(f"--size {size}", found="recipe 'paper'", expected="s, the paper's own network")
    return Outline(request, _paper(fingerprint, request.budget))


def _paper(fingerprint: Fingerprint, budget: Budget) -> dict[str, Configuration]:
    """The paper's numbers, except for its window where images have no HU."""
    deep, edge = PAPER_CONFIGURATIONS["3d"], TRANSFORMER_EDGES.longest
    if budget.network != "unet":
        why = "96 x 96 x 96, as its reference [3] has it for pre-training: an encoder knows the places of one size only"
        deep = _explained(deep.model_copy(update={"patch": (edge,) * 3}), patch=why)
    made = {"3d": deep, "2d": PAPER_CONFIGURATIONS["2d"]}
    kind, why = normalisation(fingerprint)
    if kind == "window":
        return made
    reasons = {"normalisation": f"not the paper's window, which is in HU: {why}", "clip_hu": "each image has its own"}
    own = {"normalisation": kind, "clip_hu": None}
    return {name: _explained(part.model_copy(update=own), **reasons) for name, part in made.items()}


def spacing_2d(fingerprint: Fingerprint, budget: Budget) -> tuple[Spacing, str]:
    """(None, s, s): square pixels in the plane, slices as the scan has them."""
    median = float(np.median(fingerprint.spacing_mm.median[1:]))
    widest = max(fingerprint.body_mm.median[1:])
    pixel = _in_hundredths(max(median, widest / LARGEST_2D_PATCH))
    why = (
        f"pixels are {median:.2f} mm in the median case, and no finer than a body of {widest:.0f} mm in "
        f"{LARGEST_2D_PATCH} pixels; slices stay as they are, because a slice-wise network labels one at a time"
    )
    return _held((None, pixel, pixel), fingerprint, budget, why)


def patch_2d(fingerprint: Fingerprint, budget: Budget, spacing_mm: Spacing) -> tuple[tuple[int, int], str]:
    """(y, x): the size of the median body, rounded up to multiples of MULTIPLE_2D, but at most LARGEST_2D_PATCH and
    what the card holds. `spacing_mm` is that of its pixels."""
    pixel = spacing_mm[1]
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
        why += f", but at most {limit}; the card holds {FEWEST_SAMPLES[2]} or more of that size"
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
    why += ", so that voxels are nearly cubic and a patch sees far enough"
    return _held((z, y, x), fingerprint, budget, why)


def cut_across(fingerprint: Fingerprint) -> Literal["sagittal", "coronal"] | None:
    """The plane of the median scan's slices where it is not axial: the axial slices that a 2D network sees then cut
    across them. None where it is axial."""
    z, y, x = fingerprint.spacing_mm.median
    if max(y, x) <= z or min(y, x) >= FINEST_SHARE * max(y, x):
        return None
    return "sagittal" if x > y else "coronal"


def patch_3d(fingerprint: Fingerprint, budget: Budget, spacing_mm: Spacing) -> tuple[tuple[int, int, int], str]:
    """(z, y, x): near a cube in mm, no longer than the median body, and as large as the card can hold two of.
    `spacing_mm` is that of its voxels. The shortest edge leaves four voxels at the fourth resolution of a U-Net."""
    spacing = cast(tuple[float, float, float], spacing_mm)
    body = fingerprint.body_mm.median
    edges = _edges(budget)
    edge = edges.longest
    while edge > edges.shortest and not _trains(_cuboid(edge, spacing, body, edges), fingerprint, budget):
        edge -= edges.multiple
    z, y, x = _cuboid(edge, spacing, body, edges)
    side_mm = edge * math.prod(spacing) ** (1 / 3)
    limit = "that one patch may have" if edge == edges.longest else "with which the card holds two patches"
    flat = min(_up(extent / mm, edges.multiple) for mm, extent in zip(spacing, body)) < edges.shortest
    return (z, y, x), (
        f"a cube of {side_mm:.0f} mm fills the {edge}^3 voxels {limit}; no axis longer than the "
        f"median body of {' x '.join(f'{mm:.0f}' for mm in body)} mm; multiples of {edges.multiple}, which halve evenly"
        + (f", but no fewer than {edges.shortest}, so that the coarsest resolution keeps enough" if flat else "")
    )


def _edges(budget: Budget) -> _Edges:
    if budget.network == "unet":
        return _Edges(longest=LARGEST_3D_EDGE[budget.size], multiple=16, shortest=32)
    return TRANSFORMER_EDGES


def _cuboid(edge: int, spacing: tuple[float, ...], body: tuple[float, ...], edges: _Edges) -> tuple[int, int, int]:
    side_mm = edge * math.prod(spacing) ** (1 / 3)
    z, y, x = (
        max(edges.shortest, min(_down(side_mm / mm, edges.multiple), _up(extent / mm, edges.multiple)))
        for mm, extent in zip(spacing, body)
    )
    return z, y, x


def _trains(patch: Sequence[int], fingerprint: Fingerprint, budget: Budget) -> bool:
    """Whether the card can train the network of all groups on the smallest batch of such patches."""
    outputs = fingerprint.labels.outputs
    spec = _network(budget, patch, tuple(outputs))
    need_gb = training_gb(spec, outputs, patch=tuple(patch), batch_size=FEWEST_SAMPLES[len(patch)], precision="auto")
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
    return _coarser(spacing, factor), (
        f"{why}; {factor:g} times coarser than that, because a scan of "
        f"{' x '.join(f'{mm:g}' for mm in scan.extent_mm)} mm would need {need_gb:.0f} GB, and a process may have "
        f"{budget.host_memory_gb:g} GB"
    )


def _coarser(spacing: Spacing, factor: float) -> Spacing:
    """`spacing` times `factor`, rounded up: what the factor makes fit has to fit after rounding."""

    def rounded(mm: float) -> float:
        unit = 1e3 if mm >= 0.1 else 1e6
        return math.ceil(mm * factor * unit - 1e-6) / unit  # a hair above a whole number is that number

    return cast(Spacing, tuple(None if mm is None else rounded(mm) for mm in spacing))


def _derived(fingerprint: Fingerprint, request: Request) -> dict[str, Configuration]:
    budget, (kind, why) = request.budget, normalisation(fingerprint)
    common = {
        "normalisation": (kind, why),
        "interpolation": ("linear", "as in the paper; a cubic spline costs more, and gains little across thick slices"),
        "clip_hu": clip_window(fingerprint) if kind == "window" else (None, "each image has its own"),
    }
    voxel, pixel = spacing_3d(fingerprint, budget), spacing_2d(fingerprint, budget)
    deep = _configuration(
        **common,
        spacing_mm=voxel,
        inference_spacing_mm=(voxel[0], "as in training"),
        patch=patch_3d(fingerprint, budget, voxel[0]),
    )
    flat = _configuration(
        **common,
        spacing_mm=pixel,
        inference_spacing_mm=(pixel[0], "as in training"),
        patch=patch_2d(fingerprint, budget, pixel[0]),
        neighbours=(NEIGHBOURS_2D, "one slice on either side tells a vessel from a fold, at no cost in time"),
    )
    deep = _answered_3d(deep, fingerprint, budget, answer_gb=_answer_gb(fingerprint, request))
    return {"3d": _timed_3d(deep, fingerprint, budget), "2d": _timed_2d(flat, fingerprint, budget)}


def _answer_gb(fingerprint: Fingerprint, request: Request) -> float:
    """The memory that a 3D model may need for a large scan. In a set of one group and one pattern its prediction is the
    result: that of a process that predicts. Else it is a teacher: that of the training machine. See fits.check_fits."""
    budget, seen = request.budget, [pattern for pattern in fingerprint.patterns if pattern or not request.without]
    if len(fingerprint.labels.groups) == 1 and len(seen) == 1:
        return budget.inference_memory_gb
    return max(budget.host_memory_gb, budget.gpu_memory_gb)


def _answered_3d(
    configuration: Configuration, fingerprint: Fingerprint, budget: Budget, *, answer_gb: float
) -> Configuration:
    """`configuration`, reduced (see _smaller_3d) until the prediction of a large scan needs at most `answer_gb`;
    unchanged where no reduction is enough: then the plan is refused with the memory it needs."""
    names, large = tuple(fingerprint.labels.groups), scans_of(fingerprint)["large"]
    models = [groups for groups in (names[:1], names[1:]) if groups]

    def need_gb(made: Configuration) -> float:
        specs = [_network(budget, made.patch, groups) for groups in models]
        return max(prediction_gb(large, made, spec, fingerprint.labels.outputs) for spec in specs)

    whole_gb = need_gb(configuration)
    if whole_gb <= answer_gb:
        return configuration
    because = (
        f"because to predict a large scan of {' x '.join(f'{mm:g}' for mm in large.extent_mm)} mm would need "
        f"{whole_gb:.1f} GB otherwise, and {answer_gb:g} GB are allowed"
    )
    smaller = _smaller_3d(configuration, fingerprint, budget, because=because)
    return next((made for made in smaller if need_gb(made) <= answer_gb), configuration)


def _smaller_3d(
    configuration: Configuration, fingerprint: Fingerprint, budget: Budget, *, because: str
) -> Iterator[Configuration]:
    """`configuration` in versions that take less and less memory. First the patch gets thinner along z, because as many
    slices of logits are held as it is thick. Then the spacing gets coarser, in training too: a network would not know
    an organ that has fewer voxels than in training."""
    for hundredths in range(100, 100 * MOST_COARSENED + 1, 5):
        spacing, factor, whys = configuration.spacing_mm, hundredths / 100, dict[str, str]()
        if factor > 1:
            spacing = _coarser(spacing, factor)
            whys["spacing_mm"] = f"{configuration.why['spacing_mm']}; {factor:g} times coarser than that, {because}"
        (z, y, x), why = patch_3d(fingerprint, budget, spacing)
        for slices in range(z, min(z, THINNEST) - 1, -_edges(budget).multiple):
            whys["patch"] = why + (f"; at most {slices} voxels along z, {because}" if slices < z else "")
            numbers = {"spacing_mm": spacing, "inference_spacing_mm": spacing, "patch": (slices, y, x)}
            yield _explained(configuration.model_copy(update=numbers), **whys)


def _timed_2d(configuration: Configuration, fingerprint: Fingerprint, budget: Budget) -> Configuration:
    """`configuration` with the overlap and the slice distance of prediction: the best of SEARCH_2D within the budget.

    Slices of the median scan become fewer only where there is no time for all of them, and half as many first.
    """
    pixel, own_mm = configuration.spacing_mm[1], fingerprint.spacing_mm.median[0]
    steps_mm = [_in_hundredths(min(step_mm, WIDEST_STEP_PIXELS * pixel)) for _, step_mm in SEARCH_2D]
    (best, _), first_mm = SEARCH_2D[0], steps_mm[0]
    choices: list[tuple[float, float | None]] = [(overlap, mm) for (overlap, _), mm in zip(SEARCH_2D, steps_mm)]
    if own_mm < first_mm:
        choices = [(best, None), (best, min(first_mm, _in_hundredths(2 * own_mm))), *choices]
    for overlap, step_mm in choices:
        made = configuration.model_copy(update={"overlap": overlap, "inference_spacing_mm": (step_mm, pixel, pixel)})
        seconds = _seconds(made, fingerprint, budget)
        if seconds <= budget.inference_seconds:
            break
    return _explained(
        made,
        overlap=_time_why(overlap, seconds, budget),
        inference_spacing_mm=_slices_why(step_mm, first_mm, own_mm),
    )


def _slices_why(step_mm: float | None, first_mm: float, own_mm: float) -> str:
    if step_mm is None:
        apart = f"slices are {_in_hundredths(own_mm):g} mm apart in the median case"
        return f"as in training: {apart}, and there is time for all of them"
    why = f"pixels as in training; slices closer than {step_mm:g} mm are resampled to that, because each costs time"
    return why + (", and they differ little" if step_mm <= first_mm else " beyond the budget")


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
    return prediction_seconds([scans_of(fingerprint)["median"]], configuration, spec, outputs)


def _explained(configuration: Configuration, **why: str) -> Configuration:
    return configuration.model_copy(update={"why": {**configuration.why, **why}})


def _configuration(**numbers) -> Configuration:
    values = {field: value for field, (value, _) in numbers.items()}
    return Configuration(**values, why={field: why for field, (_, why) in numbers.items()})


def _in_hundredths(mm: float) -> float:
    """`mm` rounded to two decimals for people to read, or to four below 0.1 mm."""
    return round(mm, 2 if mm >= 0.1 else 4)


def _up(size: float, multiple: int) -> int:
    # a hair above a whole multiple (rounding of mm / mm) is that multiple
    return max(1, math.ceil(size / multiple - 1e-6)) * multiple


def _down(size: float, multiple: int) -> int:
    return max(1, math.floor(size / multiple + 1e-6)) * multiple
