"""The fingerprint of a data set: measured case by case, then summarised.

Every number of a plan follows from a fingerprint. It holds only facts: sizes, spacings, intensities, and which labels
were looked for, inferred where that was not stated. The same files give the same fingerprint, whatever the number of
workers.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...data.cases import HERE, Pool
from ...data.dataset import Dataset
from ...data.labels import LabelSet
from ...errors import DatasetError, FlarenetError
from ...schema import LARGEST_FINGERPRINT_BYTES, Frozen
from ..rules.patterns import Pattern, cohorts
from .cache import Cache
from .inferred import Inferred, Namer, infer_patterns
from .measure import BINS, INSIDE_HU, Bins, CaseFingerprint, mean_and_sd, percentile, rounded, unpack_histogram
from .survey import leaked_test_cases, measure_cases
from .suspicious import sentences

FINGERPRINT_VERSION: Final = 2


class CohortLabel(Frozen):
    """A label in the cases of a cohort.

    present  how many cases hold it; the other numbers are medians over these
    """

    present: int
    voxels: float
    mean_hu: float
    percentile_05_hu: float
    percentile_95_hu: float


class Cohort(Frozen):
    """The cases of one pattern.

    cases       number of cases
    inferred    for how many of them the pattern was inferred
    floor_hu    median of their lowest HU
    ceiling_hu  median of their highest HU
    labels      value -> facts, for the labels of the pattern that at least one case holds
    """

    pattern: tuple[int, ...]
    cases: int
    inferred: int = 0
    floor_hu: float
    ceiling_hu: float
    labels: dict[int, CohortLabel] = {}


class Intensities(Frozen):
    """The intensities, in HU, of the foreground or the body, over all cases.

    source  which voxels these are, as in CaseFingerprint.histogram_of
    voxels  number of voxels
    """

    source: Literal["foreground", "body"]
    voxels: int
    mean_hu: float
    sd_hu: float
    median_hu: float
    percentile_00_5_hu: float
    percentile_99_5_hu: float


class Spread(Frozen):
    """The smallest, the median and the largest value over the cases, each by axis (z, y, x)."""

    smallest: tuple[float, float, float]
    median: tuple[float, float, float]
    largest: tuple[float, float, float]


class Fingerprint(Frozen):
    """The summary of a data set.

    modality    "CT", or what dataset.json calls its channel
    cohorts     from the most labels to the fewest
    shape       sizes of the scans in voxels
    body_mm     sizes of the box around the body
    absent      case -> the values looked for in it that are not there; cases with ignored voxels are left out
    ambiguous   case -> why the pattern that was inferred for it is not certain
    suspicious  sentences on what a person should look at; no case is left out because of them
    cases       the fingerprint of each case
    """

    largest_bytes = LARGEST_FINGERPRINT_BYTES
    version: Literal[2] = FINGERPRINT_VERSION
    dataset: str
    modality: str = "CT"
    labels: LabelSet
    cohorts: tuple[Cohort, ...]
    shape: Spread
    spacing_mm: Spread
    body_mm: Spread
    intensities: Intensities
    absent: dict[str, tuple[int, ...]]
    ambiguous: dict[str, str]
    suspicious: tuple[str, ...]
    cases: tuple[CaseFingerprint, ...]

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """Every pattern, from the most labels to the fewest."""
        return tuple(cohort.pattern for cohort in self.cohorts)

    @property
    def intensity(self) -> str:
        """What its intensities are called in tables: "HU", or "value" where they have no unit."""
        return "HU" if self.modality == "CT" else "value"

    @property
    def never_annotated(self) -> tuple[int, ...]:
        """The values that were looked for in no case: nothing can be learned about them."""
        looked_for = {value for pattern in self.patterns for value in pattern}
        return tuple(value for value in self.labels.values if value not in looked_for)

    @property
    def hash(self) -> str:
        """The SHA-256 of its content without the cases' `ignored`, which decides no number. So the hash of fingerprints
        from before that field is unchanged."""
        content = self.model_dump(mode="json", exclude={"cases": {"__all__": {"ignored"}}})
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def count(self, patterns: Iterable[Iterable[int]]) -> int:
        """How many cases have one of `patterns`."""
        wanted = {tuple(sorted(pattern)) for pattern in patterns}
        return sum(cohort.cases for cohort in self.cohorts if cohort.pattern in wanted)


def fingerprint(
    dataset: Dataset,
    *,
    pool: Pool = HERE,
    cached: Path | None = None,
    rehash: bool = False,
    remember: bool = True,
) -> tuple[Fingerprint, list[tuple[str, FlarenetError]]]:
    """Check and measure every training case; returns the Fingerprint and (case name, error) of the cases that failed,
    and of test cases whose image is trained on.

    A case that fails is left out of the numbers. Raises DatasetError where no case can be used.

    cached    the folder where measured cases are kept: those whose files have not changed are not read again
    rehash    whether files count as unchanged only by their bytes, not by size, time and inode
    remember  whether what is measured is kept in `cached`
    """
    usable, failures = measure_cases(dataset, Cache(cached, writable=remember), pool=pool, rehash=rehash)
    if not usable:
        listed = "".join(f"\n  {name}: {error}" for name, error in failures)
        raise DatasetError(
            f"data set {dataset.name}: no training case can be used",
            found=f"{len(failures)} broken cases{listed}",
            expected="at least one readable training case",
        )
    inferred = _infer(dataset, usable)
    settled = [_with_pattern(case, inferred.patterns.get(case.name)) for case in _declared(dataset, usable)]
    summary = summarise(dataset.name, dataset.labels, settled, modality=dataset.modality, ambiguous=inferred.ambiguous)
    return summary, [*failures, *leaked_test_cases(dataset, usable)]


def settle(dataset: Dataset, fingerprint: Fingerprint) -> Dataset:
    """The data set with the pattern that `fingerprint` has for each training case.

    A case in which nothing was looked for loses its label file. A case that is not in the fingerprint, because it
    failed, is left out. Each case gets its patient, see _patients.
    """
    patterns = {case.name: frozenset(case.annotated) for case in fingerprint.cases}
    patients = _patients(dataset, fingerprint)
    cases = tuple(
        replace(
            case,
            annotated=patterns[case.name],
            label=case.label if patterns[case.name] else None,
            patient=patients[case.name],
        )
        for case in dataset.cases
        if case.name in patterns
    )
    return replace(dataset, cases=cases)


def _patients(dataset: Dataset, fingerprint: Fingerprint) -> dict[str, str | None]:
    """Case -> its patient.

    Two cases are of one patient if the same patient is stated for both, or both have the same image; so are all cases
    that such pairs link. The patient is called as stated for the first of them that states one, else by the name of the
    first case. A case alone that states no patient gets None.
    """
    told = {case.name: case.patient for case in dataset.cases}
    first: dict[tuple[str, str | None], int] = {}
    shared = [
        (index, first.setdefault(key, index))
        for index, case in enumerate(fingerprint.cases)
        for key in (("image", case.image_sha256), ("patient", told[case.name]))
        if key[1]
    ]
    count = len(fingerprint.cases)
    pairs = coo_array((np.ones(len(shared)), np.transpose(shared)), shape=(count, count))
    _, numbers = connected_components(pairs, directed=False)
    joined = defaultdict(list)
    for case, number in zip(fingerprint.cases, numbers, strict=True):
        joined[number].append(case.name)
    patients: dict[str, str | None] = {}
    for names in joined.values():
        stated = [patient for name in names if (patient := told[name])]
        patients |= dict.fromkeys(names, stated[0] if stated else names[0] if len(names) > 1 else None)
    return patients


def summarise(
    name: str,
    labels: LabelSet,
    cases: Iterable[CaseFingerprint],
    *,
    modality: str = "CT",
    ambiguous: Mapping[str, str] | None = None,
) -> Fingerprint:
    """The Fingerprint of a data set from those of its cases, of which there must be at least one."""
    ordered = tuple(sorted(cases, key=lambda case: case.name))
    body_mm = [tuple(n * mm for n, mm in zip(case.body_shape, case.spacing_mm)) for case in ordered]
    return Fingerprint(
        dataset=name,
        modality=modality,
        labels=labels,
        cohorts=_cohorts(ordered),
        shape=_spread([case.shape for case in ordered]),
        spacing_mm=_spread([case.spacing_mm for case in ordered]),
        body_mm=_spread(body_mm),
        intensities=_intensities(ordered),
        absent=_absent(ordered),
        ambiguous=dict(sorted((ambiguous or {}).items())),
        suspicious=sentences(ordered, labels, in_hu=modality == "CT"),
        cases=ordered,
    )


def _infer(dataset: Dataset, measured: Iterable[CaseFingerprint]) -> Inferred:
    """The patterns of the cases that declare none; declared patterns count as known cohorts."""
    cases = {case.name: case for case in dataset.cases if case.label is not None}
    present = {m.name: [v for v, count in m.voxels.items() if count] for m in measured if m.name in cases}
    declared = {name: tuple(sorted(cases[name].annotated)) for name in present if cases[name].declared}
    if len(declared) == len(present):
        return Inferred({}, {})
    found = infer_patterns(present, declared=declared, findings=_findings(dataset.labels), namer=_namer(dataset.labels))
    # nobody looked for a label that the case's file has no value for
    patterns = {
        name: tuple(value for value in pattern if value in cases[name].annotated)
        for name, pattern in found.patterns.items()
        if name not in declared
    }
    return Inferred(patterns, found.ambiguous)


def _findings(labels: LabelSet) -> tuple[int, ...]:
    """The labels that patients may well be without: lesions, or the only label of a table."""
    return labels.values if len(labels.values) == 1 else labels.lesions


def _namer(labels: LabelSet) -> Namer:
    return lambda values: ", ".join(labels.names_of(values)) or "nothing"


def _declared(dataset: Dataset, measured: Iterable[CaseFingerprint]) -> list[CaseFingerprint]:
    stated = {case.name: tuple(sorted(case.annotated)) for case in dataset.cases}
    return [case.model_copy(update={"annotated": stated[case.name]}) for case in measured]


def _with_pattern(case: CaseFingerprint, pattern: Pattern | None) -> CaseFingerprint:
    """The case with the pattern inferred for it (None: with its own), and only with the labels of that pattern."""
    annotated = case.annotated if pattern is None else pattern
    voxels = {value: count for value, count in case.voxels.items() if value in annotated}
    labels = {value: facts for value, facts in case.labels.items() if value in annotated}
    settled = {"annotated": annotated, "inferred": pattern is not None, "voxels": voxels, "labels": labels}
    return case.model_copy(update=settled)


def _absent(cases: tuple[CaseFingerprint, ...]) -> dict[str, tuple[int, ...]]:
    told = (case for case in cases if not case.ignored)
    lacking = {case.name: tuple(value for value, count in case.voxels.items() if not count) for case in told}
    return {name: values for name, values in lacking.items() if values}


def _cohorts(cases: tuple[CaseFingerprint, ...]) -> tuple[Cohort, ...]:
    found = []
    for pattern, count in cohorts(case.annotated for case in cases):
        members = [case for case in cases if case.annotated == pattern]
        found.append(
            Cohort(
                pattern=pattern,
                cases=count,
                inferred=sum(case.inferred for case in members),
                floor_hu=float(np.median([case.min_hu for case in members])),
                ceiling_hu=float(np.median([case.max_hu for case in members])),
                labels=_cohort_labels(pattern, members),
            )
        )
    return tuple(found)


def _cohort_labels(pattern: Pattern, members: list[CaseFingerprint]) -> dict[int, CohortLabel]:
    found = {}
    for value in pattern:
        facts = [case.labels[value] for case in members if value in case.labels and case.labels[value].voxels]
        if facts:
            columns = ("voxels", "mean_hu", "percentile_05_hu", "percentile_95_hu")
            medians = {name: float(np.median([getattr(fact, name) for fact in facts])) for name in columns}
            found[value] = CohortLabel(present=len(facts), **medians)
    return found


def _spread(rows: list[tuple]) -> Spread:
    table = np.array(rows, dtype=float)
    smallest, median, largest = (rounded(statistic(table, axis=0)) for statistic in (np.min, np.median, np.max))
    return Spread(smallest=smallest, median=median, largest=largest)


def _intensities(cases: tuple[CaseFingerprint, ...]) -> Intensities:
    drawn = any(case.histogram_of == "foreground" for case in cases)
    source: Literal["foreground", "body"] = "foreground" if drawn else "body"
    counts, hu = _added([case for case in cases if case.histogram_of == source])
    if not counts.any():
        raise DatasetError(
            "the images", found=f"no voxel above {INSIDE_HU:g} HU in any of {len(cases)} cases", expected="CT in HU"
        )
    mean, sd = mean_and_sd(counts, hu)
    return Intensities(
        source=source,
        voxels=int(counts.sum()),
        mean_hu=round(mean, 4),
        sd_hu=round(sd, 4),
        median_hu=percentile(counts, hu, 50),
        percentile_00_5_hu=percentile(counts, hu, 0.5),
        percentile_99_5_hu=percentile(counts, hu, 99.5),
    )


def _added(cases: list[CaseFingerprint]) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the cases' histograms, and the values of its bins. Where the cases have different bins, the sum has
    bins that span the range of all."""
    lowest, step = min(case.lowest for case in cases), max(case.step for case in cases)
    highest = max(case.lowest + case.step * (BINS - 1) for case in cases)
    if any((case.lowest, case.step) != (lowest, step) for case in cases):
        step = (highest - lowest) / (BINS - 1)
    bins, total = Bins(lowest, step), np.zeros(BINS, dtype=np.int64)
    for case in cases:
        own, counts = Bins(case.lowest, case.step), unpack_histogram(case.histogram)
        if own == bins:
            total += counts
        else:
            np.add.at(total, bins.index(own.values), counts)
    return total, bins.values
