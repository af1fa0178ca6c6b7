"""What was measured of each case, kept next to the plan, so that only cases that are new or have changed are read.

There is a file per case, written by the process that measured it, so nothing done is lost when the run is killed. A
case whose files have the same size, time and inode as before is not opened; where those differ, the SHA-256 decides
whether the case has changed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ...data.dataset import Case
from ...data.file_state import FileState, looks_unchanged
from ...data.labels import LabelSet
from ...schema import Frozen, load_or_none, save
from .measure import CaseFingerprint

MEASURE_VERSION = 5
"""Part of every key. It is raised when measuring changes, so that no number of an older version is used."""


class Cached(Frozen):
    """A measured case and its files.

    question  as question_of gives it
    label     None for a case without a label file
    """

    question: str
    image: FileState
    label: FileState | None
    case: CaseFingerprint

    def inputs_of(self, case: Case) -> tuple[str, str]:
        """The SHA-256 of image and label; "" for a label where the case counts as one without."""
        return self.image.sha256, self.label.sha256 if self.label and case.label else ""

    def is_of(self, image: FileState, label: FileState | None) -> bool:
        """Whether it was measured from files with the same bytes."""
        if (label is None) != (self.label is None):
            return False
        return image.sha256 == self.image.sha256 and (not label or not self.label or label.sha256 == self.label.sha256)


@dataclass(frozen=True)
class Cache:
    """The measured cases of a data set.

    folder    where their files are; None: nothing is remembered
    writable  whether files may be written
    """

    folder: Path | None
    writable: bool = True

    def recall(self, name: str, question: str) -> Cached | None:
        """The cached case; its files are not looked at. None where there is none, or only for another question."""
        known = self._load(name)
        return known if known and known.question == question else None

    def digests(self, case: Case) -> tuple[str, str] | None:
        """The SHA-256 of image and label ("" for no label), if both files look as they did when they were measured,
        else None. Of a case without a label only the image counts: it may have been measured with a label map that is
        empty, which planning took from it."""
        known = self._load(case.name)
        if known is None or not looks_unchanged(case.image, known.image):
            return None
        return known.inputs_of(case) if case.label is None or looks_unchanged(case.label, known.label) else None

    def inputs(self, case: Case) -> tuple[str, str] | None:
        """As digests, but the files are not looked at; None where nothing was measured."""
        known = self._load(case.name)
        return known.inputs_of(case) if known else None

    def keep(self, known: Cached) -> None:
        if self.folder is not None and self.writable:
            save(known, self._path(known.case.name))

    def _load(self, name: str) -> Cached | None:
        return None if self.folder is None else load_or_none(Cached, self._path(name))

    def _path(self, name: str) -> Path:
        return Path(str(self.folder), f"{name}.json")


def question_of(case: Case, labels: LabelSet, *, is_ct: bool) -> str:
    """A digest of everything that the numbers of a case depend on, except the bytes of its files."""
    label = None if case.label is None else sorted(case.values.items())
    facts = [MEASURE_VERSION, case.name, label, case.reading.facts(), is_ct, len(labels.names)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
