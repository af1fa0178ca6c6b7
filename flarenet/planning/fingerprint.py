"""What a data set is like: measured case by case, then put together.

Every number of a plan follows from a fingerprint, so it holds facts only: sizes, spacings, intensities and which
labels were looked for. Axes are canonical (z, y, x; see volume). The same files give the same fingerprint, whatever
the number of workers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from ..data.cases import Pool, map_cases
from ..data.dataset import Case, Dataset
from ..data.findings import as_error, refusals
from ..data.labels import LabelSet
from ..data.nifti import read_image, read_labels
from ..data.verify import check_case
from ..errors import DatasetError, FlarenetError
from ..schema import Frozen, load
from ..volume import canonical
from ..whole import sha256_of
from .patterns import Pattern, cohorts

FINGERPRINT_VERSION: Final = 1

LOWEST_HU, BINS = -2048, 4096
"""The histogram has one bin per HU from -2048 to 2047; what lies outside counts in the outer bins."""

INSIDE_HU = -500.0
"""Above it lies the inside of the patient, without lung and air; stands in where a case has no drawn label."""

BODY_HU = -120.0
"""Fat is about -100 HU and air far below; sets that were cut at -125 HU on storage still tell body from air here."""

BODY_SHARE = 0.01
"""A plane belongs to the body if more than this share of its voxels lies above BODY_HU: noise does not count."""

Triple = tuple[float, float, float]


class CaseFingerprint(Frozen):
    """One case, axes in canonical order.

    shape, spacing_mm  (z, y, x) voxels and mm
    body_shape         planes (z, y, x) from the first to the last that belong to the body
    min_hu, max_hu     over the whole image
    annotated          the values looked for
    voxels             label value -> number of voxels, for the values looked for; 0 means looked for and absent
    histogram_of       "foreground": the voxels of `voxels`; "body": those above INSIDE_HU, where no label was drawn
    histogram          one count per HU, packed by pack_histogram
    image_sha256       of the bytes of the image file
    key                of everything the numbers depend on: an equal key means that nothing has to be measured again
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: Triple
    body_shape: tuple[int, int, int]
    min_hu: float
    max_hu: float
    annotated: tuple[int, ...]
    voxels: dict[int, int]
    histogram_of: Literal["foreground", "body"]
    histogram: str
    image_sha256: str
    key: str


class Cohort(Frozen):
    """The cases of one pattern; floor and ceiling are the medians of their lowest and highest HU."""

    pattern: tuple[int, ...]
    cases: int
    floor_hu: float
    ceiling_hu: float


class Intensities(Frozen):
    """The voxels that matter, over all cases; `source` as in CaseFingerprint.histogram_of. In HU."""

    source: Literal["foreground", "body"]
    voxels: int
    mean_hu: float
    sd_hu: float
    median_hu: float
    percentile_00_5_hu: float
    percentile_99_5_hu: float


class Spread(Frozen):
    """Smallest, median and largest over the cases, each (z, y, x)."""

    smallest: Triple
    median: Triple
    largest: Triple


