"""The distribution of FLARE23: folders without a dataset.json, recognised by their names.

Seen in public: imagesTr2200, labelsTr2200 (with a folder of corrected labels in it, 20230507-fix), unlabeledTr1800 or
unlabelTr1800 or FLARE_UnlabeledCase1-1000, validation, val-gt-50cases-for-sanity-check, and pseudo labels of earlier
winners: aladdin5-pseudo-labels-FLARE23, blackbean-pseudo-labels-FLARE23.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import DatasetError, some_of
from ..labels import LabelSet
from ..names import FILE_ENDINGS, by_case, files_in
from .source import Source, SourceCase, pair

FLARE23 = LabelSet(
    names=(
        "background", "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava",
        "right adrenal gland", "left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum",
        "left kidney", "tumor",
    ),
    groups={"organ": tuple(range(1, 14)), "cancer": (14,)},
    tolerance_mm={
        "liver": 5.0, "right kidney": 3.0, "spleen": 3.0, "pancreas": 5.0, "esophagus": 3.0, "stomach": 5.0,
        "duodenum": 7.0, "left kidney": 3.0,
    },
)  # fmt: skip
"""The label table of FLARE23 with its tolerances; those not named are 2 mm."""

PSEUDO, UNLABELLED, IMAGES, LABELS, TEST_LABELS, TEST = (
    "pseudo labels", "unlabelled images", "images", "labels", "validation labels", "validation images"
)  # fmt: skip
# the first that fits counts: pseudo labels must never be taken for labels, however their folder is called
ROLES = (
    (PSEUDO, r".*pseudo.*|.*predict.*|labels?_?tu.*"),
    (UNLABELLED, r".*un_?-?label.*|images?_?tu\d*"),
    (IMAGES, r"images?_?tr\d*"),
    (LABELS, r"labels?_?tr\d*"),
    (TEST_LABELS, r"labels?_?(val|ts)\d*|val.*(gt|labels?|masks?).*"),
    (TEST, r"images?_?(val|ts)\d*|val(idation)?[_-]?\d*"),
)


def is_flare(folder: Path) -> bool:
    roles = _roles(folder)
    return not (folder / "dataset.json").exists() and (IMAGES in roles or UNLABELLED in roles)


def read_flare(folder: Path) -> Source:
    """The source of such a folder. Cases without a label file are unlabelled; pseudo labels are ignored."""
    roles = _roles(folder)
    notes = [f"ignored, {PSEUDO}: {path.name}" for path in roles[PSEUDO]]
    notes += [f"ignored, unknown: {path.name}" for path in roles[""]]
    labels = _labels(roles[LABELS], notes)
    cases = pair([*_files(roles[IMAGES]), *_files(roles[UNLABELLED])], labels.values())
    if not cases:
        raise DatasetError(folder, found="no image in " + _listed(roles), expected="*" + " or *".join(FILE_ENDINGS))
    test = pair(_files(roles[TEST]), _labels(roles[TEST_LABELS], notes).values())
    notes += _about_unlabelled(cases, roles[IMAGES])
    values = {value: FLARE23.names[value] for value in FLARE23.values}
    modality = "CT" if labels else None  # scans alone may be anything
    return Source(folder, "FLARE23", FLARE23, values, cases, test, modality=modality, notes=tuple(notes))


def role_of(name: str) -> str:
    """The role of a folder that is called `name`; "" for none."""
    return next((role for role, words in ROLES if re.fullmatch(words, name, re.IGNORECASE)), "")


def _roles(folder: Path) -> Mapping[str, list[Path]]:
    """Role -> its folders; those without one stand under ""."""
    found = defaultdict(list)
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found[role_of(path.name)].append(path)
    return found


def _files(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in files_in(folder)]


def _labels(folders: Iterable[Path], notes: list[str]) -> dict[str, Path]:
    """Name -> the label file; files of a folder of fixes within replace those that they correct. Raises DatasetError
    for two files of one name elsewhere, in one of these folders or in several."""
    found = by_case(_files(folders))
    for inner in sorted(p for folder in folders for p in folder.iterdir() if p.is_dir()):
        fixes = files_in(inner) if "fix" in inner.name.lower() else []
        found |= by_case(fixes)
        how = f"{len(fixes)} corrected labels taken" if fixes else "ignored, unknown"
        notes.append(f"{how}: {inner.parent.name}/{inner.name}")
    return found


def _about_unlabelled(cases: Iterable[SourceCase], images: list[Path]) -> list[str]:
    lacking = [case.name for case in cases if case.label is None and case.image.parent in images]
    if not lacking:
        return []
    what = f"{len(lacking)} of the labelled images' folder: {some_of(lacking)}"
    return [f"used as unlabelled, since they have no label file: {what}"]


def _listed(roles: Mapping[str, list[Path]]) -> str:
    return ", ".join(path.name for paths in roles.values() for path in paths)
