"""dataset.json -> Dataset: the labels, the groups and the cases of a data set, each with what was looked for in it.

The file is nnU-Net v2's, with four additions: `groups` (name -> values, in drawing order), `tolerance_mm` (of the
surface Dice, by label name), `annotated` per case (the values somebody looked for) and a `test` table like `dataset`.
A set without tables is read from its folders: imagesTr/CASE_0000.ext, labelsTr/CASE.ext, imagesTs, labelsTs.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..errors import DatasetError, UnsafeError
from ..schema import Frozen, parse, read_json
from .dataset import CHANNEL, FILE_ENDINGS, Case, Dataset, check_name
from .labels import LabelSet

LARGEST_LABEL = 254
"""Group maps are uint8 and 255 is HIDDEN."""

CANCER_WORDS = ("tumor", "tumour", "cancer", "lesion")
_GROUP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


class CaseEntry(Frozen):
    """One case of the tables: paths relative to the folder of dataset.json."""

    images: tuple[str, ...]
    label: str | None = None
    annotated: tuple[int, ...] | None = None


class DatasetFile(Frozen):
    """dataset.json as it is written. The last lines are keys that nnU-Net allows and nothing here reads."""

    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]
    numTraining: Annotated[int, Field(ge=0)]
    file_ending: str
    groups: dict[str, tuple[int, ...]] | None = None
    tolerance_mm: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    dataset: dict[str, CaseEntry] | None = None
    test: dict[str, CaseEntry] | None = None
    name: str | None = None
    description: Any = None
    overwrite_image_reader_writer: Any = None
    regions_class_order: Any = None
    release: Any = None
    reference: Any = None
    citation: Any = None
    licence: Any = None
    license: Any = None
    converted_by: Any = None
    dataset_name: Any = None
    author: Any = None
    contact: Any = None


def read_dataset(folder: str | Path) -> Dataset:
    """The data set of a folder that holds dataset.json.

    Whether the files of a case exist and are what they should be is the case's own affair: see verify.check_case.
    Raises DatasetError naming file, key, found and expected; UnsafeError for a path that leaves the folder or a
    case name that cannot be a file name.
    """
    folder = Path(folder)
    source = folder / "dataset.json"
    content = _parse(source)
    labels = _labels(content, source)
    _check_channels(content, source)
    test: dict[str, CaseEntry] | None
    if content.dataset is not None:
        entries, test = content.dataset, content.test or {}
        if content.numTraining != len(entries):
            raise DatasetError(f"{source}: key 'numTraining'", found=content.numTraining, expected=len(entries))
    else:
        entries, test = _scan(folder, "Tr", content.file_ending), content.test
        test = _scan(folder, "Ts", content.file_ending) if test is None else test
        labelled = sum(entry.label is not None for entry in entries.values())
        if entries and content.numTraining not in (len(entries), labelled):
            expected = f"{len(entries)}, the images in imagesTr (or {labelled}, those with a label)"
            raise DatasetError(f"{source}: key 'numTraining'", found=content.numTraining, expected=expected)
    if not entries:
        expected = f"a 'dataset' table, or imagesTr/CASE{CHANNEL}{content.file_ending}"
        raise DatasetError(folder, found="no training case", expected=expected)
    cases, held_out = (
        tuple(_case(name, entry, folder, labels, f"{source}: key '{table}.{name}") for name, entry in part.items())
        for table, part in (("dataset", entries), ("test", test))
    )
    _check_distinct(cases, held_out, source)
    return Dataset(folder.resolve().name, folder, labels, cases, held_out)


def _parse(source: Path) -> DatasetFile:
    data = read_json(source, DatasetError)
    if not isinstance(data, dict):
        raise DatasetError(source, found=type(data).__name__, expected="a JSON object")
    for key in data:
        if key not in DatasetFile.model_fields:
            near = difflib.get_close_matches(key, DatasetFile.model_fields, n=1)
            raise DatasetError(
                f"{source}: key {key!r}",
                found="an unknown key",
                expected="one of " + ", ".join(DatasetFile.model_fields),
                remedy=f"did you mean {near[0]!r}?" if near else "take it out",
            )
    return parse(DatasetFile, data, source, DatasetError)


def _labels(content: DatasetFile, source: Path) -> LabelSet:
    where = f"{source}: key 'labels'"
    regions = [name for name, value in content.labels.items() if isinstance(value, list)]
    if regions:
        raise DatasetError(
            f"{where}: {regions[0]!r}",
            found=f"a region, {content.labels[regions[0]]}",
            expected="one value per label",
            remedy="regions of several values are not supported yet; name every value, and group them by 'groups'",
        )
    by_value = sorted((value, name) for name, value in content.labels.items())
    names = tuple(name for _, name in by_value)
    if [value for value, _ in by_value] != list(range(len(names))) or len(names) < 2:
        found = ", ".join(f"{name} {value}" for value, name in by_value) or "nothing"
        raise DatasetError(where, found=found, expected="background 0, then 1, 2, 3 ... without a gap")
    if names[0] != "background":
        raise DatasetError(where, found=f"{names[0]!r} with value 0", expected="'background' with value 0")
    if len(names) - 1 > LARGEST_LABEL:
        raise DatasetError(where, found=f"{len(names) - 1} labels", expected=f"at most {LARGEST_LABEL}")
    _check_label_names(names, where)
    for name in content.tolerance_mm:
        if name not in names[1:]:
            near = difflib.get_close_matches(name, names[1:], n=1)
            raise DatasetError(
                f"{source}: key 'tolerance_mm'",
                found=f"label {name!r}",
                expected=", ".join(names[1:]),
                remedy=f"did you mean {near[0]!r}?" if near else None,
            )
    groups = default_groups(names) if content.groups is None else content.groups
    _check_groups(groups, names, f"{source}: key 'groups'")
    return LabelSet(names=names, groups=dict(groups), tolerance_mm=content.tolerance_mm)


def default_groups(names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Labels named like a tumour form group "cancer", drawn over group "organ", the rest; an empty group is left out.

    names  index = voxel value; names[0] is the background
    """
    cancer = tuple(v for v, name in enumerate(names) if v and any(word in name.lower() for word in CANCER_WORDS))
    organ = tuple(v for v in range(1, len(names)) if v not in cancer)
    return {group: values for group, values in (("organ", organ), ("cancer", cancer)) if values}


