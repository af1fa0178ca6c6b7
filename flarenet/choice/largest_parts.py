"""Labels that would score better with their largest connected part alone: the rule `fusion.largest`, tried on label
maps that are there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np

from ..data.cases import Pool, map_cases
from ..data.components import find_components
from ..data.labels import LabelSet
from ..data.nifti import read_labels
from ..evaluation.masks import TwoMaps
from ..evaluation.overlap import dice
from ..evaluation.pairs import Pair, need_mb
from ..schema import Frozen


class LargestPart(Frozen):
    """What it does to a label.

    before, after  mean DSC over the cases in which the truth or the prediction has the label
    better, worse  how many of these it changes so
    """

    before: float
    after: float
    better: int
    worse: int

    @property
    def helps(self) -> bool:
        """Whether the mean rises, and by more cases than it loses: one lucky case of many is no reason."""
        return self.after > self.before and self.better > self.worse


def try_largest_parts(pairs: Sequence[Pair], labels: LabelSet, *, workers: int | Pool = 1) -> dict[str, LargestPart]:
    """By label name, of those that are asked for and somewhere there. A pair that cannot be read is left out: whoever
    scores it says why."""
    work = partial(_try_pair, labels=labels)
    tried, _ = map_cases(work, pairs, workers=workers, describe="largest parts", need_mb=need_mb)
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in tried:
        for name, both in case.items():
            scores[name].append(both)
    return {name: _summary(scores[name]) for name in labels.names if name in scores}


def _try_pair(pair: Pair, *, labels: LabelSet) -> dict[str, tuple[float, float]]:
    """Label name -> its DSC as it is and with its largest part alone."""
    truth_map = read_labels(pair.truth, labels, values=pair.values, reading=pair.reading)
    maps = TwoMaps(truth_map, read_labels(pair.prediction, labels, reading=pair.reading))
    found = {}
    for value in pair.asked:
        if (masks := maps.masks(value)) is not None:
            truth, prediction = masks
            found[labels.names[value]] = dice(truth, prediction), dice(truth, _largest(prediction))
    return found


def _largest(mask: np.ndarray) -> np.ndarray:
    """bool [Z, Y, X]"""
    kept = mask.astype(np.uint8)
    parts = find_components(kept)
    parts.paint(kept, np.arange(len(parts.voxels)) != parts.largest, 0)
    return kept > 0


def _summary(scores: Sequence[tuple[float, float]]) -> LargestPart:
    before, after = np.array(scores).T
    return LargestPart(
        before=float(before.mean()),
        after=float(after.mean()),
        better=int((after > before).sum()),
        worse=int((after < before).sum()),
    )
