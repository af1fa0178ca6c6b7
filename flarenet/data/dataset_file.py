"""dataset.json -> Dataset: the labels, the groups and the cases of a data set, each with what was looked for in it.

The file is nnU-Net v2's, with additions: `groups` (name -> labels, in drawing order), `tolerance_mm` (of the surface
Dice, by label), `annotated` and `values` per case, `patterns` (what was looked for, by cohort) and a `test` table like
`dataset`. A set without tables is read from its folders: imagesTr/CASE_0000.ext, labelsTr/CASE.ext, imagesTs, labelsTs
(see folders).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..errors import DatasetError, did_you_mean, some_of
from ..schema import Frozen, parse_all, read_json
from .case_table import AllCases, CaseEntry, CohortEntry
from .dataset import Case, Dataset
from .findings import Finding
from .folders import paired
from .label_table import LabelTable, label_table
from .names import CHANNEL, FILE_ENDINGS, composed, files_in, path_from
from .problems import Problems
from .reading import STRICT, Reading

LARGEST_DATASET_FILE_BYTES = 32 << 20
"""Room for 100,000 cases."""

ADDED, NEAR = ("groups", "tolerance_mm", "patterns", "test"), 0.8
"""The keys that nnU-Net does not read, and the similarity (difflib) from which an unknown key counts as one of them,
misspelt."""

NOT_USED = frozenset(
    "name description overwrite_image_reader_writer regions_class_order release reference citation licence license "
    "converted_by dataset_name tensorImageSize numTest author contact".split()
)
"""Keys that are common in nnU-Net's files: not used, and no remark is made."""

_HOW_TO_GET_ONE = (
    "write it (docs/dataset-json.md), or flarenet_plan -d NAME --from FOLDER, which writes it for the scans of FOLDER"
)


class DatasetFile(Frozen):
    """What is read of dataset.json. The keys of NOT_USED are ignored; any other key gets a remark, or is refused as a
    misspelt one: see _check_unknown."""

    channel_names: dict[str, str]
    labels: dict[str, Any]
    numTraining: Annotated[int, Field(ge=0)]
    file_ending: str
    groups: dict[str, tuple[Any, ...]] | None = None
    tolerance_mm: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    patterns: dict[str, CohortEntry] = Field(default_factory=dict)
    dataset: dict[str, CaseEntry] | None = None
    test: dict[str, CaseEntry] | None = None


def read_dataset(
    folder: str | Path,
    reading: Reading = STRICT,
    *,
    sources: Sequence[Path] = (),
    content: Mapping[str, Any] | None = None,
) -> Dataset:
    """The data set of a folder that holds dataset.json.

    reading  what a person decided; the cases carry it
    sources  further folders that a person named, whose files the cases may be
    content  that of the dataset.json, where it is known already
    The files of the cases are not looked at: see verify.
    Raises the first mistake: DatasetError naming file, key, found and expected; UnsafeError for a path that leaves the
    folder or a case name that cannot be a file name. dataset_findings has them all.
    """
    dataset, problems = _read(Path(folder), reading, sources, content)
    if problems.errors or dataset is None:
        raise problems.errors[0]
    return dataset


def dataset_findings(
    folder: str | Path,
    reading: Reading = STRICT,
    *,
    sources: Sequence[Path] = (),
    content: Mapping[str, Any] | None = None,
) -> tuple[Dataset | None, list[Finding]]:
    """As read_dataset, with everything that is wrong instead of the first.

    A refusal of a case leaves the case out of the data set; one of the set (`case` empty) means that there is none.
    """
    dataset, problems = _read(Path(folder), reading, sources, content)
    return dataset, problems.findings


def _read(folder: Path, reading: Reading, sources: Sequence[Path], content: Any) -> tuple[Dataset | None, Problems]:
    problems = Problems()
    with problems.collected():
        if content is None:
            path, most = folder / "dataset.json", LARGEST_DATASET_FILE_BYTES
            content = read_json(path, DatasetError, largest_bytes=most, absent=_HOW_TO_GET_ONE)
        return _dataset(content, folder, reading, sources, problems), problems
    return None, problems


def _dataset(data: Any, folder: Path, reading: Reading, sources: Sequence[Path], problems: Problems) -> Dataset | None:
    source = folder / "dataset.json"
    content = _parse(data, source, problems)
    if content is None:
        return None
    table: LabelTable | None = None
    with problems.collected():
        table = label_table(content.labels, content.groups, content.tolerance_mm, source)
    with problems.collected():
        _check_channels(content, source)
    with problems.collected():
        _check_ending(content, source)
    training, test = _tables(content, data, folder, problems)
    trusted = (folder.resolve(), *(source.resolve() for source in sources))
    every = AllCases(training, test, folder=folder, table=table, reading=reading, trusted=trusted, problems=problems)
    cases, held_out = every.cases(content.patterns)
    if table is None or problems.refuse_the_set:
        return None
    _remark(cases, len(training), table, source=source, problems=problems)
    name = Path(os.path.abspath(folder)).name  # a link's own, by which commands know the set
    return Dataset(name, folder, table.labels, cases, held_out, _modality(content), table.ignore)


