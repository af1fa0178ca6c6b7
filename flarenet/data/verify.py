"""Whether a case is what dataset.json says it is. All problems of a case are found, not only the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field

from ..errors import CasesFailed, DatasetError, FlarenetError, GeometryError, UnsafeError, counted
from ..schema import Frozen
from ..volume import Grid, Volume
from ..whole import sha256_of
from .cases import HERE, Pool, map_cases
from .dataset import Case, Dataset
from .findings import Finding, of_case, refusal, refusals, remark
from .labels import HIDDEN, LabelSet, ignored_share
from .nifti import inspect_image, inspect_labels, read_grid
from .plausible import doubts_on_image, doubts_on_labels, values_of

Seen = TypeVar("Seen")

SAME_GRID_MM = 0.1
"""How far a corner voxel of a label map may lie from that of its image."""

HARMLESS_VOXELS = 512 << 20
"""A label map of up to so many voxels is read and checked whatever its image is like; it takes a byte for each."""

PROCESS_MB, BYTES_PER_VOXEL = 150, 6
"""The most memory that checking a case takes, measured and rounded up: Python with its imports, and bytes per voxel of
the image."""


EMPTY, LABELS_OR_A_NOTE = "an empty label map", "labels, or a note on what is absent"
"""What is found, and what was expected, where nobody stated what was looked for."""


class Check(Frozen):
    """What a check of a data set found.

    cases     how many cases it looked at
    findings  in the order of the cases
    ignored   case -> the share of its voxels that nobody annotated, for cases whose label file has such voxels
    """

    version: Literal[1] = 1
    dataset: str
    cases: int
    findings: tuple[Finding, ...]
    ignored: dict[str, float] = Field(default_factory=dict)

    @property
    def refused(self) -> tuple[str, ...]:
        """The names of the cases that cannot be used, in the order of the cases."""
        return tuple(dict.fromkeys(finding.case for finding in refusals(self.findings) if finding.case))

    @property
    def exit_code(self) -> int:
        """0: nothing but warnings; 7: something unsafe; 3: some of the cases refused. Where the set or all cases are
        refused: the highest code of the refusals."""
        refused = refusals(self.findings)
        highest = max((finding.exit_code for finding in refused), default=0)
        whole_set = any(not finding.case for finding in refused) or len(self.refused) == self.cases
        return highest if whole_set or highest in (0, UnsafeError.exit_code) else CasesFailed.exit_code


@dataclass(frozen=True, eq=False)
class Content:
    """What the files of a case hold: None where there is no file, or one that `findings` say cannot be used."""

    image: Volume | None
    label_map: Volume | None
    findings: tuple[Finding, ...]


def check_dataset(
    dataset: Dataset,
    look: Callable[[Case, Content], Seen] | None = None,
    *,
    pool: Pool = HERE,
    earlier: Sequence[Finding] = (),
    bytes_per_voxel: int = BYTES_PER_VOXEL,
) -> tuple[Check, dict[Path, Seen]]:
    """Everything that is wrong with the cases, training and test, in their order; and what `look` made of each case.

    look             called for each case while its files are in memory; what it returns is given back under the image's
                     path
    pool             where the cases are looked at
    earlier          what dataset_findings found, which comes first; the cases it refused are no longer in `dataset`
    bytes_per_voxel  the memory that a case takes at its peak, in bytes per voxel of its image; `look` may need more
    """
    cases = [*dataset.cases, *dataset.test]
    work = partial(_checked, look=look, labels=dataset.labels, is_ct=dataset.modality == "CT")
    need_mb = partial(_need_mb, bytes_per_voxel=bytes_per_voxel)
    found, failed = map_cases(work, cases, pool=pool, describe=f"check {dataset.name}", need_mb=need_mb)
    by_image = {case.image: findings for case, findings, _, _ in found}
    by_image |= {case.image: (refusal(case.name, error),) for case, error in failed}
    twins = copies(dataset)
    findings = (*earlier, *(said for case in cases for said in (*by_image[case.image], *twins.get(case.image, ()))))
    left_out = {finding.case for finding in refusals(earlier) if finding.case}
    ignored = {case.name: share for case, _, share, _ in found if share}
    check = Check(dataset=dataset.name, cases=len(cases) + len(left_out), findings=findings, ignored=ignored)
    return check, {case.image: seen for case, _, _, seen in found if seen is not None}


def say_ignored(shares: Iterable[float]) -> list[str]:
    """A sentence on the cases of which a share is ignored, as in Check.ignored; none where there is no such case."""
    some = [share for share in shares if share]
    return [f"label ignore: {mean(some):.2%} of the voxels of {len(some)} cases, on average"] if some else []


def copies(dataset: Dataset, known: Mapping[str, str] | None = None) -> dict[Path, list[Finding]]:
    """Findings on images that are copies of an earlier one, by image file: a warning, or a refusal of a test case whose
    image is trained on. Only files of the same size are compared. Files that cannot be read are passed over here.

    known  case -> SHA-256 of its image, where that was computed before
    """
    known = known or {}
    sizes: dict[int, list[Case]] = {}
    for case in (*dataset.cases, *dataset.test):
        with suppress(OSError):
            if case.image.is_file():
                sizes.setdefault(case.image.stat().st_size, []).append(case)
    first: dict[str, Case] = {}
    found: dict[Path, list[Finding]] = {}
    for case in (case for alike in sizes.values() if len(alike) > 1 for case in alike):
        try:
            twin = first.setdefault(known.get(case.name) or sha256_of(case.image), case)
        except OSError:
            continue
        if twin is not case:
            found[case.image] = [_copy(case, twin, leaks=twin in dataset.cases and case in dataset.test)]
    return found


def _copy(case: Case, twin: Case, *, leaks: bool) -> Finding:
    found, remedy = f"the same bytes as the image of case {twin.name}", "take one of them out"
    if not leaks:
        return remark(case.image, found=found, expected="another scan", remedy=remedy, case=case.name)
    expected = "a test case that is not trained on"
    return refusal(case.name, DatasetError(case.image, found=found, expected=expected, remedy=remedy))


def read_case(case: Case, labels: LabelSet, *, is_ct: bool = True) -> Content:
    """Read a case, each file once and to its last byte, and check it.

    Image and label must lie on one grid; the label must hold no value outside the table and none that nobody looked
    for. Nothing is raised for bad files: they become refusals among the findings.

    is_ct  whether the numbers should be HU
    """
    findings: list[Finding] = []
    image = label_map = None
    try:
        image, _, said = inspect_image(case.image, case.reading)
        findings += said
    except FlarenetError as error:
        findings.append(refusal(case.name, error))
    if case.label is not None:
        try:
            _refuse_larger(case.label, case, image)
            found = inspect_labels(case.label, labels, values=case.values, reading=case.reading)
            label_map = found.volume
            findings += found.remarks
        except FlarenetError as error:
            findings.append(refusal(case.name, error))
    if image is not None:
        findings += doubts_on_image(image.grid, values_of(image.data), case.image, is_ct=is_ct)
    if label_map is not None:
        findings += _check_label_map(case, labels, image, label_map)
    return Content(image, label_map, of_case(case.name, findings))


def _need_mb(case: Case, *, bytes_per_voxel: int) -> float:
    return PROCESS_MB + math.prod(read_grid(case.image, case.reading).shape) * bytes_per_voxel / (1 << 20)


def _checked(
    case: Case, *, look: Callable[[Case, Content], Seen] | None, labels: LabelSet, is_ct: bool
) -> tuple[Case, tuple[Finding, ...], float, Seen | None]:
    content = read_case(case, labels, is_ct=is_ct)
    ignored = 0.0 if content.label_map is None else ignored_share(content.label_map.data)
    findings = (*content.findings, *of_case(case.name, _about_empty(case, content.label_map)))
    return case, findings, ignored, None if look is None else look(case, content)


def _refuse_larger(label: Path, case: Case, image: Volume | None) -> None:
    """Raise GeometryError for a label map of more than HARMLESS_VOXELS that is larger than its image, before memory is
    taken for it: gzip can hold a thousand zeros in a byte, and a header may claim any number of voxels."""
    voxels = math.prod(read_grid(label, case.reading.of_labels()).shape)
    if voxels <= HARMLESS_VOXELS or (image is not None and voxels <= image.data.size):
        return
    expected = f"those of {case.image}, " + ("which cannot be read" if image is None else str(image.data.size))
    raise GeometryError(label, found=f"{voxels} voxels", expected=expected)


def _check_label_map(case: Case, labels: LabelSet, image: Volume | None, label_map: Volume) -> list[Finding]:
    apart = [] if image is None else _check_grids(case, image.grid, label_map.grid)
    findings = [refusal("", error) for error in (*apart, *_check_annotated(case, label_map, labels))]
    if image is not None and not apart:
        findings += doubts_on_labels(image, label_map, case.label)
    return findings


def _check_grids(case: Case, image: Grid, label: Grid) -> list[FlarenetError]:
    if label.shape != image.shape:
        return [
            GeometryError(
                case.label,
                found=f"shape {label.shape} (z, y, x)",
                expected=f"{image.shape}, as {case.image}",
                remedy="resample the label onto the image's grid by nearest neighbour",
            )
        ]
    apart_mm = image.largest_distance_mm(label)
    if apart_mm <= SAME_GRID_MM:
        return []
    return [
        GeometryError(
            case.label,
            found=f"voxels up to {apart_mm:.3g} mm away from those of {case.image}",
            expected=f"at most {SAME_GRID_MM} mm",
            remedy="find out which of the two headers is right; if it is the image's, docs/bad-input.md shows how "
            "to give it to the label",
        )
    ]


def _check_annotated(case: Case, label_map: Volume, labels: LabelSet) -> list[FlarenetError]:
    if case.annotated.issuperset(labels.values):
        return []
    # plane by plane: counting makes an integer of eight bytes of every voxel
    counts = np.sum([np.bincount(plane.reshape(-1), minlength=HIDDEN + 1) for plane in label_map.data], axis=0)
    surplus = [value for value in labels.values if counts[value] and value not in case.annotated]
    if not surplus:
        return []
    allowed = ", ".join(f"{value} {labels.names[value]}" for value in sorted(case.annotated))
    listed = ", ".join(f"{value} {labels.names[value]} ({counted(counts[value], 'voxel')})" for value in surplus)
    return [
        DatasetError(
            case.label,
            found=f"drawn: {listed}",
            expected="only values of 'annotated': " + allowed,
            remedy="add the values to 'annotated' of this case if they were looked for, else clear them from the label",
        )
    ]


def _about_empty(case: Case, label_map: Volume | None) -> list[Finding]:
    """A warning for an empty map, unless it was stated what was looked for. Planning finds these in what it measured
    (suspicious): that is kept, and must not rest on what was stated."""
    if case.declared or label_map is None or any(((p > 0) & (p < HIDDEN)).any() for p in label_map.data):
        return []
    remedy = "state in 'annotated' what was looked for in this case"
    return [remark(case.label, found=EMPTY, expected=LABELS_OR_A_NOTE, remedy=remedy)]
