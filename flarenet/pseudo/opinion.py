"""What the sources of a step say about one case, group by group, beside what people drew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.components import find_components
from ..data.dataset import Case
from ..data.labels import LabelSet, complete, join, split
from ..data.nifti import read_grid, read_labels
from ..planning.pseudo_rules import PseudoRules
from ..preparation.upright import on_grid
from ..volume import Grid, upright_grid
from .filters import Evidence, common_hosts, filtered, hosts_of, large_enough, likeness, vote
from .sources import Sources

Hosts = Mapping[int, frozenset[int]]
"""Value of a lesion label -> values of the labels that it lies in; without an entry it may lie anywhere."""


@dataclass(frozen=True, eq=False)
class Opinion:
    """What the sources say about the labels of one group that nobody looked for.

    label, votes  as filters.vote gives them
    likeness      as filters.likeness, of maps without lesions that are too small, by value of the label table
    """

    label: np.ndarray
    votes: np.ndarray
    sources: int
    likeness: dict[int, float]


@dataclass(frozen=True, eq=False)
class Asked:
    """A case about which the sources were asked.

    by_hand    group maps, as labels.split gives them, on `grid`     annotated  what they answer
    opinions   by group, for those of which something was not looked for
    """

    labels: LabelSet
    grid: Grid
    by_hand: dict[str, np.ndarray]
    annotated: frozenset[int]
    opinions: dict[str, Opinion]

    def organs(self, group: str) -> tuple[np.ndarray, frozenset[int]]:
        """The labels of the groups before `group`, unfiltered: a label map and the values that it answers."""
        earlier = list(self.labels.groups)[: list(self.labels.groups).index(group)]
        said = {name: self.opinions[name].label for name in earlier if name in self.opinions}
        maps, known = complete(self.by_hand, said, self.labels, self.annotated)
        return join({name: maps[name] for name in earlier}, self.labels), known

    def drawn_hosts(self) -> dict[int, dict[int, float]]:
        """Where the lesions lie that people drew, as filters.hosts_of says it, by value of the label table."""
        found = {}
        for group, values in list(self.labels.groups.items())[1:]:
            if self.annotated & set(values):
                hosts = hosts_of(find_components(self.by_hand[group]), self.organs(group)[0])
                found.update({values[index - 1]: shares for index, shares in hosts.items()})
        return found

    def filtered(self, group: str, rules: PseudoRules, hosts: Hosts) -> tuple[np.ndarray, dict[str, dict[int, int]]]:
        """The group map of the sources after the filters, and what each hid, as filters.filtered gives them."""
        opinion = self.opinions[group]
        lesions, lowest = self.labels.of_lesions(group), next(iter(self.labels.groups))
        evidence = Evidence(
            opinion.votes,
            opinion.sources,
            grid=self.grid,
            lesions=lesions,
            homes=self._homes(group, hosts) if group != lowest and rules.hosts != "any" else {},
        )
        return filtered(opinion.label, evidence, rules)

    def _homes(self, group: str, hosts: Hosts) -> dict[int, np.ndarray]:
        """A label of which a host is not known in this case has no entry: nothing can be said against it."""
        organs, known = self.organs(group)
        values = self.labels.groups[group]
        return {
            index: np.isin(organs, list(hosts[value]))
            for index, value in enumerate(values, start=1)
            if value in hosts and hosts[value] <= known
        }


def ask(
    case: Case,
    sources: Sources,
    labels: LabelSet,
    *,
    annotated: Iterable[int],
    groups: Sequence[str],
    least_mm3: float,
) -> Asked:
    """Read what was drawn of `annotated`, and what the sources said about `groups` of a case that was predicted.

    least_mm3  as in PseudoRules: a smaller lesion, which will be hidden, is nothing on which sources differ
    """
    looked_for, grid = frozenset(annotated), grid_of(case)
    by_hand = split(drawn_map(case, labels, grid), labels, looked_for)
    opinions = {
        group: _opinion(
            sources.maps(case.name, group),
            by_hand[group],
            labels.groups[group],
            looked_for,
            least_mm3=least_mm3 if labels.of_lesions(group) else 0.0,
            grid=grid,
        )
        for group in groups
    }
    return Asked(labels, grid, by_hand, looked_for, opinions)


def grid_of(case: Case) -> Grid:
    """The grid of a case's scan, upright: that of what is said about it."""
    return upright_grid(read_grid(case.image, case.reading))


def drawn_map(case: Case, labels: LabelSet, grid: Grid) -> np.ndarray:
    """What people drew in a case, uint8 [Z, Y, X] at the voxels of `grid`; 0 where there is no file."""
    if case.label is None:
        return np.zeros(grid.shape, dtype=np.uint8)
    drawn = read_labels(case.label, labels, values=case.values, reading=case.reading)
    return on_grid(drawn.data, drawn.grid, grid)


def resolve_hosts(
    rules: PseudoRules, labels: LabelSet, drawn: Iterable[Mapping[int, Mapping[int, float]]]
) -> dict[int, frozenset[int]]:
    """The hosts of each lesion label, as the rules state them, or as `drawn` (of each case) shows."""
    if rules.hosts == "any":
        return {}
    if isinstance(rules.hosts, dict):
        value = {name: number for number, name in enumerate(labels.names)}
        return {value[lesion]: frozenset(value[host] for host in hosts) for lesion, hosts in rules.hosts.items()}
    by_label: dict[int, list[Mapping[int, float]]] = {}
    for case in drawn:
        for label, shares in case.items():
            by_label.setdefault(label, []).append(shares)
    found = {label: common_hosts(cases) for label, cases in sorted(by_label.items())}
    return {label: hosts for label, hosts in found.items() if hosts}


def _opinion(
    maps: Sequence[np.ndarray],
    drawn: np.ndarray,
    values: Sequence[int],
    looked_for: frozenset[int],
    *,
    least_mm3: float,
    grid: Grid,
) -> Opinion:
    """What was looked for is no question, nor where people drew something: there all sources say background."""
    table = np.arange(256, dtype=np.uint8)
    table[[index for index, value in enumerate(values, start=1) if value in looked_for]] = 0
    said = [np.where(drawn == 0, table[source], np.uint8(0)) for source in maps]
    label, votes = vote(said)
    scores = likeness(large_enough(said, least_mm3=least_mm3, grid=grid), len(values))
    return Opinion(label, votes, len(maps), {values[index - 1]: score for index, score in scores.items()})
