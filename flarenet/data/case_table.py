"""The cases of dataset.json: names, paths, values, and what was looked for, by case or by cohort."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..errors import DatasetError, UnsafeError
from ..schema import Frozen
from .dataset import Case
from .label_table import LARGEST_VALUE, LabelTable
from .labels import HIDDEN
from .names import check_name, check_path, composed, spelled
from .problems import Problems
from .reading import Reading


class CaseEntry(Frozen):
    """One case of the tables. Paths are relative to the folder of dataset.json.

    images     the path of its image; exactly one, because only one channel is supported
    annotated  the labels looked for, by value or name
    values     value in the label file -> value in `labels`, 0 for what is to be background
    patient    who was scanned; the cases of one patient are held out together
    """

    images: tuple[str, ...]
    label: str | None = None
    annotated: tuple[Any, ...] | None = None
    values: dict[Annotated[int, Field(ge=0, le=LARGEST_VALUE)], int] | None = None
    patient: str | None = None


class CohortEntry(Frozen):
    """What was looked for in all cases of a cohort.

    cases  their names, or patterns of names, with * and ?. A case without a label that only a pattern names stays
           unlabelled
    """

    annotated: tuple[Any, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True)
class AllCases:
    """The two case tables of a file, by composed names, and what it takes to make Cases of them.

    table    the label table; None where it is already known to be wrong
    trusted  the folders that files may lie below, all resolved: the set's own, then those that a person named
    """

    training: Mapping[str, CaseEntry]
    test: Mapping[str, CaseEntry]
    folder: Path
    table: LabelTable | None
    reading: Reading
    trusted: tuple[Path, ...]
    problems: Problems

    def cases(self, cohorts: Mapping[str, CohortEntry]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """(training, test), without the cases that are refused."""
        annotated = self._by_cohort(cohorts)
        training, test = (
            tuple(case for name, entry in part.items() if (case := self._case(name, entry, key, annotated.get(name))))
            for key, part in (("dataset", self.training), ("test", self.test))
        )
        self._check_distinct([*training, *test])
        refused = {finding.case for finding in self.problems.findings if finding.severity == "refuse"}
        training, test = (tuple(case for case in part if case.name not in refused) for part in (training, test))
        return training, test

    @property
    def _source(self) -> Path:
        return self.folder / "dataset.json"

    def _by_cohort(self, cohorts: Mapping[str, CohortEntry]) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Case name -> (its cohort, the values looked for in it); empty where the label table is not known."""
        if self.table is None:
            return {}
        names = [*self.training, *self.test]
        unlabelled = {name for part in (self.training, self.test) for name in part if part[name].label is None}
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for cohort, entry in cohorts.items():
            where = f"{self._source}: key 'patterns.{cohort}"
            with self.problems.collected():
                pattern = self.table.resolve(entry.annotated, f"{where}.annotated'")
                wanted = [composed(name) for name in entry.cases]
                aside = unlabelled - set(wanted)
                matched = _matching(wanted, names, f"{where}.cases'")
                for name in [name for name in matched if name not in aside]:
                    other, before = found.setdefault(name, (cohort, pattern))
                    if set(before) != set(pattern):
                        expected = f"one pattern: cohort {other} says {list(before)}"
                        error = DatasetError(f"{where}.cases'", found=f"{name}, as {list(pattern)}", expected=expected)
                        self.problems.add(error, case=name)
        return found

    def _case(self, name: str, entry: CaseEntry, key: str, cohort: tuple[str, tuple[int, ...]] | None) -> Case | None:
        where = f"{self._source}: key '{key}.{name}"
        before = len(self.problems.errors)
        with self.problems.collected(name):
            check_name(name, f"{where}'")
        with self.problems.collected(name):
            image = self._image(entry, where)
        label: Path | None = None
        with self.problems.collected(name):
            label = None if entry.label is None else self._inside(entry.label, f"{where}.label'")
        with self.problems.collected(name):
            values = self._values(entry, where)
            annotated, declared = self._annotated(entry, where, cohort, set(values.values()) - {0, HIDDEN})
        if len(self.problems.errors) > before:
            return None
        return Case(
            name, image, label, annotated, declared=declared, values=values, patient=entry.patient, reading=self.reading
        )

    def _image(self, entry: CaseEntry, where: str) -> Path:
        if len(entry.images) != 1:
            expected = "one image: several channels are not supported yet"
            raise DatasetError(f"{where}.images'", found=f"{len(entry.images)} images", expected=expected)
        return self._inside(entry.images[0], f"{where}.images'")

    def _annotated(
        self, entry: CaseEntry, where: str, cohort: tuple[str, tuple[int, ...]] | None, drawable: set[int]
    ) -> tuple[frozenset[int], bool]:
        """(values looked for, whether that was stated).

        drawable  the values that the label file can hold; empty: all
        """
        declared, key, given = entry.annotated is not None, f"{where}.annotated'", entry.annotated
        if given is None and cohort is not None:
            declared, key, given = True, f"{self._source}: key 'patterns.{cohort[0]}.annotated'", cohort[1]
        if entry.label is None:
            if given:
                expected = "[], because the case has no 'label'"
                raise DatasetError(key, found=list(given), expected=expected)
            return frozenset(), True
        if given is not None and not given:
            raise DatasetError(key, found=[], expected="the values looked for in the label file, or no 'label'")
        if self.table is None:
            return frozenset(), declared
        if given is None:
            return frozenset(drawable or self.table.labels.values), False
        # a cohort's are resolved already
        return frozenset(given if entry.annotated is None else self.table.resolve(given, key)), True

    def _values(self, entry: CaseEntry, where: str) -> dict[int, int]:
        if self.table is None or entry.label is None:
            return {}
        known = {0: 0, **self.table.as_read}
        if entry.values is None:
            return {} if self.table.is_plain else self.table.as_read
        for before, after in entry.values.items():
            if after not in known or (before == 0 and after != 0):
                expected = "a value of 'labels', or 0 for background"
                raise DatasetError(f"{where}.values.{before}'", found=after, expected=expected)
        return {before: known[after] for before, after in entry.values.items()}

    def _inside(self, path: str, where: str) -> Path:
        """`folder / path`. Raises UnsafeError where it leads out of `trusted`, unless a person allowed that."""
        check_path(path, where)
        full = self.folder / path
        if self.reading.allow_external:
            return full
        real = full.resolve()
        own, *others = self.trusted
        if any(real.is_relative_to(other) for other in others):
            return full
        remedy = (
            "the same --from as before, if that wrote this file; --allow-external, if you trust it; or copy or "
            "hard-link the files into the folder"
        )
        parts = re.split(r"[/\\]", path)
        if ".." in parts or parts[0] in ("", "~") or path[0] == "$" or re.match(r"[A-Za-z]:", path):
            expected = "a path below the folder of dataset.json, without '..'"
            raise UnsafeError(where, found=path, expected=expected, remedy=remedy)
        if not real.is_relative_to(own):
            expected = f"a file below {self.folder}"
            raise UnsafeError(where, found=f"{path}, which is {real}", expected=expected, remedy=remedy)
        return full

    def _check_distinct(self, cases: Sequence[Case]) -> None:
        """Refuse cases, of training and test together, that would write the same files or have the same image."""
        by_name: dict[str, list[str]] = defaultdict(list)
        by_image: dict[Path, list[str]] = defaultdict(list)
        for case in cases:
            by_name[spelled(case.name)].append(case.name)
            by_image[case.image.resolve()].append(case.name)
        for names in by_name.values():
            if len(names) > 1:
                expected = "names that differ in more than case and the spelling of accents, training and test"
                self.problems.add(DatasetError(self._source, found=f"cases {', '.join(names)}", expected=expected))
        for image, names in by_image.items():
            if len(names) > 1:
                found = f"{image.name} in cases {' and '.join(names)}"
                self.problems.add(DatasetError(self._source, found=found, expected="one case for each image"))


def _matching(wanted: Iterable[str], names: Sequence[str], where: str) -> list[str]:
    """Those of `names` that `wanted` names. Raises DatasetError where an entry of it names none."""
    known, found = set(names), []
    for item in wanted:
        matched = [item] if item in known else fnmatch.filter(names, item)
        if not matched:
            raise DatasetError(where, found=f"{item!r}, as no case is named", expected="names, or with * and ?")
        found += matched
    return found
