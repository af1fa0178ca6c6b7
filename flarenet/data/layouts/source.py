"""What a folder of any layout holds, before its labels get the numbers of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DatasetError
from ...schema import LARGEST_TABLE_BYTES, read_json
from ..findings import Finding
from ..folders import paired
from ..labels import IGNORE, LabelSet
from ..reading import Reading


@dataclass(frozen=True)
class SourceCase:
    """One scan, its labels by name.

    annotated  names of the labels looked for; None where that was not stated
    values     value in the label file -> name, IGNORE among them, None for background; empty where those of the Source
               count
    patient    as in data.dataset.Case
    """

    name: str
    image: Path
    label: Path | None = None
    annotated: tuple[str, ...] | None = None
    values: Mapping[int, str | None] = field(default_factory=dict)
    patient: str | None = None


@dataclass(frozen=True)
class Source:
    """A folder that was recognised.

    labels    names, groups and tolerances; None where nothing in the folder names its labels
    values    value in the label files -> name, IGNORE among them
    modality  that of its images; None where nothing in the folder states it
    notes     what was ignored or assumed, for a person to read
    """

    folder: Path
    layout: str
    labels: LabelSet | None
    values: Mapping[int, str]
    cases: tuple[SourceCase, ...]
    test: tuple[SourceCase, ...] = ()
    modality: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def labelled(self) -> bool:
        """Whether any case, of training or test, has a label file."""
        return any(case.label is not None for case in (*self.cases, *self.test))


@dataclass(frozen=True)
class Layout:
    """A way to lay out a data set.

    expects   what such a folder holds, in words
    fits      whether a folder looks like it; cheap
    read      the Source of a folder that fits, read as `Reading` says. Raises DatasetError for what does not fit in it
    findings  all that is wrong with such a folder, where `read` raises only the first; None: `read` finds no more
    """

    name: str
    expects: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Reading], Source]
    findings: Callable[[Path, Reading], Sequence[Finding]] | None = None


def has_keys(folder: Path, *keys: str) -> bool:
    """Whether the folder holds a dataset.json with all of `keys`. Raises DatasetError where that is no JSON."""
    path = folder / "dataset.json"
    content = read_json(path, DatasetError, largest_bytes=LARGEST_TABLE_BYTES) if path.exists() else None
    return isinstance(content, dict) and set(keys) <= set(content)


def ignore_of(value: int | None) -> dict[int, str]:
    """The entry of Source.values for the value of IGNORE; none where there is none."""
    return {} if value is None else {value: IGNORE}


def pair(images: Iterable[Path], labels: Iterable[Path]) -> tuple[SourceCase, ...]:
    """Cases of image files and label files, as folders.paired pairs them."""
    return tuple(SourceCase(*found) for found in paired(images, labels))
