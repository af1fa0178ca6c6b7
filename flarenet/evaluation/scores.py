"""Scores of cases: a truth and a prediction, both label maps, give DSC and NSD per label.

Two modes, one way through: *plain* scores what was annotated; *official* is the FLARE23 challenge's evaluation with
its quirks, each a field of Rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects

from ..data.cases import Pool, map_cases
from ..data.dataset import Dataset
from ..data.labels import LabelPattern, LabelSet
from ..data.nifti import case_name, find_images, read_labels
from ..errors import DatasetError, FlarenetError, GeometryError
from ..schema import Frozen
from ..volume import Grid, Volume
from .overlap import dice
from .surface import surface_dice, surface_distances


class Score(Frozen):
    """Dice coefficient and surface Dice, 0 to 1; None where nothing was scored."""

    dsc: float | None
    nsd: float | None


ZERO = Score(dsc=0.0, nsd=0.0)


@dataclass(frozen=True)
class Rules:
    """How masks become scores.

    mode           the name that tables carry
    every_label    score every label of the table in every case, annotated or not
    lowest_dsc     below it the NSD is not computed and counts as 0
    tubes          labels scored only on the truth's axial slices [zmin, zmax): half open, so that the truth's last
                   slice is dropped. An organ on a single slice would leave nothing, for which the challenge's code
                   has no value (0 / 0); it is scored on that slice
    digits         to which case scores, class means and group means are rounded; None: not at all
    """

    mode: str
    every_label: bool = False
    lowest_dsc: float = 0.0
    tubes: frozenset[str] = frozenset()
    digits: int | None = None

    def rounded(self, value: float) -> float:
        return float(value if self.digits is None else np.round(value, self.digits))

    def asked(self, annotated: Iterable[int] | None, labels: LabelSet) -> LabelPattern:
        """The values to score; all of the table where nobody knows what was annotated (None)."""
        return frozenset(labels.values if self.every_label or annotated is None else annotated)


PLAIN = Rules("plain")
OFFICIAL = Rules(
    "official",
    every_label=True,
    lowest_dsc=0.2,
    tubes=frozenset({"aorta", "inferior vena cava", "esophagus"}),
    digits=4,
)


@dataclass(frozen=True)
class Pair:
    """A truth, the prediction that should exist for it, and the values to score.

    values  value in the truth's file -> value of the table; empty where they are the same
    """

    name: str
    truth: Path
    prediction: Path
    asked: LabelPattern
    values: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseScores:
    """What one case got: `scores` by label name. `failure` says why a case could not be scored as it should:
    with a missing or broken prediction every label asked for counts as 0; without a readable truth there are
    no scores at all."""

    name: str
    scores: dict[str, Score]
    failure: str | None = None


def score_case(
    truth: Volume, prediction: Volume, *, labels: LabelSet, asked: Iterable[int], rules: Rules = PLAIN
) -> dict[str, Score]:
    """The score of each label value in `asked`, by label name.

    Both volumes are uint8 label maps [Z, Y, X] of one shape, in the order of their files. Raises GeometryError where
    the grids differ (by more than 0.1 mm at a corner).
    """
    _check_same_grid(truth.grid, prediction.grid)
    boxes = [find_objects(v.data, max_label=len(labels.names) - 1) for v in (truth, prediction)]
    spacing_mm = _stored_spacing_mm(truth.grid)
    scores = {}
    for value in sorted(asked):
        there = [box[value - 1] for box in boxes if box[value - 1] is not None]
        if len(there) == 2:
            both = _around(*there)
            masks = (truth.data[both] == value, prediction.data[both] == value)
            scores[labels.names[value]] = _score(*masks, spacing_mm, labels=labels, value=value, rules=rules)
        else:  # nobody drew it: all is well; one did: all is wrong
            scores[labels.names[value]] = ZERO if there else Score(dsc=1.0, nsd=1.0)
    return scores


def pair_up(
    truth: Path, prediction: Path, *, dataset: Dataset, rules: Rules = PLAIN
) -> tuple[list[Pair], list[str]]:
    """The pairs of two folders of CASE.nii.gz (or .nii), and notes on what does not fit.

    Every file of `truth` makes a pair. Raises DatasetError where `truth` holds no label map or either is no folder.
    """
    predicted = _label_maps(prediction)
    annotated = {case.name: case.annotated for case in (*dataset.cases, *dataset.test)}
    # a case's own label file may number labels otherwise than the table; whatever else is called like it does not
    values = {case.label.resolve(): case.values for case in (*dataset.cases, *dataset.test) if case.label is not None}
    pairs = [
        Pair(
            name,
            path,
            predicted.get(name, prediction / path.name),
            rules.asked(annotated.get(name), dataset.labels),
            values.get(path.resolve(), {}),
        )
        for name, path in _label_maps(truth).items()
    ]
    if not pairs:
        raise DatasetError(truth, found="no label map", expected="files CASE.nii.gz")
    notes = []
    names = {pair.name for pair in pairs}
    if unlisted := sorted(names - set(annotated)):
        notes.append(f"not in dataset.json, so scored on every label: {', '.join(unlisted)}")
    if silent := [pair.name for pair in pairs if not pair.asked]:
        notes.append(f"without annotations, so not scored: {', '.join(silent)}")
    if extra := sorted(set(predicted) - names):
        notes.append(f"predictions without a ground truth, left out: {', '.join(extra)}")
    return pairs, notes


def evaluate(
    pairs: Sequence[Pair], labels: LabelSet, *, rules: Rules = PLAIN, workers: int | Pool = 1
) -> list[CaseScores]:
    """The scores of every pair, in their order; nothing that happens to one case is lost or stops the others."""
    done, failures = map_cases(
        partial(score_pair, labels=labels, rules=rules), pairs, workers=workers, describe="scoring"
    )
    by_name = {case.name: case for case in done}
    by_name |= {pair.name: _zeros(pair, labels, str(error)) for pair, error in failures}
    return [by_name[pair.name] for pair in pairs]


def score_pair(pair: Pair, *, labels: LabelSet, rules: Rules = PLAIN) -> CaseScores:
    """Read and score one pair; what is wrong with its files is said in the result, not raised."""
    try:
        truth = read_labels(pair.truth, labels, values=pair.values)
    except (FlarenetError, OSError) as error:
        return CaseScores(pair.name, {}, f"ground truth: {error}")
    if not pair.prediction.is_file():
        return _zeros(pair, labels, f"no prediction {pair.prediction}")
    try:
        prediction = read_labels(pair.prediction, labels)
        return CaseScores(pair.name, score_case(truth, prediction, labels=labels, asked=pair.asked, rules=rules))
    except (FlarenetError, OSError) as error:
        return _zeros(pair, labels, str(error))


def _score(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: tuple[float, float, float],
    *,
    labels: LabelSet,
    value: int,
    rules: Rules,
) -> Score:
    if labels.names[value] in rules.tubes:
        kept = _half_open_slices(truth)
        truth, prediction = truth[kept], prediction[kept]
    dsc = dice(truth, prediction)
    nsd = 0.0
    if dsc >= rules.lowest_dsc:
        nsd = surface_dice(surface_distances(truth, prediction, spacing_mm), labels.tolerance_of(value))
    return Score(dsc=rules.rounded(dsc), nsd=rules.rounded(nsd))


def _half_open_slices(mask: np.ndarray) -> slice:
    labelled = np.flatnonzero(mask.any(axis=(1, 2)))
    lowest, highest = int(labelled[0]), int(labelled[-1])
    return slice(lowest, max(highest, lowest + 1))


def _around(one: tuple[slice, ...], other: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other))


def _stored_spacing_mm(grid: Grid) -> tuple[float, float, float]:
    """The spacing as NIfTI headers hold it, in single precision: what lies exactly at a tolerance depends on it."""
    z, y, x = (float(np.float32(step)) for step in grid.spacing_mm)
    return z, y, x


def _check_same_grid(truth: Grid, prediction: Grid) -> None:
    if truth.shape != prediction.shape:
        raise GeometryError("shape (z, y, x) of the prediction", found=prediction.shape, expected=truth.shape)
    if not truth.is_near(prediction):
        raise GeometryError(
            "grid of the prediction",
            found=f"voxels up to {truth.largest_distance_mm(prediction):.1f} mm beside those of the ground truth",
            expected="the grid of the ground truth",
        )


def _zeros(pair: Pair, labels: LabelSet, failure: str) -> CaseScores:
    return CaseScores(pair.name, {name: ZERO for name in labels.names_of(pair.asked)}, failure)


def _label_maps(folder: Path) -> dict[str, Path]:
    """The label maps of a folder by case name, sorted. Raises DatasetError where there is no such folder."""
    if not folder.is_dir():
        raise DatasetError(folder, found="no such folder", expected="a folder of label maps CASE.nii.gz")
    return {case_name(path): path for path in find_images(folder)} if any(folder.iterdir()) else {}
