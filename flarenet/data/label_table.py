"""The label table of a file (names, values, groups and tolerances, as people write them) and the LabelSet made of it.

A file may number its labels with gaps, a LabelSet has none: here the file's values are translated to those of the set.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import DatasetError, did_you_mean, some_of
from .labels import HIDDEN, IGNORE, LabelSet, named_like_lesion

MOST_LABELS = 254
"""Group maps are uint8 and 255 is HIDDEN."""

LARGEST_VALUE = 65_535
BACKGROUND = "background"
_GROUP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class LabelTable:
    """A LabelSet and how a file numbers its labels.

    labels  with the values 1, 2, 3 ...
    values  the file's value of a label -> its value in `labels`
    ignore  the file's value of IGNORE; None where it has none
    """

    labels: LabelSet
    values: Mapping[int, int]
    ignore: int | None = None

    @property
    def as_read(self) -> dict[int, int]:
        """The file's values -> those of label maps: the values of `labels`, and HIDDEN for `ignore`."""
        return {**self.values, **({} if self.ignore is None else {self.ignore: HIDDEN})}

    @property
    def is_plain(self) -> bool:
        """Whether label maps have the values of the file."""
        return self.ignore is None and all(before == after for before, after in self.values.items())

    def resolve(self, items: Iterable[Any], where: str) -> tuple[int, ...]:
        """The values in `labels` of `items`, which are names or values of the file.

        Raises DatasetError where an item is not a label, or one is given twice.
        """
        items = tuple(items)
        found = [self._value(item) for item in items]
        if None in found or len(set(found)) != len(found):
            wrong = next((str(item) for item, value in zip(items, found) if value is None), "")
            raise DatasetError(
                where,
                found=list(items),
                expected=f"different ones of {self._listed}",
                remedy=did_you_mean(wrong, self.labels.names[1:]),
            )
        return tuple(value for value in found if value is not None)

    def _value(self, item: Any) -> int | None:
        if type(item) is int:  # True is not a number
            return self.values.get(item)
        return self._by_name.get(plain(item)) if isinstance(item, str) else None

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {plain(name): value for value, name in enumerate(self.labels.names) if value}

    @property
    def _listed(self) -> str:
        shown = [f"{value} {self.labels.names[mine]}" for value, mine in sorted(self.values.items())]
        return some_of(shown, 20)


def plain(name: str) -> str:
    """A label's name as names are compared: in small letters, with single spaces in place of _ and -."""
    return " ".join(re.split(r"[\s_-]+", name.strip().lower()))


def label_table(
    values: Mapping[str, Any],
    groups: Mapping[str, Iterable[Any]] | None,
    tolerance_mm: Mapping[str, float],
    source: object,
) -> LabelTable:
    """The label table of a file. Raises DatasetError, naming `source` and the key, for the first mistake.

    values        name -> value; the background is 0, IGNORE the highest
    groups        name -> its labels, by value or name; None: default_groups
    tolerance_mm  label name -> tolerance
    """
    where = f"{source}: key 'labels'"
    by_value, ignore = _by_value(values, where)
    names = (BACKGROUND, *(name for _, name in by_value[1:]))
    _check_names(names, where)
    for name in tolerance_mm:
        if name not in names[1:]:
            raise DatasetError(
                f"{source}: key 'tolerance_mm'",
                found=f"label {name!r}",
                expected=", ".join(names[1:]),
                remedy=did_you_mean(name, names[1:]),
            )
    numbers = {value: mine for mine, (value, _) in enumerate(by_value) if mine}
    plain_table = LabelTable(LabelSet(names=names, groups=default_groups(names)), numbers, ignore)
    if groups is not None:
        given = _check_groups(groups, plain_table, f"{source}: key 'groups'")
    else:
        given = plain_table.labels.groups
    return LabelTable(LabelSet(names=names, groups=given, tolerance_mm=dict(tolerance_mm)), numbers, ignore)


