"""Combining what sources predict for one group of a case, and filtering it: pure functions on arrays.

A map is uint8 [Z, Y, X]: 0 background, 1..n the group's labels, HIDDEN where training ignores the voxel. Each filter
takes a map and the evidence, and returns a map in which more is hidden; `filtered` applies all filters in order. No
filter turns a label into background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeVar

import numpy as np

from ..data.components import Components, find_components
from ..data.labels import HIDDEN
from ..planning.pseudo_rules import PseudoRules
from ..volume import Grid

Label = TypeVar("Label", int, str)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about one group of a case in addition to the map.

    votes    uint8 [Z, Y, X]: how many sources agree with the map
    sources  number of sources
    grid     grid of the map
    lesions  whether the labels are lesions: size and host distinguish them from noise
    homes    label of the group -> bool [Z, Y, X], where its hosts are; a label without an entry may be anywhere
    """

    votes: np.ndarray
    sources: int
    grid: Grid
    lesions: bool = False
    homes: Mapping[int, np.ndarray] = field(default_factory=dict)


Filter = Callable[[np.ndarray, Evidence, PseudoRules], np.ndarray]


def vote(sources: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(label, votes), uint8 [Z, Y, X]: each voxel's most frequent label (in a tie the first) and its number of maps."""
    label, most = sources[0], _named(sources[0], sources)
    for source in sources[1:]:
        votes = _named(source, sources)
        label, most = np.where(votes > most, source, label), np.maximum(votes, most)
    return label, most


def likeness(sources: Sequence[np.ndarray], labels: int) -> dict[int, float]:
    """label, 1 to `labels` -> the mean Dice over all pairs of maps; a pair in which neither has the label counts 1.

    A label that no map has gets no entry: agreement on its absence is no evidence of agreement on its shape. With one
    map there are no entries.
    """
    where = np.flatnonzero(np.logical_or.reduce([source.ravel() > 0 for source in sources]))
    maps = [source.ravel()[where] for source in sources]
    sizes = [_voxels(values, labels) for values in maps]
    pairs = []
    for second in range(1, len(maps)):
        for first in range(second):
            same = _voxels(maps[first][maps[first] == maps[second]], labels)
            total = sizes[first] + sizes[second]
            pairs.append(np.where(total > 0, 2 * same / np.maximum(total, 1), 1.0))
    if not pairs:
        return {}
    named, mean = np.sum(sizes, axis=0) > 0, np.mean(pairs, axis=0)
    return {int(index) + 1: float(mean[index]) for index in np.flatnonzero(named)}


def large_enough(sources: Sequence[np.ndarray], *, least_mm3: float, grid: Grid) -> Sequence[np.ndarray]:
    """The maps without the lesions that are smaller than `least_mm3` even in the union of all maps."""
    if not least_mm3 or len(sources) == 1:
        return sources
    together = reduce(np.maximum, sources)
    lesions = find_components(together)
    lesions.paint(together, lesions.mm3(grid) < least_mm3, HIDDEN)
    return [np.where(together == HIDDEN, np.uint8(0), source) for source in sources]


def tally(label_map: np.ndarray) -> dict[int, int]:
    """label -> how many voxels it has in a map."""
    counts = np.zeros(HIDDEN + 1, dtype=np.int64)
    for plane in label_map:  # plane by plane, as bincount converts its input to eight bytes a voxel
        counts += np.bincount(plane.ravel(), minlength=HIDDEN + 1)
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def hide_small(label_map: np.ndarray, evidence: Evidence, rules: PseudoRules) -> np.ndarray:
    """Hide lesions smaller than `least_mm3`."""
    if not (evidence.lesions and rules.least_mm3):
        return label_map
    lesions = find_components(label_map)
    return _hidden(label_map, lesions, lesions.mm3(evidence.grid) < rules.least_mm3)


def hide_homeless(label_map: np.ndarray, evidence: Evidence, rules: PseudoRules) -> np.ndarray:
    """Hide lesions that neither overlap nor touch any of their hosts."""
    if not evidence.homes:
        return label_map
    lesions = find_components(label_map)
    homeless = np.isin(lesions.label, list(evidence.homes))
    for label, home in evidence.homes.items():
        homeless &= ~(lesions.touching(home) & (lesions.label == label))
    return _hidden(label_map, lesions, homeless)


def hide_doubtful(label_map: np.ndarray, evidence: Evidence, rules: PseudoRules) -> np.ndarray:
    """Hide voxels, also of background, on which less than the share `agreement` of the sources agree."""
    if not rules.agreement:
        return label_map
    doubtful = evidence.votes < rules.agreement * evidence.sources - 1e-6
    return np.where(doubtful, np.uint8(HIDDEN), label_map)


STAGES: dict[str, Filter] = {"least_mm3": hide_small, "hosts": hide_homeless, "agreement": hide_doubtful}
"""Field of PseudoRules -> its filter, in order: lesions are judged whole, before hide_doubtful takes their rims."""


def filtered(
    label_map: np.ndarray, evidence: Evidence, rules: PseudoRules
) -> tuple[np.ndarray, dict[str, dict[int, int]]]:
    """(`label_map` after all filters, filter -> label, 0 for background -> how many voxels the filter hid)."""
    hidden = {}
    for name, stage in STAGES.items():
        kept = stage(label_map, evidence, rules)
        before, after = tally(label_map), tally(kept)
        hidden[name] = {label: before[label] - after.get(label, 0) for label in before if label != HIDDEN}
        label_map = kept
    return label_map, hidden


def _hidden(label_map: np.ndarray, lesions: Components, lost: np.ndarray) -> np.ndarray:
    """`label_map`, with those lesions hidden whose number is true in `lost`, bool [1 + n]."""
    kept = label_map.copy()
    lesions.paint(kept, lost, HIDDEN)
    return kept


def hosts_of(lesions: Components, organs: np.ndarray) -> dict[int, dict[int, float]]:
    """label -> value of `organs`, a label map, or 0 for none -> share of the label's lesions with this main host.

    The main host of a lesion is the organ that it touches most.
    """
    found: dict[int, Counter[int]] = {}
    for label, touched in zip(lesions.label[1:].tolist(), lesions.surroundings(organs)):
        contacts = Counter(touched[touched > 0].tolist())
        main = contacts.most_common(1)[0][0] if contacts else 0
        found.setdefault(label, Counter())[main] += 1
    return {label: {host: n / sum(counts.values()) for host, n in counts.items()} for label, counts in found.items()}


RARE = 0.05
"""A host with a smaller share of the lesions is taken for chance. Where a larger share lies in no organ, the lesions
may lie anywhere."""


def common_hosts(cases: Sequence[Mapping[int, float]]) -> frozenset[int] | None:
    """The hosts of a label, from what hosts_of gives for it in each case; all cases count alike. None: anywhere."""
    named = {host for hosts in cases for host in hosts}
    share = {host: sum(hosts.get(host, 0.0) for hosts in cases) / len(cases) for host in named}
    if not share or share.get(0, 0.0) > RARE:
        return None
    return frozenset(host for host, part in share.items() if host and part >= RARE)


def deviation_from_mean(scores: Mapping[str, Mapping[Label, float]]) -> dict[str, float]:
    """How far each case lies above or below the mean case: the mean over its labels of score - the label's mean.

    scores  case -> label -> score; a case without scores is left out
    A label's mean is over all cases, so a case that has scores of hard labels only is not ranked lower for that.
    """
    by_label: dict[Label, list[float]] = {}
    for of_case in scores.values():
        for label, score in of_case.items():
            by_label.setdefault(label, []).append(score)
    usual = {label: sum(found) / len(found) for label, found in by_label.items()}
    return {
        case: sum(score - usual[label] for label, score in of_case.items()) / len(of_case)
        for case, of_case in scores.items()
        if of_case
    }


def worst(scores: Mapping[str, float], share: float) -> frozenset[str]:
    """The names with the lowest scores, a rounded `share` of all; among equal scores the first by name."""
    ranked = sorted(scores, key=lambda name: (scores[name], name))
    return frozenset(ranked[: round(share * len(ranked))])


def _voxels(values: np.ndarray, labels: int) -> np.ndarray:
    """[labels]: how many of `values` are 1, 2 ...; HIDDEN ones do not count."""
    return np.bincount(values, minlength=labels + 1)[1 : labels + 1]


def _named(source: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [Z, Y, X]: how many of `sources`, `source` among them, agree with `source`."""
    votes = np.zeros(source.shape, dtype=np.uint8)
    for other in sources:
        votes += other == source
    return votes
