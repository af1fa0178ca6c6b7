"""nnU-Net v2's layout: dataset.json next to imagesTr and labelsTr, or the two folders alone."""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError
from ..dataset import Case
from ..dataset_file import read_dataset
from ..labels import HIDDEN, IGNORE, LabelSet
from ..names import FILE_ENDINGS, files_in
from ..reading import Reading
from .source import Source, SourceCase, has_keys, ignore_of, pair


def has_dataset_file(folder: Path) -> bool:
    return has_keys(folder, "channel_names")


def read_dataset_file(folder: Path, reading: Reading) -> Source:
    """The source of flarenet's or nnU-Net v2's dataset.json, with or without its `dataset` table."""
    dataset = read_dataset(folder, reading)
    labels = dataset.labels
    return Source(
        folder,
        "nnU-Net v2",
        labels,
        {value: labels.names[value] for value in labels.values} | ignore_of(dataset.ignore),
        tuple(_named(case, labels) for case in dataset.cases),
        tuple(_named(case, labels) for case in dataset.test),
        modality=dataset.modality,
    )


def has_folders(folder: Path) -> bool:
    return (folder / "imagesTr").is_dir() and not (folder / "dataset.json").exists()


def read_folders(folder: Path) -> Source:
    """The source of a set without dataset.json: nothing in it names its labels."""
    cases, test = (
        pair(files_in(folder / f"images{part}"), files_in(folder / f"labels{part}")) for part in ("Tr", "Ts")
    )
    if not cases:
        raise DatasetError(folder / "imagesTr", found="no image", expected="*" + " or *".join(FILE_ENDINGS))
    return Source(folder, "nnU-Net v2, folders only", None, {}, cases, test)


def _named(case: Case, labels: LabelSet) -> SourceCase:
    annotated = labels.names_of(case.annotated) if case.declared and case.label is not None else None
    names = dict(enumerate(labels.names)) | {0: None, HIDDEN: IGNORE}
    values = {before: names[after] for before, after in case.values.items()}
    return SourceCase(case.name, case.image, case.label, annotated, values, case.patient)
