"""What the sources of a step predict for one case, group by group, and what is annotated in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.components import find_components
from ..data.dataset import Case
from ..data.labels import LabelSet, complete, ignored_in, join, split
from ..data.nifti import read_grid, read_labels
from ..data.store import Store
from ..planning.pseudo_rules import PseudoRules
from ..preparation.upright import on_grid
from ..volume import Grid, upright_grid
from .filters import Evidence, common_hosts, filtered, hosts_of, large_enough, likeness, vote

Hosts = Mapping[int, frozenset[int]]
"""Value of a lesion label -> values of the labels that it may lie in; a lesion without an entry may lie anywhere."""


@dataclass(frozen=True, eq=False)
class Opinion:
    """What the sources predict for the labels of one group that are not annotated.

    label     the label of most sources, see filters.vote
    votes     how many sources agree with it
    sources   number of sources
    likeness  value of the label table -> score, see filters.likeness, from maps without too small lesions; empty where
              the sources are not compared
    """

    label: np.ndarray
    votes: np.ndarray
    sources: int
    likeness: dict[int, float]


@dataclass(frozen=True, eq=False)
class CaseOpinion:
    """The annotations of a case, and what the sources predict for the rest.

    labels     the label table
    grid       grid of all maps
    by_hand    group -> map of the annotations, see labels.split
    annotated  values that are annotated, whose truth these maps hold
    opinions   group -> Opinion, for groups of which some label is not annotated
    """

    labels: LabelSet
    grid: Grid
    by_hand: dict[str, np.ndarray]
    annotated: frozenset[int]
    opinions: dict[str, Opinion]

    def organs(self, group: str) -> tuple[np.ndarray, frozenset[int]]:
        """(label map of the groups before `group`, completed by the unfiltered sources; the values known in it)."""
        earlier = list(self.labels.groups)[: list(self.labels.groups).index(group)]
        said = {name: self.opinions[name].label for name in earlier if name in self.opinions}
        maps, known = complete(self.by_hand, said, self.labels, self.annotated)
        return join({name: maps[name] for name in earlier}, self.labels), known

    def annotated_hosts(self) -> dict[int, dict[int, float]]:
        """Where the annotated lesions lie: the result of filters.hosts_of, by values of the label table."""
        found = {}
        for group, values in list(self.labels.groups.items())[1:]:
            if self.labels.of_lesions(group) and self.annotated & set(values):
                hosts = hosts_of(find_components(self.by_hand[group]), self.organs(group)[0])
                found.update({values[index - 1]: shares for index, shares in hosts.items()})
        return found

    def filtered(
        self, group: str, rules: PseudoRules, hosts: Hosts, *, untold: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[str, dict[int, int]]]:
        """The group map of the sources after the filters, and what each filter hid, see filters.filtered.

        untold  bool [Z, Y, X]: annotated lesions of the group, where they are treated as not annotated. They are added
                to the annotated hosts that they touch, whose annotation stops at them: where nobody annotates lesions,
                it includes them.
        """
        opinion = self.opinions[group]
        lesions, lowest = self.labels.of_lesions(group), next(iter(self.labels.groups))
        evidence = Evidence(
            opinion.votes,
            opinion.sources,
            grid=self.grid,
            lesions=lesions,
            homes=self._homes(group, hosts, untold) if group != lowest and rules.hosts != "any" else {},
        )
        return filtered(opinion.label, evidence, rules)

    def _homes(self, group: str, hosts: Hosts, untold: np.ndarray | None) -> dict[int, np.ndarray]:
        """Evidence.homes of a group; without labels of which a host is unknown in this case: these are not filtered."""
        organs, known = self.organs(group)
        cut = None if untold is None else find_components(untold.astype(np.uint8))
        homes = {}
        for index, value in enumerate(self.labels.groups[group], start=1):
            if value in hosts and hosts[value] <= known:
                homes[index] = np.isin(organs, list(hosts[value]))
                if cut is not None:
                    by_hand = np.isin(organs, list(hosts[value] & self.annotated))
                    cut.paint(homes[index], cut.touching(by_hand), True)
        return homes


def ask(
    case: Case,
    sources: Mapping[str, Sequence[Store]],
    labels: LabelSet,
    *,
    annotated: Iterable[int],
    least_mm3: float | None,
) -> CaseOpinion:
    """Read the annotations of `annotated`, and the sources' predictions, of a case that was predicted.

    sources    group -> the stores of its sources, see Sources.stores
    least_mm3  as in PseudoRules: smaller lesions will be hidden, and so do not count where sources are compared; with
               None they are not compared, and no likeness is found
    """
    looked_for, grid = frozenset(annotated), grid_of(case)
    by_hand = split(annotated_map(case, labels, grid), labels, looked_for)
    opinions = {
        group: _opinion(
            [np.asarray(store.read(case.name).maps[group]) for store in stores],
            by_hand[group],
            ignored_in(by_hand, labels),
            labels.groups[group],
            looked_for,
            least_mm3=least_mm3 if least_mm3 is None or labels.of_lesions(group) else 0.0,
            grid=grid,
        )
        for group, stores in sources.items()
    }
    return CaseOpinion(labels, grid, by_hand, looked_for, opinions)


def grid_of(case: Case) -> Grid:
    """The grid of a case's scan, made upright. All maps of the case are on it."""
    return upright_grid(read_grid(case.image, case.reading))


