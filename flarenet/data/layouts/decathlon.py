"""The layout of the Medical Segmentation Decathlon, and of nnU-Net v1 sets made after it.

dataset.json lists `training` as {"image", "label"} and `test` as paths; `labels` maps values to names. Such a set is
annotated for every label of its table. Format: http://medicaldecathlon.com, and nnU-Net v1's documentation.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...errors import DatasetError, UnsafeError
from ...schema import LARGEST_TABLE_BYTES, Frozen, parse, read_json
from ..label_table import LabelTable, label_table
from ..names import CHANNEL, case_name, check_path, spelled, stem_of
from ..reading import Reading
from .source import Source, SourceCase, has_keys, ignore_of


class TrainingEntry(Frozen):
    image: str
    label: str


class DecathlonFile(Frozen):
    """What is read of dataset.json; its other keys (name, licence, tensorImageSize ...) are ignored."""

    labels: dict[str, str]
    modality: dict[str, str]
    training: tuple[TrainingEntry, ...]
    test: tuple[str | TrainingEntry, ...] = ()


def is_decathlon(folder: Path) -> bool:
    return has_keys(folder, "training", "labels")


def read_decathlon(folder: Path, reading: Reading) -> Source:
    """The source of such a set. Raises UnsafeError for a path that leads out of it, unless a person allowed that."""
    path = folder / "dataset.json"
    data = read_json(path, DatasetError, largest_bytes=LARGEST_TABLE_BYTES)
    content = parse(DecathlonFile, {k: data[k] for k in DecathlonFile.model_fields if k in data}, path, DatasetError)
    if len(content.modality) != 1:
        found = ", ".join(content.modality.values()) or "none"
        expected = "one: several channels are not supported yet"
        raise DatasetError(f"{path}: key 'modality'", found=found, expected=expected)
    table = _table(content, path)
    names = table.labels.names
    place = partial(_inside, folder, allow_external=reading.allow_external)
    where = f"{path}: key 'training"
    cases = [_case(entry, place, names[1:], f"{where}.{number}") for number, entry in enumerate(content.training)]
    test = [_case(entry, place, names[1:], f"{path}: key 'test.{number}") for number, entry in enumerate(content.test)]
    named = _told_apart([*cases, *test], folder)
    return Source(
        folder,
        "Medical Segmentation Decathlon",
        table.labels,
        {value: names[mine] for value, mine in table.values.items()} | ignore_of(table.ignore),
        named[: len(cases)],
        named[len(cases) :],
        modality=next(iter(content.modality.values())),
    )


def _table(content: DecathlonFile, path: Path) -> LabelTable:
    wrong = [value for value in content.labels if not value.isdecimal()]
    if wrong:
        expected = 'values before names: {"0": "background", "1": "liver"}'
        raise DatasetError(f"{path}: key 'labels'", found=repr(wrong[0]), expected=expected)
    named = {name: int(value) for value, name in content.labels.items()}
    if len(named) < len(content.labels):
        raise DatasetError(f"{path}: key 'labels'", found=content.labels, expected="different names")
    return label_table(named, None, {}, path)


def _case(
    entry: str | TrainingEntry, place: Callable[[str, str], Path], names: tuple[str, ...], where: str
) -> SourceCase:
    image = place(entry if isinstance(entry, str) else entry.image, f"{where}'")
    if isinstance(entry, str):
        return SourceCase(case_name(image), image)
    return SourceCase(case_name(image), image, place(entry.label, f"{where}.label'"), names)


def _told_apart(cases: Sequence[SourceCase], folder: Path) -> tuple[SourceCase, ...]:
    """The cases; those called the same, as where each lies in a folder of its own, are named by their paths from
    `folder` on: case_00000/imaging.nii.gz is case_00000_imaging."""
    counts = Counter(spelled(case.name) for case in cases)
    return tuple(
        case if counts[spelled(case.name)] == 1 else replace(case, name=_path_name(case, folder)) for case in cases
    )


def _path_name(case: SourceCase, folder: Path) -> str:
    above = Path(os.path.relpath(case.image.parent, folder)).parts  # ".." where it lies outside
    return "_".join([*(part for part in above if part != os.pardir), case.name])


def _inside(folder: Path, path: str, where: str, *, allow_external: bool) -> Path:
    """`folder / path`, which leads out of it only where a person allows it; nnU-Net v1 lists CASE.nii.gz for
    CASE_0000.nii.gz."""
    check_path(path, where)
    full = folder / path
    if not allow_external and not full.resolve().is_relative_to(folder.resolve()):
        remedy = "--allow-external, if you trust this file"
        raise UnsafeError(where, found=path, expected=f"a file below {folder}", remedy=remedy)
    stem = stem_of(full.name)
    channel = full.with_name(stem + CHANNEL + full.name[len(stem) :])
    return channel if not full.exists() and channel.exists() else full