def default_groups(names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The groups of a table that states none: "cancer" holds the labels named like a tumour and is drawn over "organ",
    which holds all others. A group without labels is left out.

    names  index = voxel value; names[0] is the background
    """
    cancer = tuple(v for v, name in enumerate(names) if v and named_like_lesion(name))
    organ = tuple(v for v in range(1, len(names)) if v not in cancer)
    return {group: values for group, values in (("organ", organ), ("cancer", cancer)) if values}


def _by_value(values: Mapping[str, Any], where: str) -> tuple[list[tuple[int, str]], int | None]:
    """(value, name) of each label in the order of the values, the background first; and the value of IGNORE."""
    for name, value in values.items():
        if isinstance(value, list):
            remedy = "regions of several values are not supported yet; name every value, and group them by 'groups'"
            raise DatasetError(
                f"{where}: {name!r}", found=f"a region, {value}", expected="one value per label", remedy=remedy
            )
        if type(value) is not int or not 0 <= value <= LARGEST_VALUE:
            expected = f"a whole number, 0 to {LARGEST_VALUE}"
            raise DatasetError(f"{where}: {name!r}", found=repr(value), expected=expected)
    by_value, ignore = _without_ignore(sorted((value, name) for name, value in values.items()), where)
    shown = ", ".join(f"{name} {value}" for value, name in by_value) or "nothing"
    if not by_value or by_value[0][0] != 0 or plain(by_value[0][1]) != BACKGROUND:
        found = f"{by_value[0][1]!r} with value {by_value[0][0]}" if by_value else "nothing"
        raise DatasetError(where, found=found, expected=f"{BACKGROUND!r} with value 0")
    if len(by_value) < 2 or len({value for value, _ in by_value}) < len(by_value):
        raise DatasetError(where, found=shown, expected="background 0, then a different value for every label")
    if len(by_value) - 1 > MOST_LABELS:
        raise DatasetError(where, found=f"{len(by_value) - 1} labels", expected=f"at most {MOST_LABELS}")
    return by_value, ignore


def _without_ignore(by_value: list[tuple[int, str]], where: str) -> tuple[list[tuple[int, str]], int | None]:
    """The labels without IGNORE, and its value, which as in nnU-Net must be the highest."""
    labels = [(value, name) for value, name in by_value if plain(name) != IGNORE]
    if labels == by_value:
        return by_value, None
    value, name = next(each for each in by_value if each not in labels)
    if by_value[:-1] != labels or value in dict(labels):
        remedy = "another value here; if label files have this one, 'values' of their cases can say what it stands for"
        least = max((label for label, _ in labels), default=0) + 1
        expected = f"one {IGNORE!r}, of a higher value than every label: {least} or more"
        raise DatasetError(f"{where}: {name!r}", found=f"value {value}", expected=expected, remedy=remedy)
    return labels, value


def _check_names(names: tuple[str, ...], where: str) -> None:
    for name, count in Counter(plain(name) for name in names).items():
        if count > 1:
            found = f"{name!r} {count} times (ignoring case, spaces, _ and -)"
            raise DatasetError(where, found=found, expected="once")
    for name in names:
        if not name.strip() or not name.isprintable():
            raise DatasetError(where, found=f"the name {name!r}", expected="a printable name")


def _check_groups(groups: Mapping[str, Iterable[Any]], table: LabelTable, where: str) -> dict[str, tuple[int, ...]]:
    """The groups by values of the table. Raises DatasetError unless every label stands in exactly one."""
    found = {}
    for group, items in groups.items():
        if not _GROUP_NAME.fullmatch(group):
            expected = "a letter, then up to 39 letters, digits, _ or -"
            raise DatasetError(where, found=f"group {group!r}", expected=expected)
        found[group] = table.resolve(items, f"{where}: {group!r}")
        if not found[group]:
            raise DatasetError(f"{where}: {group!r}", found="no value", expected="at least one")
    names, counts = table.labels.names, Counter(value for values in found.values() for value in values)
    for value, count in counts.items():
        if count > 1:
            raise DatasetError(where, found=f"{names[value]} in {count} groups", expected="every label in one")
    missing = [names[value] for value in table.labels.values if value not in counts]
    if missing:
        raise DatasetError(where, found="no group with " + ", ".join(missing), expected="every label in one")
    return found
