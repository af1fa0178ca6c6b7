"""A folder of unlabelled scans, as it is: images alone."""

from __future__ import annotations

from pathlib import Path

from ..names import files_in
from .flare import LABELS, PSEUDO, TEST_LABELS, role_of
from .source import Source, pair


def is_scans(folder: Path) -> bool:
    """Whether it holds images, no folder and no dataset.json, and is not called as folders of labels are: a label map
    must never be taken for a scan."""
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    odd = any(path.is_dir() or path.name == "dataset.json" for path in inside)
    drawn = role_of(folder.resolve().name) in (PSEUDO, LABELS, TEST_LABELS)
    return bool(files_in(folder)) and not odd and not drawn


def read_scans(folder: Path) -> Source:
    """The source of such a folder: every image is an unlabelled training case."""
    return Source(folder, "unlabelled scans", None, {}, pair(files_in(folder), ()))