def _check_label_names(names: tuple[str, ...], where: str) -> None:
    for name, count in Counter(name.strip().lower() for name in names).items():
        if count > 1:
            raise DatasetError(where, found=f"{name!r} {count} times (upper and lower case aside)", expected="once")
        if not name or not name.isprintable():
            raise DatasetError(where, found=f"the name {name!r}", expected="a printable name")
        if name == "ignore":
            remedy = "say what was looked for by 'annotated'"
            raise DatasetError(where, found="the label 'ignore'", expected="no such label", remedy=remedy)


def _check_groups(groups: Mapping[str, tuple[int, ...]], names: tuple[str, ...], where: str) -> None:
    counts = Counter(value for values in groups.values() for value in values)
    for group, values in groups.items():
        if not _GROUP_NAME.fullmatch(group):
            expected = "a letter, then up to 39 letters, digits, _ or -"
            raise DatasetError(where, found=f"group {group!r}", expected=expected)
        if not values:
            raise DatasetError(f"{where}: {group!r}", found="no value", expected="at least one")
    for value, count in counts.items():
        if not 1 <= value < len(names):
            raise DatasetError(where, found=f"value {value}", expected=f"values of 'labels', 1 to {len(names) - 1}")
        if count > 1:
            found = f"value {value} ({names[value]}) {count} times"
            raise DatasetError(where, found=found, expected="every value once")
    missing = [f"{value} ({names[value]})" for value in range(1, len(names)) if value not in counts]
    if missing:
        raise DatasetError(where, found="no group with value " + ", ".join(missing), expected="every value once")


def _check_channels(content: DatasetFile, source: Path) -> None:
    if list(content.channel_names) != ["0"]:
        raise DatasetError(
            f"{source}: key 'channel_names'",
            found=", ".join(f"{k}: {v}" for k, v in content.channel_names.items()) or "no channel",
            expected='{"0": "CT"}: one channel; more are not supported yet',
        )
    if content.file_ending not in FILE_ENDINGS:
        expected = " or ".join(FILE_ENDINGS)
        raise DatasetError(f"{source}: key 'file_ending'", found=content.file_ending, expected=expected)