def annotated_map(case: Case, labels: LabelSet, grid: Grid) -> np.ndarray:
    """The label map of a case, uint8 [Z, Y, X] on `grid`, HIDDEN in ignored voxels; all 0 without a label file."""
    if case.label is None:
        return np.zeros(grid.shape, dtype=np.uint8)
    label_map = read_labels(case.label, labels, values=case.values, reading=case.reading)
    return on_grid(label_map.data, label_map.grid, grid)


def resolve_hosts(
    rules: PseudoRules, labels: LabelSet, annotated: Iterable[Mapping[int, Mapping[int, float]]]
) -> dict[int, frozenset[int]]:
    """The hosts of each lesion label, from the rules or from `annotated`, the annotated_hosts of each case."""
    if rules.hosts == "any":
        return {}
    if isinstance(rules.hosts, dict):
        value = {name: number for number, name in enumerate(labels.names)}
        return {value[lesion]: frozenset(value[host] for host in hosts) for lesion, hosts in rules.hosts.items()}
    by_label: dict[int, list[Mapping[int, float]]] = {}
    for case in annotated:
        for label, shares in case.items():
            by_label.setdefault(label, []).append(shares)
    found = {label: common_hosts(cases) for label, cases in sorted(by_label.items())}
    return {label: hosts for label, hosts in found.items() if hosts}


def _opinion(
    maps: Sequence[np.ndarray],
    by_hand: np.ndarray,
    ignored: np.ndarray,
    values: Sequence[int],
    looked_for: frozenset[int],
    *,
    least_mm3: float | None,
    grid: Grid,
) -> Opinion:
    """The Opinion on a group. Annotated labels, and voxels annotated as foreground, become background in all maps. In
    `ignored` voxels every predicted label stays, as in complete."""
    table = np.arange(256, dtype=np.uint8)
    table[[index for index, value in enumerate(values, start=1) if value in looked_for]] = 0
    said = [np.where(ignored, source, np.where(by_hand == 0, table[source], np.uint8(0))) for source in maps]
    label, votes = vote(said)
    if least_mm3 is None:
        return Opinion(label, votes, len(maps), {})
    scores = likeness(large_enough(said, least_mm3=least_mm3, grid=grid), len(values))
    likenesses = {values[index - 1]: score for index, score in scores.items() if values[index - 1] not in looked_for}
    return Opinion(label, votes, len(maps), likenesses)