class Fingerprint(Frozen):
    """A data set, from its cases.

    modality    "CT", or what dataset.json calls its channel
    cohorts     from the most labels to the fewest
    shape       in voxels      body_mm    size of the body's box
    suspicious  sentences on what a person should look at; nothing is left out because of them
    """

    version: Literal[1] = FINGERPRINT_VERSION
    dataset: str
    modality: str = "CT"
    labels: LabelSet
    cohorts: tuple[Cohort, ...]
    shape: Spread
    spacing_mm: Spread
    body_mm: Spread
    intensities: Intensities
    suspicious: tuple[str, ...]
    cases: tuple[CaseFingerprint, ...]

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """Every pattern, from the most labels to the fewest."""
        return tuple(cohort.pattern for cohort in self.cohorts)

    @property
    def never_annotated(self) -> tuple[int, ...]:
        """The values that nobody looked for in any case: nothing can be learned about them."""
        looked_for = {value for pattern in self.patterns for value in pattern}
        return tuple(value for value in self.labels.values if value not in looked_for)

    @property
    def hash(self) -> str:
        """SHA-256 of all that is in it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def count(self, patterns: Iterable[Iterable[int]]) -> int:
        """How many cases have one of `patterns`."""
        wanted = {tuple(sorted(pattern)) for pattern in patterns}
        return sum(cohort.cases for cohort in self.cohorts if cohort.pattern in wanted)


def fingerprint(
    dataset: Dataset, *, workers: int | Pool = 1, cached: Path | None = None
) -> tuple[Fingerprint, list[tuple[str, FlarenetError]]]:
    """Check and measure every training case; returns the Fingerprint and the failures as (case name, error).

    A case that fails is left out of the numbers. `cached` is an earlier fingerprint.json: a case whose files and
    annotation are unchanged is taken from it. One that is missing or of another form counts as none, because it holds
    nothing that is not measured again. Raises DatasetError where not one case can be used.
    """
    known = _known(cached)
    jobs = [_Job(case, dataset.labels, known.get(case.name)) for case in dataset.cases]
    measured, failed = map_cases(_measure, jobs, workers=workers, describe="fingerprint")
    failures = [(job.case.name, error) for job, error in failed]
    usable = [case for case in measured if case is not None]
    if not usable:
        listed = "".join(f"\n  {name}: {error}" for name, error in failures)
        raise DatasetError(
            f"data set {dataset.name}: no training case can be used",
            found=f"{len(failures)} broken cases{listed}",
            expected="at least one readable training case",
        )
    return summarise(dataset.name, dataset.labels, usable, modality=dataset.modality), failures


def measure_case(case: Case, labels: LabelSet, *, key: str, image_sha256: str) -> CaseFingerprint:
    """Read a case and measure it. Raises DatasetError as data.nifti does."""
    image, orientation = canonical(read_image(case.image, case.reading))
    voxels: dict[int, int] = {}
    foreground = np.zeros(image.data.shape, dtype=bool)
    if case.label is not None:
        drawn = orientation.apply(read_labels(case.label, labels, values=case.values, reading=case.reading).data)
        counts = np.bincount(drawn.ravel(), minlength=256)
        voxels = {value: int(counts[value]) for value in sorted(case.annotated)}
        foreground = np.isin(drawn, sorted(case.annotated))
    has_foreground = bool(foreground.any())
    histogram = hu_histogram(image.data[foreground if has_foreground else image.data > INSIDE_HU])
    return CaseFingerprint(
        name=case.name,
        shape=image.grid.shape,
        spacing_mm=_triple(image.grid.spacing_mm),
        body_shape=body_shape(image.data),
        min_hu=float(image.data.min()),
        max_hu=float(image.data.max()),
        annotated=tuple(sorted(case.annotated)),
        voxels=voxels,
        histogram_of="foreground" if has_foreground else "body",
        histogram=pack_histogram(histogram),
        image_sha256=image_sha256,
        key=key,
    )


def hu_histogram(values: np.ndarray) -> np.ndarray:
    """Counts [4096] per HU of values of any shape, rounded to whole HU; outer bins take what lies outside."""
    whole = np.rint(values).astype(np.int64).ravel()
    return np.bincount(np.clip(whole - LOWEST_HU, 0, BINS - 1), minlength=BINS)


def body_shape(image: np.ndarray) -> tuple[int, int, int]:
    """Planes along each axis of `image` [Z, Y, X] from the first to the last that belong to the body.

    An image without body gives its own shape.
    """
    above = image > BODY_HU
    extent = list(image.shape)
    for axis in range(3):
        share = above.mean(axis=tuple(other for other in range(3) if other != axis))
        planes = np.flatnonzero(share > BODY_SHARE)
        if planes.size:
            extent[axis] = int(planes[-1] - planes[0]) + 1
    z, y, x = extent
    return z, y, x


def pack_histogram(counts: np.ndarray) -> str:
    """Counts [4096] as text: little-endian uint32, deflated, in base64."""
    return base64.b64encode(zlib.compress(counts.astype("<u4").tobytes(), 9)).decode("ascii")


def unpack_histogram(text: str) -> np.ndarray:
    """The inverse of pack_histogram: int64 [4096]. Raises DatasetError where the text is none."""
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 4 * BINS + 1)
    except (ValueError, zlib.error) as problem:
        raise DatasetError("histogram of a fingerprint", found=problem, expected="a packed histogram") from problem
    if len(data) != 4 * BINS:
        raise DatasetError("histogram of a fingerprint", found=f"{len(data)} bytes", expected=f"{4 * BINS} bytes")
    return np.frombuffer(data, dtype="<u4").astype(np.int64)


def summarise(
    name: str, labels: LabelSet, cases: Iterable[CaseFingerprint], *, modality: str = "CT"
) -> Fingerprint:
    """The Fingerprint of a data set from those of its cases (at least one), ordered by name."""
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
        suspicious=_suspicious(ordered, labels, in_hu=modality == "CT"),
        cases=ordered,
    )


@dataclass(frozen=True)
class _Job:
    case: Case
    labels: LabelSet
    known: CaseFingerprint | None

    @property
    def name(self) -> str:
        return self.case.name


def _measure(job: _Job) -> CaseFingerprint:
    case = job.case
    # a file that is not there has no digest; check_case says so
    digests = [sha256_of(path) if path is not None and path.is_file() else "" for path in (case.image, case.label)]
    meant = [sorted(case.annotated), sorted(case.values.items()), case.reading.model_dump(), job.labels.names]
    facts = [FINGERPRINT_VERSION, case.name, *meant, *digests]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    if job.known is not None and job.known.key == key:
        return job.known
    if refused := refusals(check_case(case, job.labels)):
        raise as_error(refused)
    return measure_case(case, job.labels, key=key, image_sha256=digests[0])


def _known(cached: Path | None) -> Mapping[str, CaseFingerprint]:
    if cached is None or not cached.is_file():
        return {}
    try:
        return {case.name: case for case in load(Fingerprint, cached, DatasetError).cases}
    except DatasetError:  # written by another version, or damaged: measured again, then written anew
        return {}


def _cohorts(cases: tuple[CaseFingerprint, ...]) -> tuple[Cohort, ...]:
    found = []
    for pattern, count in cohorts(cases):
        members = [case for case in cases if case.annotated == pattern]
        found.append(
            Cohort(
                pattern=pattern,
                cases=count,
                floor_hu=float(np.median([case.min_hu for case in members])),
                ceiling_hu=float(np.median([case.max_hu for case in members])),
            )
        )
    return tuple(found)


def _spread(rows: list[tuple]) -> Spread:
    table = np.array(rows, dtype=float)
    smallest, median, largest = (_triple(statistic(table, axis=0)) for statistic in (np.min, np.median, np.max))
    return Spread(smallest=smallest, median=median, largest=largest)


def _triple(numbers: Iterable[float]) -> Triple:
    """Headers hold single precision; five digits after the point hide its noise."""
    z, y, x = (round(float(number), 5) for number in numbers)
    return z, y, x


def _intensities(cases: tuple[CaseFingerprint, ...]) -> Intensities:
    drawn = any(case.histogram_of == "foreground" for case in cases)
    source: Literal["foreground", "body"] = "foreground" if drawn else "body"
    total = np.zeros(BINS, dtype=np.int64)
    for case in cases:
        if case.histogram_of == source:
            total += unpack_histogram(case.histogram)
    hu = np.arange(BINS) + LOWEST_HU
    voxels = int(total.sum())
    if voxels == 0:
        raise DatasetError(
            "the images", found=f"no voxel above {INSIDE_HU:g} HU in any of {len(cases)} cases", expected="CT in HU"
        )
    mean = float((total * hu).sum() / voxels)
    below = np.cumsum(total)

    def percentile(percent: float) -> float:
        """The lowest HU that at least this share of the voxels does not exceed."""
        return float(hu[np.searchsorted(below, percent / 100 * voxels)])

    return Intensities(
        source=source,
        voxels=voxels,
        mean_hu=round(mean, 4),
        sd_hu=round(float(np.sqrt((total * (hu - mean) ** 2).sum() / voxels)), 4),
        median_hu=percentile(50),
        percentile_00_5_hu=percentile(0.5),
        percentile_99_5_hu=percentile(99.5),
    )


def _suspicious(cases: tuple[CaseFingerprint, ...], labels: LabelSet, *, in_hu: bool) -> tuple[str, ...]:
    sentences: list[str] = []
    seen: dict[str, str] = {}
    for case in cases:
        if case.image_sha256 in seen:
            sentences.append(f"{case.name}: the same image as {seen[case.image_sha256]}")
        seen.setdefault(case.image_sha256, case.name)
        if in_hu and case.min_hu >= 0:
            sentences.append(f"{case.name}: no value below 0; are these HU?")
        if min(case.spacing_mm) < 0.2 or max(case.spacing_mm) > 10:
            sentences.append(f"{case.name}: unusual spacing {' x '.join(f'{mm:g}' for mm in case.spacing_mm)} mm")
        absent = [value for value, count in case.voxels.items() if count == 0]
        if absent:
            sentences.append(f"{case.name}: looked for and absent: {', '.join(labels.names_of(absent))}")
    return tuple(sentences)
