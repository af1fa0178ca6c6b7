"""A data set as plain data: the labels and the cases, each with what was looked for in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .labels import LabelPattern, LabelSet
from .reading import Reading


@dataclass(frozen=True)
class Case:
    """One scan. `label` is None where nobody drew anything; then `annotated` is empty. Not declared, it is None where
    planning inferred that nothing was looked for.

    declared  whether `annotated` was stated; where not, it is every label that the file can hold, until planning
              infers it (of training cases)
    values    value in the label file -> value of the table, where the two number labels differently; else empty
    patient   who was scanned; None: nobody of whom there is another case
    reading   how an ambiguous file is to be read
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
        """`annotated`; None where nobody drew anything, which says nothing about a truth that was drawn elsewhere."""
        return None if self.label is None and self.declared else self.annotated


@dataclass(frozen=True)
class Dataset:
    """A data set. `name` is that of its folder; `cases` are for training, `test` is never trained on.

    modality  what channel_names calls its channel; "CT" for CT in any case of letters
    """

    name: str
    folder: Path
    labels: LabelSet
    cases: tuple[Case, ...]
    test: tuple[Case, ...]
    modality: str = "CT"

    @property
    def by_name(self) -> dict[str, Case]:
        """Every case, training and test, by its name."""
        return {case.name: case for case in (*self.cases, *self.test)}

    def without(self, names: Iterable[str]) -> Dataset:
        """The data set without the training cases of these names."""
        left_out = set(names)
        return replace(self, cases=tuple(case for case in self.cases if case.name not in left_out))