def _case(name: str, entry: CaseEntry, folder: Path, labels: LabelSet, where: str) -> Case:
    """`where` is file and key of the case, its closing quote left out."""
    check_name(name, f"{where}'")
    if len(entry.images) != 1:
        expected = "one image: several channels are not supported yet"
        raise DatasetError(f"{where}.images'", found=f"{len(entry.images)} images", expected=expected)
    image = _inside(folder, entry.images[0], f"{where}.images'")
    if entry.label is None:
        if entry.annotated:
            expected = "[], because the case has no 'label'"
            raise DatasetError(f"{where}.annotated'", found=list(entry.annotated), expected=expected)
        return Case(name, image, None, frozenset())
    annotated = labels.values if entry.annotated is None else entry.annotated
    if not annotated:
        expected = "the values looked for in the label file, or no 'label'"
        raise DatasetError(f"{where}.annotated'", found=[], expected=expected)
    if len(set(annotated)) != len(annotated) or not set(annotated) <= set(labels.values):
        expected = f"different values of 1 to {len(labels.values)}"
        raise DatasetError(f"{where}.annotated'", found=list(annotated), expected=expected)
    label = _inside(folder, entry.label, f"{where}.label'")
    return Case(name, image, label, frozenset(annotated), declared=entry.annotated is not None)


def _inside(folder: Path, path: str, where: str) -> Path:
    """`folder / path`, which may not lead out of the folder: not by '..', not absolute, not through a link."""
    parts = re.split(r"[/\\]", path)
    if not path.strip() or not path.isprintable():
        raise UnsafeError(where, found=repr(path), expected="a path of printable characters")
    if ".." in parts or not parts[0] or re.match(r"[A-Za-z]:", path):
        raise UnsafeError(where, found=path, expected="a path below the folder of dataset.json, without '..'")
    full = folder / path
    real = full.resolve()
    if not real.is_relative_to(folder.resolve()):
        remedy = "copy or hard-link the files instead of linking out of the folder"
        raise UnsafeError(where, found=f"{path}, which is {real}", expected=f"a file below {folder}", remedy=remedy)
    return full


def _scan(folder: Path, part: str, ending: str) -> dict[str, CaseEntry]:
    """The table of imagesTr/labelsTr (`part` "Tr") or imagesTs/labelsTs ("Ts"), in the order of the names."""
    images = _files(folder / f"images{part}", ending)
    labels = set(_files(folder / f"labels{part}", ending))
    entries = {}
    for file in images:
        stem = file.removesuffix(ending)
        if not stem.endswith(CHANNEL):
            channel = re.search(r"_\d{4}$", stem)
            found = f"{file}, a further channel" if channel else f"{file}, without a channel"
            expected = f"CASE{CHANNEL}{ending}: one channel; more are not supported yet"
            raise DatasetError(folder / f"images{part}", found=found, expected=expected)
        name = stem.removesuffix(CHANNEL)
        label = f"labels{part}/{name}{ending}" if name + ending in labels else None
        entries[name] = CaseEntry(images=(f"images{part}/{file}",), label=label)
    alone = sorted(labels - {name + ending for name in entries})
    if alone:
        expected = f"an image for each of {len(labels)} labels"
        raise DatasetError(folder / f"labels{part}", found=f"{alone[0]} without an image", expected=expected)
    return entries


def _files(folder: Path, ending: str) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(ending) and not p.name.startswith("."))


def _check_distinct(cases: tuple[Case, ...], test: tuple[Case, ...], source: Path) -> None:
    """No two cases may write the same files or, across training and test, be the same image."""
    for table, part in (("dataset", cases), ("test", test)):
        for name, count in Counter(case.name.lower() for case in part).items():
            if count > 1:
                same = ", ".join(case.name for case in part if case.name.lower() == name)
                raise DatasetError(
                    f"{source}: key {table!r}", found=f"cases {same}", expected="names that differ in more than case"
                )
    seen: dict[Path, str] = {}
    for case in (*cases, *test):
        image = case.image.resolve()
        if image in seen:
            found = f"{case.image.name} in cases {seen[image]} and {case.name}"
            raise DatasetError(source, found=found, expected="one case for each image")
        seen[image] = case.name
