"""What was looked for in cases that do not state it, inferred from the labels present in all masks of a collection.

A label that a mask lacks was absent, or nobody looked for it. One mask cannot tell which, but the collection can,
because cases come in cohorts: an annotator looks for the same labels, the *pattern*, in all cases. The model is a
Dirichlet process mixture (Antoniak 1974), of which the likeliest partition into cohorts is sought. Costs are -log
probabilities:

- A cohort costs what it takes to name its pattern: how many labels it has, and which. In doubt a label was not looked
  for: it counts as absent only if that is IN_DOUBT times as likely.
- The sizes of the cohorts cost what they do in the Chinese restaurant process: -log of the product of (size - 1)!.
- Within a cohort each label of the pattern is absent independently, at a rate of the cohort's own. The rate has a beta
  prior worth USUAL_CASES cases at the usual rate, and is cut at a ceiling. Patients seldom lack an organ, and somewhat
  more often a *finding*, such as a tumor; what is lacking more often than that was not looked for. This tells cohorts
  apart.
- A case may be *cut short*, with probability CUT_SHORT; then all subsets of the pattern are equally likely. So one odd
  scan founds no cohort.
- A collection that is a single cohort may lack findings at any rate: nothing in it suggests a second way to annotate.

A cohort with a declared pattern is given, and other cases may join it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, gammaln, xlog1py, xlogy

USUAL, MOST = 0.03, 0.10
"""The usual and the highest rate at which an organ is absent. The organ that is absent most often is the gallbladder,
in about one patient of ten (cholecystectomy)."""

USUAL_FINDING, MOST_FINDING = 0.10, 0.20
"""The same for findings: in LiTS 13 of 131 cases are without a tumor; in other collections up to a fifth."""

USUAL_CASES = 20
CUT_SHORT = 0.02
IN_DOUBT = 2.0
"""How many times as likely as "not looked for" it must be that a label was absent. The two mistakes differ: a label
wrongly taken for absent is taught as background, one wrongly taken for not looked for is only not taught."""

_AT_ONCE = 400
"""How many distinct rows are merged pair by pair at once: the work grows with their square."""

_NOTHING = 1e-9
"""Smaller gains do not count, because rounding could have made them."""


@dataclass(frozen=True)
class Rates:
    """How often a cohort lacks a label of its pattern: for each label a beta distribution, cut at a ceiling.

    lacking  [L]: its first parameter, as if so many cases without the label had been seen before
    having   [L]: its second parameter, as if so many cases with the label had been seen before
    ceiling  [L]: the highest rate
    """

    lacking: np.ndarray
    having: np.ndarray
    ceiling: np.ndarray

    def expected(self, absent: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """The expected rates [K, L] in cohorts of `whole` cases [K, 1], of which `absent` [K, L] lack the label."""
        return np.minimum((absent + self.lacking) / (whole + self.lacking + self.having), self.ceiling)

    def cost(self, absent: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """-log of the probability of such cases, [K, L]. Where the likeliest rate lies above the ceiling, the cost is
        higher by as much as these cases cost more at the ceiling than at that rate."""
        free = betaln(self.lacking, self.having) - betaln(absent + self.lacking, whole - absent + self.having)
        likeliest = xlogy(absent, absent) + xlogy(whole - absent, whole - absent) - xlogy(whole, whole)
        at_ceiling = xlogy(absent, self.ceiling) + xlog1py(whole - absent, -self.ceiling)
        return free + np.where(absent > whole * self.ceiling, likeliest - at_ceiling, 0)


def rates_of(finding: np.ndarray, *, one_cohort: bool = False) -> Rates:
    """The Rates of labels.

    finding     bool [L]: which labels are findings
    one_cohort  whether the collection is a single cohort, in which findings may be absent at any rate
    """
    usual, ceiling = np.where(finding, USUAL_FINDING, USUAL), np.where(finding, MOST_FINDING, MOST)
    free = finding & one_cohort
    lacking, having = (np.where(free, 1.0, USUAL_CASES * rate) for rate in (usual, 1 - usual))
    return Rates(lacking, having, np.where(free, 1.0, ceiling))


@dataclass(frozen=True)
class Evidence:
    """The cases, with a row for each distinct one. The order of rows and labels does not depend on names or numbers.

    present   bool [D, L]: the labels in the mask
    count     [D]: how many cases are like this
    declared  [D]: index of the declared pattern, or -1
    patterns  bool [P, L]: the declared patterns
    finding   bool [L]: the labels that patients may well be without
    """

    present: np.ndarray
    count: np.ndarray
    declared: np.ndarray
    patterns: np.ndarray
    finding: np.ndarray

    @property
    def rates(self) -> Rates:
        return rates_of(self.finding)


@dataclass(frozen=True)
class Tally:
    """All that the cost of cohorts depends on, with a row for each cohort.

    pattern   bool [K, L]: the labels looked for
    seen      [K, L]: in how many whole cases the label is present
    whole     [K]: how many cases are whole
    cut       [K]: how many cases are cut short
    declared  bool [K]: whether the pattern was declared
    """

    pattern: np.ndarray
    seen: np.ndarray
    whole: np.ndarray
    cut: np.ndarray
    declared: np.ndarray

    def rows(self, index) -> Tally:
        return Tally(*(field[index] for field in self._fields))

    def joined(self, other: Tally) -> Tally:
        """Row by row, the cohort of this and that of `other` as one."""
        pattern, declared = self.pattern | other.pattern, self.declared | other.declared
        return Tally(pattern, self.seen + other.seen, self.whole + other.whole, self.cut + other.cut, declared)

    def without(self, other: Tally) -> Tally:
        """Row by row, the cohort without the cases of `other`, which it holds; its pattern stays."""
        whole, cut = self.whole - other.whole, self.cut - other.cut
        return Tally(self.pattern, self.seen - other.seen, whole, cut, self.declared)

    def as_cut(self) -> Tally:
        """The same cohorts, with all cases cut short."""
        nothing = np.zeros_like(self.whole)
        return Tally(self.pattern, np.zeros_like(self.seen), nothing, self.whole + self.cut, self.declared)

    @property
    def size(self) -> np.ndarray:
        return self.whole + self.cut

    @property
    def _fields(self) -> tuple[np.ndarray, ...]:
        return self.pattern, self.seen, self.whole, self.cut, self.declared


def cost(cohorts: Tally, rates: Rates) -> np.ndarray:
    """The cost of each cohort, [K]; the cost of a partition is their sum."""
    whole = cohorts.whole[:, None]
    absent = np.where(cohorts.pattern, whole - cohorts.seen, 0)
    lacking = np.where(cohorts.pattern, rates.cost(absent, whole), 0)
    founding = np.where(cohorts.declared, 0, _cost_of_naming(cohorts.pattern))
    return founding - gammaln(cohorts.size) + lacking.sum(axis=1) + cohorts.cut * _cost_of_a_cut(cohorts.pattern)


def case_costs(evidence: Evidence, cohorts: Tally) -> tuple[np.ndarray, np.ndarray]:
    """What a case of each row costs in each cohort, as a whole case and as one cut short: two arrays [D, K].

    The cost is infinite where the case holds a label that the cohort does not look for, or was declared to be of
    another pattern. An empty mask cannot be a scan cut short.
    """
    whole = cohorts.whole[:, None]
    rate = evidence.rates.expected(whole - cohorts.seen, whole)
    there, lacking = (np.where(cohorts.pattern, -np.log(part), 0) for part in (1 - rate, rate))
    costs = evidence.present @ (there - lacking).T + lacking.sum(axis=1)
    apart = evidence.present @ (~cohorts.pattern).T.astype(float) > 0
    for row in np.flatnonzero(evidence.declared >= 0):
        own = cohorts.declared & (cohorts.pattern == evidence.patterns[evidence.declared[row]]).all(axis=1)
        apart[row] = ~own
    costs -= np.log(cohorts.size)
    cut = np.broadcast_to(_cost_of_a_cut(cohorts.pattern) - np.log(cohorts.size), costs.shape)
    empty = ~evidence.present.any(axis=1, keepdims=True)
    return np.where(apart, np.inf, costs), np.where(apart | empty, np.inf, cut)


def partition(evidence: Evidence) -> tuple[np.ndarray, Tally]:
    """The likeliest partition: the cohort of each row, [D], and the cohorts.

    Rows are merged pair by pair as long as the cost falls; then each row moves to the cohort where it costs least,
    until nothing changes. The result does not depend on the order of the cases.
    """
    owner, cohorts = _settle(evidence, _gather(evidence))
    if len(evidence.patterns):
        return owner, cohorts
    alone = np.zeros(len(evidence.count), dtype=int)
    one = tally(evidence, alone, np.zeros(len(alone), dtype=bool))
    if cost(one, rates_of(evidence.finding, one_cohort=True)).sum() < cost(cohorts, evidence.rates).sum():
        return alone, one
    return owner, cohorts


def tally(evidence: Evidence, owner: np.ndarray, cut: np.ndarray) -> Tally:
    """The cohorts of a partition.

    owner  [D]: the cohort of each row, numbered from 0 without gaps
    cut    bool [D]: whether the cases of the row are cut short
    """
    size = int(owner.max()) + 1
    member = owner == np.arange(size)[:, None]
    whole = member * evidence.count * ~cut
    pattern = member.astype(float) @ evidence.present > 0
    declared = np.full(size, -1)
    declared[owner[evidence.declared >= 0]] = evidence.declared[evidence.declared >= 0]
    pattern[declared >= 0] = evidence.patterns[declared[declared >= 0]]
    seen = whole @ evidence.present.astype(float)
    cut_short = (member * evidence.count * cut).sum(axis=1).astype(float)
    return Tally(pattern, seen, whole.sum(axis=1).astype(float), cut_short, declared >= 0)


def _gather(evidence: Evidence) -> np.ndarray:
    """A first partition: the cohort of each row, [D]. It takes some hundred rows at a time: rows that fit a cohort join
    it, the others are merged."""
    order = np.concatenate([np.flatnonzero(evidence.declared >= 0), np.flatnonzero(evidence.declared < 0)])
    owner = np.full(len(order), -1)
    while order.size:
        now, order = order[:_AT_ONCE], order[_AT_ONCE:]
        owner[now] = owner.max() + 1 + np.arange(len(now))
        known = np.flatnonzero(owner >= 0)
        part = _part(evidence, known)
        groups = _merge(tally(part, owner[known], np.zeros(len(known), dtype=bool)), evidence.rates)
        owner[known] = groups[owner[known]]
        if order.size:
            cohorts = tally(part, owner[known], np.zeros(len(known), dtype=bool))
            costs = np.minimum(*case_costs(_part(evidence, order), cohorts))
            fits = costs.min(axis=1) < _cost_of_naming(evidence.present[order])
            owner[order[fits]] = costs[fits].argmin(axis=1)
            order = order[~fits]
    return owner


def _settle(evidence: Evidence, owner: np.ndarray) -> tuple[np.ndarray, Tally]:
    """Merge cohorts, and move rows to where they cost least, as long as the cost of the partition falls."""
    cut = np.zeros(len(owner), dtype=bool)
    best = tally(evidence, owner, cut)
    lowest, improves = cost(best, evidence.rates).sum(), True
    while improves:
        improves = False
        for group in (_merge, _absorb):
            start = tally(evidence, group(best, evidence.rates)[owner], cut)
            moved, moved_cut = _assign(evidence, start)
            trial = tally(evidence, moved, moved_cut)
            if (now := cost(trial, evidence.rates).sum()) < lowest - _NOTHING:
                owner, cut, best, lowest, improves = moved, moved_cut, trial, now, True
    return owner, best


def _absorb(cohorts: Tally, rates: Rates) -> np.ndarray:
    """Let one cohort take in several cohorts of smaller patterns at once, the one that saves most by it; returns groups
    as _merge does.

    Cases without one label, cases without another and cases without both can each seem a cohort while they are apart:
    only together do they show that both labels are absent independently. Cohorts that lack fewest labels come first.
    """
    costs, best, groups = cost(cohorts, rates), -_NOTHING, np.arange(len(cohorts.whole))
    for row, pattern in enumerate(cohorts.pattern):
        lacking = (pattern & ~cohorts.pattern).sum(axis=1)
        inside = (cohorts.pattern <= pattern).all(axis=1) & ~cohorts.declared & cohorts.pattern.any(axis=1)
        inside[row] = False
        together, change, others = cohorts.rows([row]), -costs[row], np.argsort(lacking, kind="stable")
        for count, other in enumerate(others := others[inside[others]], start=1):
            together = together.joined(cohorts.rows([other]))
            change -= costs[other]
            if (now := change + cost(together, rates)[0]) < best:
                best, groups = now, np.arange(len(costs))
                groups[others[:count]] = row
    return np.unique(groups, return_inverse=True)[1]


def _assign(evidence: Evidence, cohorts: Tally) -> tuple[np.ndarray, np.ndarray]:
    whole, cut = case_costs(evidence, cohorts)
    owner = np.minimum(whole, cut).argmin(axis=1)
    rows = np.arange(len(owner))
    _, numbered = np.unique(owner, return_inverse=True)
    return numbered, cut[rows, owner] < whole[rows, owner]


def _merge(cohorts: Tally, rates: Rates) -> np.ndarray:
    """Merge the pair of cohorts that saves most, again and again; returns the new cohort of each, [K]."""
    size = len(cohorts.whole)
    group = np.arange(size)
    change = np.full((size, size), np.inf)
    for row in range(size):
        change[row, :row] = _pairs(cohorts, row, rates)[0][:row]
    while size > 1:
        drop, keep = divmod(int(change.argmin()), size)  # only pairs with keep < drop are filled in
        if change[drop, keep] > -_NOTHING:
            break
        cohorts = _with_row(cohorts, keep, _pairs(cohorts, keep, rates)[1].rows([drop]))
        group[group == drop] = keep
        change[drop] = change[:, drop] = np.inf
        alive = np.isin(np.arange(size), group)
        new = np.where(alive, _pairs(cohorts, keep, rates)[0], np.inf)
        change[keep, :keep], change[keep + 1 :, keep] = new[:keep], new[keep + 1 :]
    return np.unique(group, return_inverse=True)[1]


def _pairs(cohorts: Tally, row: int, rates: Rates) -> tuple[np.ndarray, Tally]:
    """By how much the cost would change if cohort `row` were merged with each other one, [K], and the merged cohorts.

    The whole cases of both stay whole, or all cases of one become cut-short cases of the other, whichever costs less.
    """
    one = cohorts.rows([row] * len(cohorts.whole))
    inside = (one.pattern <= cohorts.pattern).all(axis=1) & one.pattern.any(axis=1)
    around = (cohorts.pattern <= one.pattern).all(axis=1) & cohorts.pattern.any(axis=1)
    whole = one.joined(cohorts)
    options = (whole, one.as_cut().joined(cohorts), one.joined(cohorts.as_cut()))
    costs = np.stack([cost(option, rates) for option in options])
    costs[1, ~inside] = costs[2, ~around] = np.inf
    strangers = ~(one.pattern & cohorts.pattern).any(axis=1) & one.pattern.any(axis=1) & cohorts.pattern.any(axis=1)
    alters = (one.declared & (whole.pattern != one.pattern).any(axis=1)) | (
        cohorts.declared & (whole.pattern != cohorts.pattern).any(axis=1)
    )
    costs[:, strangers | alters] = np.inf
    best = costs.argmin(axis=0)
    pairs = Tally(*(np.stack(fields)[best, np.arange(len(best))] for fields in zip(*(o._fields for o in options))))
    change = costs.min(axis=0) - cost(one, rates) - cost(cohorts, rates)
    change[row] = np.inf
    return change, pairs


def _with_row(cohorts: Tally, index: int, row: Tally) -> Tally:
    fields = [field.copy() for field in cohorts._fields]
    for field, value in zip(fields, row._fields):
        field[index] = value[0]
    return Tally(*fields)


def _part(evidence: Evidence, rows: np.ndarray) -> Evidence:
    present, count, declared = evidence.present[rows], evidence.count[rows], evidence.declared[rows]
    return Evidence(present, count, declared, evidence.patterns, evidence.finding)


def _cost_of_naming(pattern: np.ndarray) -> np.ndarray:
    labels, size = pattern.shape[1], pattern.sum(axis=1)
    ways = gammaln(labels + 1) - gammaln(size + 1) - gammaln(labels - size + 1)
    return math.log(labels + 1) + ways - math.log(IN_DOUBT)


def _cost_of_a_cut(pattern: np.ndarray) -> np.ndarray:
    return pattern.sum(axis=1) * math.log(2) - math.log(CUT_SHORT)
