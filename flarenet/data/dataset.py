"""A data set as plain data: the labels and the cases, each with what was looked for in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from .labels import HIDDEN, LabelPattern, LabelSet
from .reading import Reading


@dataclass(frozen=True)
class Case:
    """One scan.

    label      None if the case has no label file, or (with `declared` False) if planning inferred that nothing was
               looked for; either way `annotated` is empty
    annotated  the values looked for
    declared   whether `annotated` was stated. If not, `annotated` holds every label that the file can hold, until
               planning infers the pattern, which it does for training cases
    values     value in the label file -> value of the table, or HIDDEN for IGNORE; empty where the two number labels
               alike and nothing is ignored
    patient    who was scanned; None if no other case is known to be of the same person
    reading    how an ambiguous file is to be read
    """

    name: str
    image: Path
    label: Path | None
    annotated: LabelPattern
    declared: bool = True
    values: Mapping[int, int] = field(default_factory=dict)
    patient: str | None = None
    reading: Reading = Reading()

    @property
    def looked_for(self) -> LabelPattern | None:
        """`annotated`, but None for a case without a label file: a reference for it may still exist elsewhere, and an
        empty pattern would mean that nothing is scored."""
        return None if self.label is None and self.declared else self.annotated


@dataclass(frozen=True)
class Dataset:
    """A data set.

    name      that of its folder
    cases     the cases for training
    test      the cases that are never trained on
    modality  what channel_names calls its channel; "CT" however CT is capitalised
    ignore    the value of IGNORE in its table; None where it has none
    """

    name: str
    folder: Path
    labels: LabelSet
    cases: tuple[Case, ...]
    test: tuple[Case, ...]
    modality: str = "CT"
    ignore: int | None = None

    @property
    def values_elsewhere(self) -> dict[int, int]:
        """`values` for label maps that are not a case's own file: those of the table, and `ignore`."""
        return {} if self.ignore is None else {value: value for value in self.labels.values} | {self.ignore: HIDDEN}

    def values_of(self, label: Path) -> Mapping[int, int]:
        """`values` for the label map in a file: those of the case whose own file it is, else values_elsewhere. Another
        file of the same name need not number labels as that one does."""
        return self._own_values.get(label.resolve(), self.values_elsewhere)

    @cached_property
    def _own_values(self) -> dict[Path, Mapping[int, int]]:
        return {case.label.resolve(): case.values for case in (*self.cases, *self.test) if case.label is not None}

    @property
    def by_name(self) -> dict[str, Case]:
        """Every case, training and test, by its name."""
        return {case.name: case for case in (*self.cases, *self.test)}

    def without(self, names: Iterable[str]) -> Dataset:
        """The data set without the training cases of these names."""
        left_out = set(names)
        return replace(self, cases=tuple(case for case in self.cases if case.name not in left_out))