def _parse(data: Any, source: Path, problems: Problems) -> DatasetFile | None:
    """The file's content without the cases whose entries are malformed; None where anything else is."""
    if not isinstance(data, dict):
        problems.add(DatasetError(source, found=type(data).__name__, expected="a JSON object"))
        return None
    for key in data:
        if key not in DatasetFile.model_fields and key not in NOT_USED:
            _check_unknown(key, data, source, problems)
    known = {key: value for key, value in data.items() if key in DatasetFile.model_fields}
    content, wrong = parse_all(DatasetFile, known, source, DatasetError)
    for place, error in wrong.items():
        problems.add(error, case=str(place[1]) if _is_of_a_case(place) else "")
    if wrong and all(_is_of_a_case(place) for place in wrong):
        left_out = {place[:2] for place in wrong}
        for table in {str(place[0]) for place in wrong}:
            known[table] = {name: entry for name, entry in known[table].items() if (table, name) not in left_out}
        content, _ = parse_all(DatasetFile, known, source, DatasetError)
    return content


def _is_of_a_case(place: tuple[str | int, ...]) -> bool:
    return len(place) > 1 and place[0] in ("dataset", "test")


def _check_unknown(key: str, data: Mapping[str, Any], source: Path, problems: Problems) -> None:
    """Remark on an unknown key, which nnU-Net's dataset.json may have; refuse one that looks like a key misspelt."""
    lacking = [name for name, field in DatasetFile.model_fields.items() if field.is_required() and name not in data]
    remedy = did_you_mean(key, ADDED, cutoff=NEAR) or did_you_mean(key, lacking)
    if key == "training" and "channel_names" in lacking:
        remedy = f"a Medical Segmentation Decathlon file? flarenet_plan -d ANOTHER_NAME --from {source.parent} reads it"
    place, found = f"{source}: key {key!r}", "an unknown key"
    if remedy is None:
        problems.remark(place, found=found, expected="a key that flarenet reads; this one is not used")
    else:
        expected = "one of " + ", ".join(DatasetFile.model_fields)
        problems.add(DatasetError(place, found=found, expected=expected, remedy=remedy))


def _tables(
    content: DatasetFile, data: Mapping[str, Any], folder: Path, problems: Problems
) -> tuple[dict[str, CaseEntry], dict[str, CaseEntry]]:
    """(training, test) as the file lists them, else as they lie in the folders."""
    ending, test = content.file_ending, content.test
    if content.dataset is None and ending not in FILE_ENDINGS:  # refused by now; no file can be told by it
        return {}, {}
    if content.dataset is not None:
        training, counts = content.dataset, {len(data["dataset"])}
    else:
        training = _scan(folder, "Tr", ending, problems)
        counts = {len(training), sum(entry.label is not None for entry in training.values())}
        test = _scan(folder, "Ts", ending, problems) if test is None else test
    if not counts - {0}:
        expected = f"a 'dataset' table, or imagesTr/CASE{CHANNEL}{ending}"
        problems.add(DatasetError(folder, found="no training case", expected=expected))
    elif content.numTraining not in counts:
        place, expected = f"{folder / 'dataset.json'}: key 'numTraining'", " or ".join(map(str, sorted(counts)))
        if content.dataset is None:
            expected += ", the images in imagesTr or those with a label"
        problems.add(DatasetError(place, found=content.numTraining, expected=expected))
    return _composed(training), _composed(test or {})


def _composed(table: Mapping[str, CaseEntry]) -> dict[str, CaseEntry]:
    """A case table by composed names; names that this would make the same stay as they are, to be refused."""
    counts = Counter(map(composed, table))
    return {composed(name) if counts[composed(name)] == 1 else name: entry for name, entry in table.items()}


def _scan(folder: Path, part: str, ending: str, problems: Problems) -> dict[str, CaseEntry]:
    with problems.collected():
        images, labels = (files_in(folder / f"{kind}{part}", ending) for kind in ("images", "labels"))
        cases = paired(images, labels)
        unlabelled = [name for name, _, label in cases if label is None]
        if unlabelled and part == "Tr" and len(unlabelled) < len(cases):
            problems.remark(
                folder / "labelsTr",
                found=f"no label for {len(unlabelled)} images: {some_of(unlabelled)}",
                expected="a label for each, unless they are meant to be unlabelled: they are used as such",
            )
        return {
            name: CaseEntry(images=(path_from(folder, image),), label=path_from(folder, label) if label else None)
            for name, image, label in cases
        }
    return {}


def _check_channels(content: DatasetFile, source: Path) -> None:
    if list(content.channel_names) != ["0"]:
        raise DatasetError(
            f"{source}: key 'channel_names'",
            found=", ".join(f"{k}: {v}" for k, v in content.channel_names.items()) or "no channel",
            expected='{"0": "CT"}: one channel; more are not supported yet',
        )


def _check_ending(content: DatasetFile, source: Path) -> None:
    if content.file_ending not in FILE_ENDINGS:
        expected = " or ".join(FILE_ENDINGS)
        raise DatasetError(f"{source}: key 'file_ending'", found=content.file_ending, expected=expected)


def _modality(content: DatasetFile) -> str:
    name = content.channel_names["0"]
    return "CT" if name.upper() == "CT" else name


def _remark(cases: tuple[Case, ...], listed: int, table: LabelTable, *, source: Path, problems: Problems) -> None:
    if listed == 1:
        expected = "several: nothing can be held out to monitor the training"
        problems.remark(source, found="one training case", expected=expected)
    told = {value for case in cases for value in case.annotated}
    silent = table.labels.names_of(set(table.labels.values) - told)
    if silent:
        found = "annotated in no case: " + ", ".join(silent)
        problems.remark(f"{source}: key 'labels'", found=found, expected="a case that was searched for each label")
