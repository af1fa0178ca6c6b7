"""Cases as they lie in folders: images and labels are paired by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError, some_of
from .dataset import CHANNEL, FILE_ENDINGS


@dataclass(frozen=True)
class Scanned:
    """`cases`: name -> (image, label or None), paths relative to the set's folder, in the order of the names."""

    cases: dict[str, tuple[str, str | None]]

    @property
    def unlabelled(self) -> list[str]:
        return [name for name, (_, label) in self.cases.items() if label is None]


def scan(folder: Path, part: str, ending: str) -> Scanned:
    """imagesTr and labelsTr (`part` "Tr") or imagesTs and labelsTs ("Ts") of nnU-Net v2's layout; both may be missing.

    Raises DatasetError for an image of another channel than the first and, listing them, for labels without an image.
    """
    images, labels = f"images{part}", f"labels{part}"
    drawn = set(files_in(folder / labels, ending))
    cases = {}
    for file in files_in(folder / images, ending):
        stem = file.removesuffix(ending)
        if not stem.endswith(CHANNEL):
            channel = re.search(r"_\d{4}$", stem)
            found = f"{file}, a further channel" if channel else f"{file}, without a channel"
            expected = f"CASE{CHANNEL}{ending}: one channel; more are not supported yet"
            raise DatasetError(folder / images, found=found, expected=expected)
        name = stem.removesuffix(CHANNEL)
        label = f"{labels}/{name}{ending}" if name + ending in drawn else None
        cases[name] = (f"{images}/{file}", label)
    refuse_strays(folder / labels, sorted(drawn - {name + ending for name in cases}))
    return Scanned(cases)


def files_in(folder: Path, endings: str | tuple[str, ...]) -> list[str]:
    """The names of a folder's files with one of `endings`, sorted; hidden ones, as a Mac leaves behind, left out."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(endings) and not p.name.startswith("."))


def stem_of(name: str) -> str:
    """The name of a file without the ending of an image; any other name as it is."""
    return next((name[: -len(ending)] for ending in FILE_ENDINGS if name.lower().endswith(ending)), name)


def refuse_further_channels(images: Iterable[Path]) -> None:
    """Raise DatasetError where an image is a further channel of another, as X_0001 beside X_0000."""
    by_stem = {stem_of(image.name): image for image in images}
    for stem, image in by_stem.items():
        first = re.sub("_[0-9]{4}$", CHANNEL, stem)
        if first != stem and first in by_stem:
            raise DatasetError(
                image.parent,
                found=f"{image.name}, a further channel",
                expected=f"CASE{CHANNEL}{FILE_ENDINGS[0]}: one channel; more are not supported yet",
                remedy=f"if it is a case of its own, call it {stem}{CHANNEL}{FILE_ENDINGS[0]}",
            )


def refuse_strays(labels: Path, strays: list[str]) -> None:
    """Raise DatasetError where there are label files that no image goes with."""
    if strays:
        found = f"{some_of(strays)} without an image"
        raise DatasetError(labels, found=found, expected="an image for each label")
