"""Lesion by lesion: which of the truth were found, which missed, and which of the prediction are false.

A lesion is a part of a label that hangs together over faces, edges and corners (26 neighbours). One of the truth is
*found* where the prediction has a voxel of its label in it; one of the prediction is *false* where it touches no lesion
of the truth. This is the rule of the autoPET challenge (Gatidis et al., "Results from the autoPET challenge on fully
automated lesion segmentation in oncologic PET/CT imaging", Nature Machine Intelligence 2024). The Dice of a lesion is
over it and every predicted lesion that touches it, as in BraTS 2023, without that challenge's dilation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

import cc3d
import numpy as np

from ..data.labels import LabelSet
from ..schema import Frozen
from .masks import TwoMaps

Outcome = Literal["found", "missed", "false"]

SIZES_ML = {"below 0.5 ml": 0.5, "0.5 to 5 ml": 5.0, "above 5 ml": float("inf")}
"""Classes of volume and where each ends. A ball of 0.5 ml is 10 mm across, from which on RECIST 1.1 (Eisenhauer et al.,
European Journal of Cancer 2009) calls a lesion measurable; one of 5 ml is 21 mm across."""


class Lesion(Frozen):
    """One lesion.

    volume_ml  of the lesion of the truth; of the predicted one where it is false
    dsc        with what was predicted there: 0 where missed, None where false
    """

    label: str
    outcome: Outcome
    volume_ml: float
    dsc: float | None

    @property
    def size(self) -> str:
        """The class of its volume, a key of SIZES_ML."""
        return next(name for name, end_ml in SIZES_ML.items() if self.volume_ml < end_ml)


class LesionCount(Frozen):
    """How many lesions; found + missed are those of the truth."""

    found: int = 0
    missed: int = 0
    false: int = 0


def find_lesions(maps: TwoMaps, *, labels: LabelSet, asked: Iterable[int]) -> list[Lesion]:
    """The lesions of every label in `asked` that LabelSet.lesions holds, label by label."""
    found = []
    for value in sorted(set(asked).intersection(labels.lesions)):
        if (masks := maps.masks(value)) is not None:
            found += match_lesions(*masks, label=labels.names[value], voxel_ml=maps.voxel_ml)
    return found


def match_lesions(truth: np.ndarray, prediction: np.ndarray, *, label: str, voxel_ml: float) -> list[Lesion]:
    """The lesions of two boolean masks [Z, Y, X] of one label: those of the truth, then those that are false."""
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
    for n in sorted(set(range(1, len(said_voxels))).difference(of_prediction.tolist())):
        lesions.append(Lesion(label=label, outcome="false", volume_ml=float(said_voxels[n] * voxel_ml), dsc=None))
    return lesions


def count_lesions(lesions: Iterable[Lesion], labels: LabelSet) -> dict[str, dict[str, LesionCount]]:
    """label -> class of volume -> how many, for every label that LabelSet.lesions holds."""
    seen = Counter((lesion.label, lesion.size, lesion.outcome) for lesion in lesions)
    return {
        label: {
            size: LesionCount(**{outcome: seen[label, size, outcome] for outcome in get_args(Outcome)})
            for size in SIZES_ML
        }
        for label in labels.names_of(labels.lesions)
    }


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected parts of a mask, numbered from 1, and how many voxels each has (row 0: the rest)."""
    numbered = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    return numbered, np.bincount(numbered[mask], minlength=1)
