"""What was measured of a case, kept beside the plan, so that only cases that are new or have changed are read.

A file per case, written by the process that measured it: what is done stays done when the run is killed. A case whose
files have size, time and inode as before is not opened; where those differ, its bytes decide, by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import Case
from ..data.file_state import FileState, looks_unchanged
from ..data.labels import LabelSet
from ..schema import Frozen, load_or_none, save
from .measure import CaseFingerprint

MEASURE_VERSION = 4
"""Part of every key: raised where measuring changes, so that no number of an older version is used."""


class Cached(Frozen):
    """A measured case and its files; `label` is None where it has none, `question` as question_of gives it."""

    question: str
    image: FileState
    label: FileState | None
    case: CaseFingerprint

    def is_of(self, image: FileState, label: FileState | None) -> bool:
        """Whether it was measured of the same bytes."""
        if (label is None) != (self.label is None):
            return False
        return image.sha256 == self.image.sha256 and (not label or not self.label or label.sha256 == self.label.sha256)


@dataclass(frozen=True)
class Cache:
    """The measured cases of a data set in the files of a folder; None remembers nothing.

    writable  whether anything may be added
    """

    folder: Path | None
    writable: bool = True

    def recall(self, name: str, question: str) -> Cached | None:
        """What is known of a case, whatever became of its files; None where nothing is, or of another question."""
        known = self._load(name)
        return known if known and known.question == question else None

    def digests(self, case: Case) -> tuple[str, str] | None:
        """The SHA-256 of image and label, "" for no label, where both look as they did when they were measured."""
        known = self._load(case.name)
        if known and looks_unchanged(case.image, known.image) and looks_unchanged(case.label, known.label):
            return known.image.sha256, known.label.sha256 if known.label else ""
        return None

    def keep(self, known: Cached) -> None:
        if self.folder is not None and self.writable:
            save(known, self._path(known.case.name))

    def _load(self, name: str) -> Cached | None:
        return None if self.folder is None else load_or_none(Cached, self._path(name))

    def _path(self, name: str) -> Path:
        return Path(str(self.folder), f"{name}.json")


def question_of(case: Case, labels: LabelSet, *, is_ct: bool) -> str:
    """Of everything but the bytes of its files that the numbers of a case depend on."""
    label = None if case.label is None else sorted(case.values.items())
    facts = [MEASURE_VERSION, case.name, label, case.reading.facts(), is_ct, len(labels.names)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
