"""Cases as they lie in folders: images and labels are paired by their names."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import DatasetError, some_of
from .names import CHANNEL, by_case, files_in, stem_of


def scan(folder: Path, part: str, ending: str) -> dict[str, tuple[str, str | None]]:
    """The cases in two folders of nnU-Net v2's layout: imagesTr and labelsTr (`part` "Tr"), or imagesTs and labelsTs
    ("Ts"). Either folder may be missing.

    Returns name -> (image, label or None), paths relative to `folder`, in the order of the names. Raises DatasetError
    for an image of another channel than the first, for two files of one case, and for labels without an image, which it
    lists.
    """
    images, labels = f"images{part}", f"labels{part}"
    drawn = {stem_of(file.name, ending): file.name for file in files_in(folder / labels, ending)}
    cases = {}
    for file in by_case(files_in(folder / images, ending)).values():
        stem = stem_of(file.name, ending)
        if not stem.endswith(CHANNEL):
            channel = re.search(r"_\d{4}$", stem)
            found = f"{file.name}, a further channel" if channel else f"{file.name}, without a channel"
            expected = f"CASE{CHANNEL}{ending}: one channel; more are not supported yet"
            raise DatasetError(folder / images, found=found, expected=expected)
        name = stem.removesuffix(CHANNEL)
        cases[name] = (f"{images}/{file.name}", f"{labels}/{drawn[name]}" if name in drawn else None)
    refuse_strays(folder / labels, [drawn[name] for name in sorted(drawn.keys() - cases.keys())])
    return cases


def refuse_strays(labels: Path, strays: list[str]) -> None:
    """Raise DatasetError where `strays` names label files, in the folder `labels`, that have no image."""
    if strays:
        found = f"{some_of(strays)} without an image"
        raise DatasetError(labels, found=found, expected="an image for each label")
