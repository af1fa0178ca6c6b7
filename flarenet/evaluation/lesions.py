"""Scores by lesion: which lesions of the truth are found, which are missed, and which predicted lesions are false.

A lesion is a connected component of a label (26 neighbours: over faces, edges and corners). A lesion of the truth is
*found* if the prediction has a voxel of its label in it; a predicted lesion is *false* if it overlaps no lesion of the
truth. This is the rule of the autoPET challenge (Gatidis et al., "Results from the autoPET challenge on fully automated
lesion segmentation in oncologic PET/CT imaging", Nature Machine Intelligence 2024). The Dice of a lesion is between it
and the union of all predicted lesions that overlap it, as in BraTS 2023, but without the dilation of that challenge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

import cc3d
import numpy as np
from scipy.ndimage import binary_dilation

from ..data.labels import LabelSet
from ..schema import Frozen
from .masks import TwoMaps

Outcome = Literal["found", "missed", "false"]

SIZES_ML = {"below 0.5 ml": 0.5, "0.5 to 5 ml": 5.0, "above 5 ml": float("inf")}
"""Size class -> its upper end, exclusive. A sphere of 0.5 ml is 10 mm across, from which a lesion is measurable by
RECIST 1.1 (Eisenhauer et al., European Journal of Cancer 2009); a sphere of 5 ml is 21 mm across."""


class Lesion(Frozen):
    """One lesion.

    volume_ml  of the lesion in the truth; of the predicted lesion if it is false
    dsc        Dice with the predicted lesions that overlap it: 0 where missed, None where false
    """

    label: str
    outcome: Outcome
    volume_ml: float
    dsc: float | None

    @property
    def size(self) -> str:
        """The size class by volume: a key of SIZES_ML."""
        return next(name for name, end_ml in SIZES_ML.items() if self.volume_ml < end_ml)


class LesionCount(Frozen):
    """Number of lesions by outcome; found + missed are those of the truth."""

    found: int = 0
    missed: int = 0
    false: int = 0


def find_lesions(maps: TwoMaps, *, labels: LabelSet, to_score: Iterable[int]) -> list[Lesion]:
    """The lesions of every label in `to_score` that LabelSet.lesions holds, label by label."""
    found = []
    for value in sorted(set(to_score).intersection(labels.lesions)):
        if (masks := maps.masks(value)) is not None:
            ignored = maps.ignored(value)
            found += match_lesions(*masks, label=labels.names[value], voxel_ml=maps.voxel_ml, ignored=ignored)
    return found


def match_lesions(
    truth: np.ndarray, prediction: np.ndarray, *, label: str, voxel_ml: float, ignored: np.ndarray | None = None
) -> list[Lesion]:
    """The lesions of one label, given by boolean masks [Z, Y, X]: those of the truth, then the false ones.

    ignored  bool [Z, Y, X]: voxels that nobody annotated, outside both masks. A predicted lesion that touches one is
             never false, because a true lesion may be there
    """
    (true, true_voxels), (said, said_voxels) = _parts(truth), _parts(prediction)
    both = truth & prediction
    of_both = true[both].astype(np.int64) * len(said_voxels) + said[both]
    pairs, shared = np.unique(of_both, return_counts=True)
    of_truth, of_prediction = np.divmod(pairs, len(said_voxels))
    hits = np.bincount(of_truth, weights=shared, minlength=len(true_voxels))
    touching = np.bincount(of_truth, weights=said_voxels[of_prediction], minlength=len(true_voxels))
    lesions = [
        Lesion(
            label=label,
            outcome="found" if hits[n] else "missed",
            volume_ml=float(true_voxels[n] * voxel_ml),
            dsc=float(2 * hits[n] / (true_voxels[n] + touching[n])),
        )
        for n in range(1, len(true_voxels))
    ]
    doubtful = [] if ignored is None else np.unique(said[binary_dilation(ignored, np.ones((3, 3, 3)))]).tolist()
    for n in sorted(set(range(1, len(said_voxels))).difference(of_prediction.tolist(), doubtful)):
        lesions.append(Lesion(label=label, outcome="false", volume_ml=float(said_voxels[n] * voxel_ml), dsc=None))
    return lesions


def count_lesions(lesions: Iterable[Lesion], labels: LabelSet) -> dict[str, dict[str, LesionCount]]:
    """label -> size class -> number of lesions, for every label in LabelSet.lesions."""
    seen = Counter((lesion.label, lesion.size, lesion.outcome) for lesion in lesions)
    return {
        label: {
            size: LesionCount(**{outcome: seen[label, size, outcome] for outcome in get_args(Outcome)})
            for size in SIZES_ML
        }
        for label in labels.names_of(labels.lesions)
    }


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected components of a mask: each voxel's component number, from 1 (0: outside), and the voxels of each
    component by number (entry 0: 0)."""
    numbered = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    return numbered, np.bincount(numbered[mask], minlength=1)
