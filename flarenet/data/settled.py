"""A data set with everything resolved by planning, for all that comes after planning.

dataset.json may leave things open: which labels were looked for in a case, where the files of a folder lie. Planning
settles them and writes the result to prepared/NAME/dataset.json; trainers read that file and no other.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..errors import DatasetError
from ..schema import LARGEST_TABLE_BYTES, Frozen, load, save_to_load
from ..workspace import Workspace
from .dataset import Case, Dataset
from .dataset_file import read_dataset
from .labels import LabelSet, difference
from .names import check_name, path_from
from .reading import STRICT, Reading


class SettledCase(Frozen):
    """A Case as JSON. Paths are relative to the folder of the data set, absolute where they lead out of it."""

    name: str
    image: str
    label: str | None = None
    annotated: tuple[int, ...]
    declared: bool = True
    values: dict[int, int] = Field(default_factory=dict)
    patient: str | None = None
    reading: Reading = Reading()


class Settled(Frozen):
    """A Dataset as JSON. `folder` is relative to the folder of the file, so that a root can be moved."""

    largest_bytes = LARGEST_TABLE_BYTES
    version: Literal[1] = 1
    name: str
    folder: str
    labels: LabelSet
    modality: str
    ignore: int | None = None
    cases: tuple[SettledCase, ...]
    test: tuple[SettledCase, ...]


def save_settled(dataset: Dataset, path: str | Path) -> None:
    """Write `dataset` as it is, whole or not at all; training will take each case's `annotated` from here.

    Raises DatasetError where the file would be larger than load_settled takes.
    """
    path, folder = Path(path).absolute(), dataset.folder.absolute()
    settled = Settled(
        name=dataset.name,
        folder=Path(os.path.relpath(folder, path.parent)).as_posix(),
        labels=dataset.labels,
        modality=dataset.modality,
        ignore=dataset.ignore,
        cases=tuple(_to_json(case, folder) for case in dataset.cases),
        test=tuple(_to_json(case, folder) for case in dataset.test),
    )
    save_to_load(settled, path, DatasetError)


def load_settled(path: str | Path) -> Dataset:
    """The data set that save_settled wrote. Raises DatasetError where there is none, or none of this version."""
    path = Path(path).absolute()
    if not path.is_file():
        remedy = f"flarenet_plan {Workspace(path.parents[2], path.parent.name).flags}"
        raise DatasetError(path, found="no such file", expected="the data set as planning settled it", remedy=remedy)
    settled = load(Settled, path, DatasetError)
    folder = Path(os.path.normpath(path.parent / settled.folder))
    cases, test = (tuple(_from_json(case, folder, path) for case in part) for part in (settled.cases, settled.test))
    return Dataset(settled.name, folder, settled.labels, cases, test, settled.modality, settled.ignore)


def read_with_inferred(folder: str | Path, path: str | Path, reading: Reading = STRICT) -> Dataset:
    """The data set of a raw `folder`, with what planning inferred (see with_inferred), for its labels and patterns.

    Its files may lie anywhere, because none of them is to be opened. Raises as read_dataset and load_settled do.
    """
    return with_inferred(read_dataset(folder, reading.model_copy(update={"allow_external": True})), path)


def with_inferred(dataset: Dataset, path: str | Path) -> Dataset:
    """`dataset`, as read from dataset.json, with the patterns that planning inferred for training cases that declare
    none. These cases then count as declared.

    path  where save_settled wrote the patterns. Where there is no such file, or its label table is another, `dataset`
          is returned unchanged
    Raises as load_settled does.
    """
    if all(case.declared for case in dataset.cases) or not Path(path).is_file():
        return dataset
    settled = load_settled(path)
    if difference(settled.labels, dataset.labels):
        return dataset
    inferred = {case.name: case.annotated for case in settled.cases if not case.declared}
    cases = tuple(
        replace(case, annotated=inferred[case.name], declared=True)
        if not case.declared and case.name in inferred
        else case
        for case in dataset.cases
    )
    return replace(dataset, cases=cases)


def _to_json(case: Case, folder: Path) -> SettledCase:
    return SettledCase(
        name=case.name,
        image=path_from(folder, case.image),
        label=None if case.label is None else path_from(folder, case.label),
        annotated=tuple(sorted(case.annotated)),
        declared=case.declared,
        values=dict(case.values),
        patient=case.patient,
        reading=case.reading,
    )


def _from_json(case: SettledCase, folder: Path, source: Path) -> Case:
    check_name(case.name, source)
    return Case(
        name=case.name,
        image=folder / case.image,
        label=None if case.label is None else folder / case.label,
        annotated=frozenset(case.annotated),
        declared=case.declared,
        values=case.values,
        patient=case.patient,
        reading=case.reading,
    )
