"""The patterns of a collection, inferred from the labels present in each mask, and the cases a person should look at.

The model is in `partition`; here its input is made and its result is read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...schema import LARGEST_TABLE_BYTES, read_json
from ..rules.patterns import Pattern
from .partition import Evidence, Tally, case_costs, cost, partition

DOUBT = math.log(20)
"""A case is ambiguous if another explanation is at least a twentieth as likely as the one chosen."""

Namer = Callable[[Iterable[int]], str]
Words = Callable[[np.ndarray], str]
Doubts = Iterator[tuple[int, str]]

_Kind = tuple[frozenset[int], Pattern | None]


@dataclass(frozen=True)
class Inferred:
    """The inferred patterns.

    patterns   case -> the values looked for, sorted
    ambiguous  case -> why its pattern is not certain
    """

    patterns: dict[str, Pattern]
    ambiguous: dict[str, str]


def say_values(values: Iterable[int]) -> str:
    return "{" + ", ".join(map(str, sorted(values))) + "}"


def read_present(path: str | Path) -> dict[str, frozenset[int]]:
    """{case: the label values in its mask}, read from a JSON file; 0, the background, is left out.

    Raises DatasetError naming the first case that is not a list of whole numbers from 0 on.
    """
    content = read_json(path, DatasetError, largest_bytes=LARGEST_TABLE_BYTES)
    if not isinstance(content, dict):
        raise DatasetError(path, found=f"a {type(content).__name__}", expected="an object: case -> values present")
    for case, values in content.items():
        if not isinstance(values, list) or any(type(value) is not int or value < 0 for value in values):
            expected = "a list of whole numbers from 0 on"
            raise DatasetError(f"{path}: case {case!r}", found=repr(values)[:80], expected=expected)
    return {case: frozenset(values) - {0} for case, values in content.items()}


def infer_patterns(
    present: Mapping[str, Collection[int]],
    *,
    declared: Mapping[str, Pattern] | None = None,
    findings: Collection[int] = (),
    namer: Namer = say_values,
) -> Inferred:
    """Infer the labels looked for in every case from the labels present in all of them.

    present   case -> the values in its mask, for declared cases too; an empty mask is an empty collection
    declared  case -> its pattern, where it was stated; this is kept, and counts as known
    findings  the values of labels that patients may well be without, such as tumors
    namer     turns values into words, for the reasons

    The result depends neither on the order of the cases nor on which numbers the labels have.
    """
    declared = declared or {}
    if not present:
        return Inferred({}, {})
    values = _by_use(present.values(), declared.values())
    stated = sorted(set(declared.values()))
    kinds = {name: (frozenset(found), declared.get(name)) for name, found in present.items()}
    rows, evidence = _evidence(Counter(kinds.values()), values, stated, findings)
    owner, cohorts = partition(evidence)
    patterns = [_values_of(row, values) for row in cohorts.pattern]
    doubts = _doubts(evidence, owner, cohorts, lambda row: namer(_values_of(row, values)))
    ambiguous = {name: doubts[rows[kind]] for name, kind in kinds.items() if rows[kind] in doubts}
    return Inferred({name: patterns[owner[rows[kind]]] for name, kind in kinds.items()}, ambiguous)


def _evidence(
    kinds: Counter[_Kind], values: list[int], stated: list[Pattern], findings: Collection[int]
) -> tuple[dict[_Kind, int], Evidence]:
    """The row of each distinct kind of case, most frequent first, and the Evidence that these rows make."""

    def flags(found: Iterable[int]) -> list[bool]:
        return [value in set(found) for value in values]

    def number(pattern: Pattern | None) -> int:
        return -1 if pattern is None else stated.index(pattern)

    def order(kind: _Kind) -> tuple:
        found, pattern = kind
        return -kinds[kind], -len(found), [not flag for flag in flags(found)], number(pattern)

    ordered = sorted(kinds, key=order)
    evidence = Evidence(
        present=np.array([flags(found) for found, _ in ordered], dtype=bool).reshape(len(ordered), len(values)),
        count=np.array([kinds[kind] for kind in ordered]),
        declared=np.array([number(pattern) for _, pattern in ordered]),
        patterns=np.array([flags(pattern) for pattern in stated], dtype=bool).reshape(len(stated), len(values)),
        finding=np.array([value in findings for value in values], dtype=bool),
    )
    return {kind: row for row, kind in enumerate(ordered)}, evidence


def _by_use(present: Iterable[Collection[int]], declared: Iterable[Pattern]) -> list[int]:
    """Every value, ordered by how it is used in the cases and, only in a tie, by its number."""
    sizes: dict[int, Counter[int]] = {}
    for found in present:
        for value in set(found):
            sizes.setdefault(value, Counter())[len(set(found))] += 1
    for pattern in declared:
        for value in pattern:
            sizes.setdefault(value, Counter())
    return sorted(sizes, key=lambda value: (-sizes[value].total(), sorted(sizes[value].items()), value))


def _values_of(row: np.ndarray, values: list[int]) -> Pattern:
    return tuple(sorted(value for value, flag in zip(values, row) if flag))


def _doubts(evidence: Evidence, owner: np.ndarray, cohorts: Tally, say: Words) -> dict[int, str]:
    """Row -> reason, for the rows whose cohort is not certain. Declared rows are never in doubt."""
    doubts: dict[int, str] = {}
    for find in (_fit_two_cohorts, _lack_too_often, _could_be_their_own, _could_be_one):
        for row, reason in find(evidence, owner, cohorts, say):
            if evidence.declared[row] < 0:
                doubts.setdefault(row, reason)
    return doubts


def _fit_two_cohorts(evidence: Evidence, owner: np.ndarray, cohorts: Tally, say: Words) -> Doubts:
    """Rows that a second cohort explains nearly as well, or by only one more label being absent."""
    costs = np.minimum(*case_costs(evidence, cohorts))
    for row, (own, present) in enumerate(zip(owner, evidence.present)):
        lacking = cohorts.pattern & ~present
        spare = lacking.sum(axis=1)
        near = costs[row] < costs[row, own] + DOUBT
        if spare[own]:
            near |= np.isfinite(costs[row]) & (spare <= spare[own] + 1)
        near[own] = False
        if near.any():
            other = int(np.where(near, costs[row], np.inf).argmin())
            taken = f"taken for {say(cohorts.pattern[own])}{_without(lacking[own], say)}"
            yield row, f"{taken}; fits {say(cohorts.pattern[other])}{_without(lacking[other], say)} too"


def _could_be_their_own(evidence: Evidence, owner: np.ndarray, cohorts: Tally, say: Words) -> Doubts:
    """Incomplete rows that are nearly as likely a cohort of their own, in which nobody looked for what they lack; and
    rows that lack so much that only a scan cut short explains it."""
    lacking = cohorts.pattern[owner] & ~evidence.present
    rows = np.flatnonzero(lacking.any(axis=1) & (evidence.count < cohorts.size[owner]))
    if not rows.size:
        return
    count, present = evidence.count[rows].astype(float), evidence.present[rows]
    whole, cut = case_costs(evidence, cohorts)
    is_cut = (cut < whole)[rows, owner[rows]]
    whole_count = count * ~is_cut
    held = Tally(present, present * whole_count[:, None], whole_count, count * is_cut, np.zeros(len(rows), dtype=bool))
    alone = Tally(present, present * count[:, None], count, 0 * count, held.declared)
    together = cohorts.rows(owner[rows])
    apart = cost(alone, evidence.rates) + cost(together.without(held), evidence.rates)
    for row, near in zip(rows.tolist(), (apart < cost(together, evidence.rates) + DOUBT) | is_cut):
        if near:
            how = f"{evidence.count[row]} such case{'s' if evidence.count[row] > 1 else ''}"
            taken = f"taken for {say(cohorts.pattern[owner[row]])}{_without(lacking[row], say)}"
            yield row, f"{taken}; {how} could be a cohort annotated for {say(evidence.present[row])} only"


def _could_be_one(evidence: Evidence, owner: np.ndarray, cohorts: Tally, say: Words) -> Doubts:
    """Rows of cohorts that are nearly as likely a part of another cohort, in which more was looked for."""
    for small, large in _nested(cohorts):
        pair = cohorts.rows([small]), cohorts.rows([large])
        more = cost(pair[0].joined(pair[1]), evidence.rates) - sum(cost(part, evidence.rates) for part in pair)
        if more[0] < DOUBT:
            extra = cohorts.pattern[large] & ~cohorts.pattern[small]
            whole = f"{say(cohorts.pattern[large])}{_without(extra, say)}"
            for row in np.flatnonzero(owner == small).tolist():
                taken = f"taken for {say(cohorts.pattern[small])}"
                yield row, f"{taken}; all {cohorts.size[small]:.0f} such cases could be of {whole}"


def _nested(cohorts: Tally) -> list[tuple[int, int]]:
    numbers = range(len(cohorts.whole))
    return [
        (a, b)
        for a in numbers
        for b in numbers
        if a != b and (cohorts.pattern[a] <= cohorts.pattern[b]).all() and not cohorts.declared[a]
    ]


def _lack_too_often(evidence: Evidence, owner: np.ndarray, cohorts: Tally, say: Words) -> Doubts:
    """Rows that lack a finding which their cohort lacks more often than the model's ceiling for a collection of several
    cohorts."""
    rate = np.where(cohorts.pattern, 1 - cohorts.seen / np.maximum(cohorts.whole, 1)[:, None], 0)
    often = (rate > evidence.rates.ceiling) & evidence.finding
    for row, (own, present) in enumerate(zip(owner, evidence.present)):
        lacking = often[own] & ~present
        if lacking.any():
            share = 100 * rate[own][lacking].max()
            taken = f"taken for {say(cohorts.pattern[own])}{_without(lacking, say)}, as {share:.0f} % of its cohort"
            yield row, f"{taken}: looked for and absent, or not looked for?"


def _without(lacking: np.ndarray, say: Words) -> str:
    return f" with {say(lacking)} absent" if lacking.any() else ""
