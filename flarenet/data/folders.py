"""Cases as they lie in folders: images and labels are paired by their names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import DatasetError, some_of
from .names import by_case, refuse_further_channels


def paired(images: Iterable[Path], labels: Iterable[Path]) -> list[tuple[str, Path, Path | None]]:
    """(case name, image, label or None) of image files and label files, in the order of the names.

    An image is called CASE_0000.ext or CASE.ext, its label CASE.ext. Raises DatasetError for labels without an image,
    which it lists, for two files of one case and for a further channel.
    """
    scans = by_case(images)
    drawn = by_case(labels, scans)
    refuse_further_channels(scans.values())
    strays = sorted(drawn[name] for name in drawn.keys() - scans.keys())
    if strays:
        found = f"{some_of([path.name for path in strays])} without an image"
        raise DatasetError(strays[0].parent, found=found, expected="an image for each label")
    return [(name, scans[name], drawn.get(name)) for name in sorted(scans)]
