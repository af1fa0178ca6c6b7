"""Merges sources, each with its own label table, into one data set: labels are matched by name, files stay in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ...errors import DatasetError, did_you_mean, some_of
from ...schema import Frozen, escaped, load_or_none, to_json
from ...whole import move_aside, write_text
from ..label_table import BACKGROUND, LARGEST_VALUE, default_groups, label_table, plain
from ..labels import IGNORE, named_like_lesion
from ..names import path_from, spelled
from ..settled import Settled
from .source import Source, SourceCase


class TableEntry(Frozen):
    """The table of the merged set, as in dataset.json; background 0 may be left out."""

    labels: dict[str, Annotated[int, Field(ge=0, le=LARGEST_VALUE)]]
    groups: dict[str, tuple[str | int, ...]] | None = None
    tolerance_mm: dict[str, float] = Field(default_factory=dict)


class LabelNames(Frozen):
    """What a person states about label names, as the JSON of --labels.

    table     the merged table; None: every label of every source, in their order
    sources   folder name -> {label's name there: its name in the table, or None to leave it out}; for a source that
              does not name its labels {value: name}
    modality  that of the sources that do not state theirs; None: that of the others, else CT
    """

    table: TableEntry | None = None
    sources: dict[str, dict[str, str | None]] = Field(default_factory=dict)
    modality: str | None = None


@dataclass(frozen=True)
class _Part:
    """A source with its labels by their names in the merged set, None for those left out.

    names   name in the source -> name
    values  value in its label files -> name
    """

    source: Source
    names: Mapping[str, str | None]
    values: Mapping[int, str | None]

    def numbers(self, case: SourceCase, numbers: Mapping[str, int]) -> dict[int, int]:
        """Value in the label file of `case` -> value in the merged set; `numbers` are those of plain names."""
        if not case.values:
            return {value: numbers[plain(name)] if name else 0 for value, name in self.values.items()}
        wanted = {value: self.names[plain(name)] if name else None for value, name in case.values.items()}
        return {value: numbers[plain(name)] if name else 0 for value, name in wanted.items()}


def merge(sources: Sequence[Source], folder: Path, label_names: LabelNames | None = None) -> dict[str, Any]:
    """The content of a dataset.json in `folder` that holds the cases of all `sources`, by paths to where they are.

    Where a source has IGNORE and the table has not, the table gets it, with the highest value plus 1. A case whose name
    an earlier source has is prefixed with the name of its own source. A source without any label file brings no label
    and needs to name none, unless all are such. Raises DatasetError where a label is not in the table, where
    `label_names` names a source or label that is not there, where sources differ in modality, and where two sources, or
    two cases, have one name.
    """
    label_names = label_names or LabelNames()
    _check_sources(sources, label_names)
    telling = [source for source in sources if source.labelled] or sources  # scans alone say nothing about labels
    parts = [_part(source, label_names) if source in telling else _Part(source, {}, {}) for source in sources]
    table = label_names.table or _union(part for part in parts if part.source in telling)
    labels = table.labels if BACKGROUND in map(plain, table.labels) else {BACKGROUND: 0, **table.labels}
    if any(_is_ignore(name) for part in parts for name in part.values.values()) and not any(map(_is_ignore, labels)):
        labels = {**labels, IGNORE: max(labels.values()) + 1}
    label_table(labels, table.groups, table.tolerance_mm, "the table of --labels")
    numbers = {plain(name): value for name, value in labels.items()}
    for part in parts:
        _check_known(part, labels)
    names = _case_names(sources)
    training, test = (
        {
            names[part.source.name, case.name]: _entry(case, part, numbers, folder)
            for part in parts
            for case in (part.source.cases if training else part.source.test)
        }
        for training in (True, False)
    )
    content = {
        "name": folder.name,
        "description": "; ".join(f"{source.name} ({source.layout})" for source in sources),
        "channel_names": {"0": _modality(sources, label_names.modality)},
        "labels": labels,
        "groups": None if table.groups is None else {group: list(items) for group, items in table.groups.items()},
        "tolerance_mm": table.tolerance_mm,
        "numTraining": len(training),
        "file_ending": ".nii.gz",
        "dataset": training,
        "test": test,
    }
    return {key: value for key, value in content.items() if value is not None}


def check_names(content: Mapping[str, Any], settled: Path) -> None:
    """Raise DatasetError where a case that is planned, known by the path of its image, has another name in `content`.

    settled  where planning wrote its cases, if it did
    Folds and finished runs know cases by name: one that was learned from would count as new, and might be held out.
    """
    before = load_or_none(Settled, settled)
    planned = {case.image: case.name for case in before.cases} if before else {}
    named = {case["images"][0]: name for table in ("dataset", "test") for name, case in content[table].items()}
    other = [f"{was}, now {named[image]} ({image})" for image, was in planned.items() if named.get(image, was) != was]
    if other:
        raise DatasetError(
            "--from",
            found=f"planned cases by other names: {some_of(other, 3)}",
            expected="the names by which folds and finished runs know them",
            remedy="the sources in their earlier order, and new files by names that no other source has; or edit "
            "dataset.json, leave --from out and give --allow-external; or another NAME; where nothing was trained yet, "
            f"remove {settled.parent}",
        )


def write_dataset_file(content: Mapping[str, Any], folder: Path, *, replace: bool = False) -> Path:
    """Write dataset.json into `folder`, whole or not at all; returns its path.

    Raises DatasetError where another one is there, unless `replace` moves it aside.
    """
    path = folder / "dataset.json"
    if other := another_file(content, folder):
        if not replace:
            raise other
        move_aside(path)
    write_text(path, _text(content))
    return path


def another_file(content: Mapping[str, Any], folder: Path) -> DatasetError | None:
    """The error where `folder` has a dataset.json other than that of `content`, as after an edit; else None."""
    path = folder / "dataset.json"
    if not path.exists() or path.read_bytes() == escaped(_text(content)).encode():
        return None
    return DatasetError(
        path,
        found="another dataset.json",
        expected="none, or the one that --from makes",
        remedy="to keep changes made in it, leave --from out and give --allow-external; else another NAME, or "
        "--replace, which keeps it as dataset.previous.json",
    )


def _text(content: Mapping[str, Any]) -> str:
    return to_json(content) + "\n"


def _check_sources(sources: Sequence[Source], label_names: LabelNames) -> None:
    counts = Counter(source.name for source in sources)
    for name, count in counts.items():
        if count > 1:
            expected = "folders of different names, which identify them"
            raise DatasetError("--from", found=f"{count} folders called {name}", expected=expected)
    for name in label_names.sources:
        if name not in counts:
            raise DatasetError(
                f"the label map: key 'sources.{name}'",
                found="no such source",
                expected=", ".join(counts),
                remedy=did_you_mean(name, counts),
            )


def _part(source: Source, label_names: LabelNames) -> _Part:
    given = label_names.sources.get(source.name, {})
    if source.labels is None:
        return _Part(source, {}, _unnamed(source, given, label_names.table))
    renamed = {plain(name): _or_background(new) for name, new in given.items()}
    known = {plain(name): name for name in (*source.labels.names[1:], *source.values.values())}
    for name in renamed:
        if name not in known:
            raise DatasetError(
                f"the label map: key 'sources.{source.name}'",
                found=f"label {name!r}",
                expected=", ".join(known.values()),
                remedy=did_you_mean(name, known.values()),
            )
    names = {key: renamed.get(key, name) for key, name in known.items()}
    return _Part(source, names, {value: names[plain(name)] for value, name in source.values.items()})


def _unnamed(source: Source, given: Mapping[str, str | None], table: TableEntry | None) -> dict[int, str | None]:
    """The values of a source that does not name its labels: as the map says, else those of the merged table."""
    if given and all(value.isdecimal() for value in given):
        return {int(value): _or_background(name) for value, name in given.items()}
    if table is None and not source.labelled:  # nor is any other: see merge
        raise DatasetError(
            f"{source.folder}: labels",
            found="no label file in any source",
            expected='a source with labels, or --labels MAP.json with {"table": {"labels": {"liver": 1, ...}}}',
        )
    if given or table is None:
        raise DatasetError(
            f"{source.folder}: labels",
            found="values without names",
            expected='--labels MAP.json with {"table": {"labels": {"liver": 1, ...}}} or, where the values are others, '
            f'{{"sources": {{"{source.name}": {{"6": "liver", ...}}}}}}',
        )
    return {value: name for name, value in table.labels.items() if value}


def _union(parts: Iterable[_Part]) -> TableEntry:
    """Every label of every source, in their order; where several have one, the first decides its group and tolerance.
    Raises DatasetError where the sources draw groups in orders that cannot all be kept."""
    labels: dict[str, str] = {}
    groups: dict[str, list[str | int]] = {}
    tolerance_mm: dict[str, float] = {}
    orders = []
    for part in parts:
        theirs = part.source.labels
        named = [part.names[plain(name)] for name in theirs.names[1:]] if theirs else list(part.values.values())
        in_groups = theirs.groups if theirs else default_groups((BACKGROUND, *(name or "" for name in named)))
        orders.append(tuple(in_groups))
        group_of = {value: group for group, values in in_groups.items() for value in values}
        for value, name in enumerate(named, start=1):
            if name is None or _is_ignore(name) or plain(name) in labels:
                continue
            labels[plain(name)] = name
            groups.setdefault(group_of[value], []).append(name)
            if theirs and theirs.names[value] in theirs.tolerance_mm:
                tolerance_mm[name] = theirs.tolerance_mm[theirs.names[value]]
    return TableEntry(
        labels={BACKGROUND: 0, **{name: value for value, name in enumerate(labels.values(), start=1)}},
        groups={group: tuple(groups[group]) for group in _drawing_order(groups, orders)},
        tolerance_mm=tolerance_mm,
    )


def _drawing_order(groups: Mapping[str, Sequence[str | int]], orders: Iterable[Sequence[str]]) -> list[str]:
    """The groups in an order that keeps all `orders`. Where these leave it open, groups of lesions alone come last: the
    order of a source without organs does not place the organs of another."""
    left = sorted(groups, key=lambda group: all(named_like_lesion(str(name)) for name in groups[group]))
    found: list[str] = []
    while left:
        over = {group for order in orders for group in [name for name in order if name in left][1:]}
        free = [group for group in left if group not in over]
        if not free:
            raise DatasetError(
                "--from",
                found=f"groups {', '.join(sorted(left))} drawn over each other in different orders",
                expected="one order of groups in all sources",
                remedy='--labels MAP.json with {"table": {"labels": {...}, "groups": {...}}}, in drawing order',
            )
        found.append(free[0])
        left.remove(free[0])
    return found


def _check_known(part: _Part, labels: Mapping[str, int]) -> None:
    known = {plain(name) for name in labels}
    lacking = [name for name in part.values.values() if name is not None and plain(name) not in known]
    if lacking:
        raise DatasetError(
            f"{part.source.folder}: labels",
            found=f"{', '.join(lacking)}: not in the table",
            expected=", ".join(name for name in labels if plain(name) != BACKGROUND),
            remedy=f'--labels MAP.json with {{"sources": {{"{part.source.name}": {{"{lacking[0]}": "its name in the '
            'table"}}, or null in its place to make the label background',
        )


def _or_background(name: str | None) -> str | None:
    """None, which makes a label background, for a new name that says so."""
    return None if name is not None and plain(name) == BACKGROUND else name


def _is_ignore(name: str | None) -> bool:
    return name is not None and plain(name) == IGNORE


def _case_names(sources: Iterable[Source]) -> dict[tuple[str, str], str]:
    """(source, its case) -> case name, prefixed with its own source's name where an earlier source has a case of that
    name. So a source that is added at the end renames no case: folds and finished runs know cases by name. Raises
    DatasetError where that does not tell them apart."""
    names: dict[tuple[str, str], str] = {}
    images: dict[str, Path] = {}
    for source in sources:
        earlier = set(images)
        for case in (*source.cases, *source.test):
            name = f"{source.name}_{case.name}" if spelled(case.name) in earlier else case.name
            if spelled(name) in images:
                found = f"{images[spelled(name)]} and {case.image}, both called {name}"
                raise DatasetError("--from", found=found, expected="cases of different names, training and test")
            names[source.name, case.name], images[spelled(name)] = name, case.image
    return names


def _entry(case: SourceCase, part: _Part, numbers: Mapping[str, int], folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"images": [path_from(folder, case.image)]}
    if case.patient is not None:
        entry["patient"] = case.patient
    if case.label is None:
        return entry
    annotated = None
    if case.annotated is not None:
        names = [part.names[plain(name)] for name in case.annotated]
        wanted = [name for name in names if name is not None and not _is_ignore(name)]
        annotated = sorted({numbers[plain(name)] for name in wanted})  # two may be mapped to one
    values = part.numbers(case, numbers)
    if annotated == [] or not set(values.values()) - {0, numbers.get(IGNORE)}:  # nothing that counts is drawn
        return entry
    entry["label"] = path_from(folder, case.label)
    if annotated is not None:
        entry["annotated"] = annotated
    if values != {number: number for number in numbers.values() if number}:
        entry["values"] = {str(value): number for value, number in values.items()}
    return entry


def _modality(sources: Iterable[Source], stated: str | None) -> str:
    """The modality of all sources, as some of them or a person stated it; else CT. Raises DatasetError where these
    differ."""
    told = {source.name: source.modality for source in sources if source.modality is not None}
    if stated is not None:
        told["--labels"] = stated
    kinds = {_kind(modality): modality for modality in told.values()}
    if len(kinds) > 1:
        found = ", ".join(f"{name} {modality}" for name, modality in told.items())
        raise DatasetError("--from", found=found, expected="images of one kind")
    return next(iter(kinds.values()), "CT")


def _kind(modality: str) -> str:
    return "MR" if modality.upper() == "MRI" else modality.upper()
