"""Which labels score better without their small parts: `fusion.largest` and `.least_share` on existing predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from ..data.cases import HERE, Pool, map_cases
from ..data.components import find_components
from ..data.labels import HIDDEN, LabelSet
from ..data.nifti import read_labels
from ..evaluation.masks import TwoMaps
from ..evaluation.pairs import Pair, need_mb
from ..evaluation.scores import dice
from ..planning.fusion import Fusion
from ..schema import Frozen

SHARE: Final = 0.1
"""The share that is tried for `fusion.least_share`: mostly, specks beside an organ are smaller, and pieces of a vessel
larger."""

LEAST_GAIN: Final = 0.001
"""The least gain in mean DSC that counts: a speck in one of many cases gains less, and is no reason for a rule."""


class Effect(Frozen):
    """The effect of a rule on a label, over the cases in which the truth or the prediction has the label.

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
        """Whether the mean rises by LEAST_GAIN, and more cases get better than worse: one lucky case among many is not
        enough."""
        return self.after - self.before >= LEAST_GAIN and self.better > self.worse


class Tried(Frozen):
    """The rules that were tried, on labels that are scored and occur in some case.

    largest      label name -> effect of `fusion.largest`
    least_share  label name -> effect of `fusion.least_share` with SHARE
    """

    largest: dict[str, Effect] = {}
    least_share: dict[str, Effect] = {}

    def chosen(self, own: Fusion) -> tuple[tuple[str, ...], dict[str, float]]:
        """(labels to give `largest`, label -> share to give `least_share`), each empty where the rule helps no label.

        own  the fusion that made the predictions. Its rules come first
        Of two rules that help a label the one with the higher mean is taken, of equal ones `least_share`: it removes
        less.
        """
        largest, shares = list[str](), dict[str, float]()
        for name, whole in self.largest.items():
            share = self.least_share[name]
            if name in own.largest:
                continue
            if whole.helps and (not share.helps or whole.after > share.after):
                largest.append(name)
            elif share.helps:
                shares[name] = max(SHARE, own.least_share.get(name, 0.0))
        keep = (*own.largest, *largest) if largest else ()
        return keep, own.least_share | shares if shares else {}


def try_largest_parts(pairs: Sequence[Pair], labels: LabelSet, *, pool: Pool = HERE) -> Tried:
    """What both rules do to the predictions. Pairs that cannot be read are left out: scoring reports them."""
    work = partial(_try_pair, labels=labels)
    tried, _ = map_cases(work, pairs, pool=pool, describe="largest parts", need_mb=need_mb)
    scores: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for case in tried:
        for name, of_case in case.items():
            scores[name].append(of_case)
    by_label = {name: np.array(scores[name]).T for name in labels.names if name in scores}
    return Tried(
        largest={name: _effect(before, after) for name, (before, after, _) in by_label.items()},
        least_share={name: _effect(before, after) for name, (before, _, after) in by_label.items()},
    )


def _try_pair(pair: Pair, *, labels: LabelSet) -> dict[str, tuple[float, float, float]]:
    """{label name: (DSC as it is, DSC with the largest part alone, DSC with the parts of SHARE of it or more)}."""
    truth_map = read_labels(pair.truth, labels, values=pair.values, reading=pair.reading)
    known = truth_map.data != HIDDEN
    # parts are those of the whole prediction; only voxels that are not hidden in the truth are scored
    truth_map = replace(truth_map, data=truth_map.data * known)
    maps = TwoMaps(truth_map, read_labels(pair.prediction, labels, reading=pair.reading))
    found = {}
    for value in pair.to_score:
        if (box := maps.box(value)) is not None:
            truth, drawn, told = maps.truth.data[box] == value, maps.prediction.data[box], known[box]
            largest, larger = _kept(drawn, value, labels)
            found[labels.names[value]] = (
                dice(truth, told & (drawn == value)),
                dice(truth, told & largest),
                dice(truth, told & larger),
            )
    return found


def _kept(drawn: np.ndarray, value: int, labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    """Where the largest part of a label is, and where those of SHARE of it or more are, both bool [Z, Y, X].

    The rules act on the map of the label's group, where an organ continues beneath a lesion. So labels of later groups
    are taken to connect its parts, and the size of a part is the number of its visible voxels.
    """
    own, groups = drawn == value, list(labels.groups.values())
    group = next(at for at, values in enumerate(groups) if value in values)
    over = [later for values in groups[group + 1 :] for later in values]
    parts = find_components((own | np.isin(drawn, over)).astype(np.uint8))
    inside = own[parts.box.slices]
    seen = np.bincount(parts.number[inside], minlength=len(parts.voxels))
    largest, larger = np.zeros_like(own), np.zeros_like(own)
    largest[parts.box.slices] = inside & (parts.number == seen.argmax())
    larger[parts.box.slices] = inside & (seen / max(1, seen.max()) >= SHARE)[parts.number]
    return largest, larger


def _effect(before: np.ndarray, after: np.ndarray) -> Effect:
    """The effect by the DSC of each case without and with the rule."""
    return Effect(
        before=float(before.mean()),
        after=float(after.mean()),
        better=int((after > before).sum()),
        worse=int((after < before).sum()),
    )
