"""Measures every case of a data set, unless what was measured before still holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ...data.cases import HERE, Pool, map_cases
from ...data.dataset import Case, Dataset
from ...data.file_state import FileState, looks_unchanged, state_of
from ...data.findings import as_error, refusals
from ...data.labels import LabelSet
from ...data.nifti import read_grid
from ...data.verify import copies, read_case
from ...errors import DatasetError, FlarenetError
from .cache import Cache, Cached, question_of
from .measure import CaseFingerprint, measure

PROCESS_MB, BYTES_PER_VOXEL = 100, 14
"""The most memory that measuring a case takes, measured and rounded up: Python with its imports, and bytes per voxel of
the scan."""


def measure_cases(
    dataset: Dataset, cache: Cache, *, pool: Pool = HERE, rehash: bool = False
) -> tuple[list[CaseFingerprint], list[tuple[str, FlarenetError]]]:
    """The training cases that can be used, each with every label of the table, and (case name, error) of the others.

    rehash  whether files count as unchanged only by their bytes, not by size, time and inode
    """
    is_ct = dataset.modality == "CT"
    known = {} if rehash else _unchanged(dataset, cache, is_ct=is_ct)
    jobs = [_Job(case, dataset.labels, is_ct, cache) for case in dataset.cases if case.name not in known]
    measured, failed = map_cases(_measure, jobs, pool=pool, describe="fingerprint", need_mb=_need_mb)
    return [*known.values(), *measured], [(job.name, error) for job, error in failed]


def leaked_test_cases(dataset: Dataset, measured: Iterable[CaseFingerprint]) -> list[tuple[str, FlarenetError]]:
    """(case name, error) of the test cases whose image is that of a training case.

    measured  the training cases, so that their images are not read again
    """
    known = {case.name: case.image_sha256 for case in measured}
    refused = refusals(said for findings in copies(dataset, known).values() for said in findings)
    return [(finding.case or "", as_error([finding])) for finding in refused]


@dataclass(frozen=True)
class _Job:
    """A case to measure; small enough to send to another process."""

    case: Case
    labels: LabelSet
    is_ct: bool
    cache: Cache

    @property
    def name(self) -> str:
        return self.case.name


def _need_mb(job: _Job) -> float:
    voxels = prod(read_grid(job.case.image, job.case.reading).shape)
    return PROCESS_MB + voxels * BYTES_PER_VOXEL / (1 << 20)


def _unchanged(dataset: Dataset, cache: Cache, *, is_ct: bool) -> dict[str, CaseFingerprint]:
    known = {}
    for case in dataset.cases:
        found = cache.recall(case.name, question_of(case, dataset.labels, is_ct=is_ct))
        if found is None or _contradicts(case, found.case):
            continue
        if looks_unchanged(case.image, found.image) and looks_unchanged(case.label, found.label):
            known[case.name] = found.case
    return known


def _measure(job: _Job) -> CaseFingerprint:
    """The measured case: the cached one where the files have the same bytes; else it is read, checked and measured.
    Raises FlarenetError for what is wrong with it."""
    case, question = job.case, question_of(job.case, job.labels, is_ct=job.is_ct)
    image, label = _state(case.image), _state(case.label)
    known = job.cache.recall(case.name, question)
    if known and image and known.is_of(image, label) and not _contradicts(case, known.case):
        measured = known.case
    else:
        measured = _read_and_measure(job, question, image, label)
    if image:
        job.cache.keep(Cached(question=question, image=image, label=label, case=measured))
    return measured


def _read_and_measure(job: _Job, question: str, image: FileState | None, label: FileState | None) -> CaseFingerprint:
    case, content = job.case, read_case(job.case, job.labels, is_ct=job.is_ct)
    if refused := refusals(content.findings):
        raise as_error(refused)
    assert content.image is not None and image is not None  # or something would be refused
    if not (looks_unchanged(case.image, image) and looks_unchanged(case.label, label)):
        raise DatasetError(f"case {case.name}", found="files that changed while being read", expected="files at rest")
    made_of = [question, image.sha256, label.sha256 if label else ""]
    measured = measure(
        content.image,
        None if content.label_map is None else content.label_map.data,
        job.labels,
        name=case.name,
        is_ct=job.is_ct,
        image_sha256=image.sha256,
        key=hashlib.sha256("".join(made_of).encode()).hexdigest(),
    )
    remarks = tuple(f"{said.found}; expected {said.expected}" for said in content.findings)
    return measured.model_copy(update={"remarks": remarks})


def _state(path: Path | None) -> FileState | None:
    # a file that is not there has no state; read_case says so
    return state_of(path) if path is not None and path.is_file() else None


def _contradicts(case: Case, measured: CaseFingerprint) -> bool:
    """Whether the mask holds labels that are not declared. Such a case is read again, so that the check names them."""
    return case.declared and any(count and value not in case.annotated for value, count in measured.voxels.items())
