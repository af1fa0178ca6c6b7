"""Functions that choose cohorts by the labels that were looked for in their cases.

A pattern is the sorted tuple of the values looked for in a case; () is an unlabelled case. Cases of one pattern are a
cohort. Trainers choose cohorts by these functions, so that a step never names a case. For the five cohorts of FLARE23,
`fullest` for the organs is D_l1, `with_any_of` for the tumor is D_c, `touching_all_groups` is D_l3.
Every function keeps the order it is given, and returns () where nothing fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from ...data.labels import LabelSet

Pattern = tuple[int, ...]


def cohorts(patterns: Iterable[Collection[int]]) -> tuple[tuple[Pattern, int], ...]:
    """Every pattern with its number of cases, sorted from the most labels to the fewest, then by values.

    patterns  the pattern of each case
    """
    counted = Counter(tuple(sorted(pattern)) for pattern in patterns)
    return tuple(sorted(counted.items(), key=lambda item: (-len(item[0]), item[0])))


def unlabelled(patterns: Iterable[Pattern]) -> tuple[Pattern, ...]:
    """The pattern in which nothing was looked for (D_u)."""
    return tuple(pattern for pattern in patterns if not pattern)


def with_any_of(patterns: Iterable[Pattern], group_values: Iterable[int]) -> tuple[Pattern, ...]:
    """The patterns with at least one value of the group (D_o5 for the organs, D_c for the tumor)."""
    group = set(group_values)
    return tuple(pattern for pattern in patterns if group & set(pattern))


def fullest(patterns: Iterable[Pattern], group_values: Iterable[int]) -> tuple[Pattern, ...]:
    """The patterns with the most values of the group (D_l1, also called D_o13, for the organs)."""
    group = set(group_values)
    candidates = with_any_of(patterns, group)
    most = max((len(group & set(pattern)) for pattern in candidates), default=0)
    return tuple(pattern for pattern in candidates if len(group & set(pattern)) == most)


def touching_all_groups(patterns: Iterable[Pattern], labels: LabelSet) -> tuple[Pattern, ...]:
    """The patterns with at least one value of every group (D_l3)."""
    groups = [set(values) for values in labels.groups.values()]
    return tuple(pattern for pattern in patterns if all(group & set(pattern) for group in groups))


def only(patterns: Iterable[Pattern], group_values: Iterable[int]) -> tuple[Pattern, ...]:
    """The patterns with values of this group and of no other (D_l4 for the tumor)."""
    group = set(group_values)
    return tuple(pattern for pattern in patterns if pattern and set(pattern) <= group)
