"""Which labels score better with their largest connected part alone: `fusion.largest` tried on existing predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ..data.cases import HERE, Pool, map_cases
from ..data.components import find_components
from ..data.labels import HIDDEN, LabelSet
from ..data.nifti import read_labels
from ..evaluation.masks import TwoMaps
from ..evaluation.pairs import Pair, need_mb
from ..evaluation.scores import dice
from ..schema import Frozen


class LargestPart(Frozen):
    """The effect of the rule on a label, over the cases in which the truth or the prediction has the label.

    before  mean DSC without the rule
    after   mean DSC with it
    better  number of cases whose DSC rises
    worse   number of cases whose DSC falls
    """

    before: float
    after: float
    better: int
    worse: int

    @property
    def helps(self) -> bool:
        """Whether the mean rises, and more cases get better than worse: one lucky case among many is not enough."""
        return self.after > self.before and self.better > self.worse


def try_largest_parts(pairs: Sequence[Pair], labels: LabelSet, *, pool: Pool = HERE) -> dict[str, LargestPart]:
    """{label name: LargestPart}, for labels that are scored and occur in some case.

    Pairs that cannot be read are left out: scoring reports them.
    """
    work = partial(_try_pair, labels=labels)
    tried, _ = map_cases(work, pairs, pool=pool, describe="largest parts", need_mb=need_mb)
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in tried:
        for name, both in case.items():
            scores[name].append(both)
    return {name: _summary(scores[name]) for name in labels.names if name in scores}


def _try_pair(pair: Pair, *, labels: LabelSet) -> dict[str, tuple[float, float]]:
    """{label name: (DSC as it is, DSC with the largest part alone)}."""
    truth_map = read_labels(pair.truth, labels, values=pair.values, reading=pair.reading)
    known = truth_map.data != HIDDEN
    # parts are those of the whole prediction; only voxels that are not hidden in the truth are scored
    truth_map = replace(truth_map, data=truth_map.data * known)
    maps = TwoMaps(truth_map, read_labels(pair.prediction, labels, reading=pair.reading))
    found = {}
    for value in pair.asked:
        if (box := maps.box(value)) is not None:
            truth, drawn, told = maps.truth.data[box] == value, maps.prediction.data[box], known[box]
            found[labels.names[value]] = (
                dice(truth, told & (drawn == value)),
                dice(truth, told & _largest(drawn, value, labels)),
            )
    return found


def _largest(drawn: np.ndarray, value: int, labels: LabelSet) -> np.ndarray:
    """Where the largest part of a label is, bool [Z, Y, X].

    The rule acts on the map of the label's group, where an organ continues beneath a lesion. So labels of later groups
    are taken to connect its parts, and the largest part is the one with the most visible voxels.
    """
    own, groups = drawn == value, list(labels.groups.values())
    group = next(at for at, values in enumerate(groups) if value in values)
    over = [later for values in groups[group + 1 :] for later in values]
    parts = find_components((own | np.isin(drawn, over)).astype(np.uint8))
    inside = own[parts.box.slices]
    seen = np.bincount(parts.number[inside], minlength=len(parts.voxels))
    inside &= parts.number == seen.argmax()
    return own


def _summary(scores: Sequence[tuple[float, float]]) -> LargestPart:
    before, after = np.array(scores).T
    return LargestPart(
        before=float(before.mean()),
        after=float(after.mean()),
        better=int((after > before).sum()),
        worse=int((after < before).sum()),
    )
