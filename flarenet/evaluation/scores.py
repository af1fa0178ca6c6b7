"""The scores of one case: truth and prediction, two label maps, compared label by label."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..data.labels import LabelSet
from ..schema import Frozen
from .masks import TwoMaps
from .rules import PLAIN, Rules
from .surface import hausdorff_mm, surface_dice, surface_distances


class Score(Frozen):
    """Dice coefficient and surface Dice, 0 to 1; None where nothing was scored. The surface Dice alone is None where
    both surfaces lie entirely next to ignored voxels."""

    dsc: float | None
    nsd: float | None


class LabelScore(Score):
    """The scores of one label in one case.

    hd95_mm       None where the truth, the prediction or both lack the label, or have no surface that counts
    volume_ml     volume of the label in the prediction; None where there is no readable prediction
    reference_ml  volume of the label in the truth; None where it is not known
    """

    hd95_mm: float | None = None
    volume_ml: float | None = None
    reference_ml: float | None = None

    @property
    def volume_difference_ml(self) -> float | None:
        """Volume in the prediction minus volume in the truth; None where either is not known."""
        if self.volume_ml is None or self.reference_ml is None:
            return None
        return self.volume_ml - self.reference_ml

    @property
    def volume_difference_percent(self) -> float | None:
        """The difference in percent of the truth's volume; None where that is 0 or a volume is not known."""
        if self.volume_difference_ml is None or not self.reference_ml:
            return None
        return 100 * (self.volume_difference_ml / self.reference_ml)


def score_case(
    maps: TwoMaps, *, labels: LabelSet, to_score: Iterable[int], rules: Rules = PLAIN
) -> dict[str, LabelScore]:
    """The score of each label value in `to_score`, by label name."""
    return {labels.names[value]: _score(maps, value, labels, rules) for value in sorted(to_score)}


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The Dice coefficient 2|A and B| / (|A| + |B|) of two boolean masks of one shape.

    Both empty: 1. Exactly one empty: 0.
    """
    voxels = np.count_nonzero(truth) + np.count_nonzero(prediction)
    if voxels == 0:
        return 1.0
    return 2 * np.count_nonzero(truth & prediction) / voxels


def _score(maps: TwoMaps, value: int, labels: LabelSet, rules: Rules) -> LabelScore:
    masks = maps.masks(value)
    if masks is None:  # in neither map: correct
        return LabelScore(dsc=1.0, nsd=1.0, volume_ml=0.0, reference_ml=0.0)
    reference_ml, volume_ml = (np.count_nonzero(mask) * maps.voxel_ml for mask in masks)
    if not (reference_ml and volume_ml):
        return LabelScore(dsc=0.0, nsd=0.0, volume_ml=volume_ml, reference_ml=reference_ml)
    truth, prediction = masks
    if rules.is_tube(labels.names[value]):
        kept = _half_open_slices(truth)
        truth, prediction = truth[kept], prediction[kept]
    dsc = dice(truth, prediction)
    distances = surface_distances(truth, prediction, maps.spacing_mm, ignored=maps.ignored(value))
    nsd = surface_dice(distances, rules.tolerance_of(value, labels)) if dsc >= rules.lowest_dsc else 0.0
    hd95_mm = hausdorff_mm(distances, 95)
    return LabelScore(
        dsc=rules.rounded(dsc),
        nsd=rules.rounded(nsd) if distances.has_surfels else None,
        hd95_mm=hd95_mm if distances.has_surfels and np.isfinite(hd95_mm) else None,
        volume_ml=volume_ml,
        reference_ml=reference_ml,
    )


def _half_open_slices(mask: np.ndarray) -> slice:
    labelled = np.flatnonzero(mask.any(axis=(1, 2)))
    lowest, highest = int(labelled[0]), int(labelled[-1])
    return slice(lowest, max(highest, lowest + 1))
