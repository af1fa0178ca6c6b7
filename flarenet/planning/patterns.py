"""Which cases answer which question, by the labels that were looked for in them.

A pattern is the sorted tuple of the values looked for in a case; () is an unlabelled case. Cases of one pattern are
a cohort. Trainers choose cohorts by these functions, so that a step never names a case: on the five cohorts of
FLARE23, `fullest` of the organs is D_l1, `asking` for the tumor is D_c, `touching_all_groups` is D_l3.
Every function keeps the order it is given and returns () where nothing fits.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from ..data.labels import LabelSet
from ..errors import DatasetError, FlarenetError, StorageError
from ..schema import LARGEST_TABLE_BYTES, read_json, to_json

Pattern = tuple[int, ...]


class Annotated(Protocol):
    """Anything that knows what was looked for in it: a Case, or its fingerprint."""

    @property
    def annotated(self) -> Collection[int]: ...


def cohorts(cases: Iterable[Annotated]) -> tuple[tuple[Pattern, int], ...]:
    """Every pattern with its number of cases, from the most labels to the fewest, then by values."""
    return _counted(tuple(sorted(case.annotated)) for case in cases)


def _counted(patterns: Iterable[Pattern]) -> tuple[tuple[Pattern, int], ...]:
    return tuple(sorted(Counter(patterns).items(), key=lambda item: (-len(item[0]), item[0])))


def unlabelled(patterns: Iterable[Pattern]) -> tuple[Pattern, ...]:
    """The pattern in which nothing was looked for (D_u)."""
    return tuple(pattern for pattern in patterns if not pattern)


def asking(patterns: Iterable[Pattern], group_values: Iterable[int]) -> tuple[Pattern, ...]:
    """The patterns that look for at least one value of the group (D_o5 for the organs, D_c for the tumor)."""
    group = set(group_values)
    return tuple(pattern for pattern in patterns if group & set(pattern))


def fullest(patterns: Iterable[Pattern], group_values: Iterable[int]) -> tuple[Pattern, ...]:
    """The patterns that look for the most values of the group (D_l1, also called D_o13, for the organs)."""
    group = set(group_values)
    candidates = asking(patterns, group)
    most = max((len(group & set(pattern)) for pattern in candidates), default=0)
    return tuple(pattern for pattern in candidates if len(group & set(pattern)) == most)


def touching_all_groups(patterns: Iterable[Pattern], labels: LabelSet) -> tuple[Pattern, ...]:
    """The patterns that look for at least one value of every group (D_l3)."""
    groups = [set(values) for values in labels.groups.values()]
    return tuple(pattern for pattern in patterns if all(group & set(pattern) for group in groups))


def only(patterns: Iterable[Pattern], group_values: Iterable[int]) -> tuple[Pattern, ...]:
    """The patterns that look for values of this group and of no other (D_l4 for the tumor)."""
    group = set(group_values)
    return tuple(pattern for pattern in patterns if pattern and set(pattern) <= group)


def main(words: Sequence[str] | None = None) -> int:
    """`python -m flarenet.planning.patterns FILE.json`: what was looked for in each case, as JSON.

    FILE.json is {case: [values present in its mask]}. Returns the exit code.
    """
    from .cohorts import infer_patterns

    arguments = ArgumentParser(prog="flarenet.planning.patterns", description="Infer what was looked for in each case.")
    arguments.add_argument("file", metavar="FILE.json", help="a JSON object: case -> values present in its mask")
    try:
        present = read_present(arguments.parse_args(words).file)
        inferred = infer_patterns(present)
    except FlarenetError as error:
        print(f"{arguments.prog}: {str(error).replace(chr(10), ';')}", file=sys.stderr)
        return error.exit_code
    absent = {case: sorted({*inferred.patterns[case]} - {*found}) for case, found in present.items()}
    content = {
        "cohorts": [{"annotated": list(p), "cases": count} for p, count in _counted(inferred.patterns.values())],
        "absent": {case: values for case, values in absent.items() if values},
        "ambiguous": inferred.ambiguous,
    }
    try:
        print(to_json(content), flush=True)
    except BrokenPipeError:  # whoever read the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return StorageError.exit_code
    return 0


def read_present(path: str | Path) -> dict[str, frozenset[int]]:
    """{case: the label values in its mask} of a JSON file; 0, the background, counts for nothing.

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


if __name__ == "__main__":
    sys.exit(main())
