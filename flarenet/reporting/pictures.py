"""The pictures of a report: the best and the worst cases in one picture, and slices to browse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..data.cases import HERE, Pool, map_cases
from ..data.dataset import Dataset
from ..data.labels import LabelSet
from ..errors import without_folders
from ..evaluation.gallery import drawing_mb
from ..evaluation.pictures import Row
from .content import Browser, Gallery, Listing, Part, Section, Strip, Words
from .extremes import BEST, WORST, extreme_row, extremes_picture
from .models import ScoredModel
from .pixels import hex_of
from .slices import make_strip
from .subjects import Subject, ends, find_subjects, read_scan


@dataclass(frozen=True)
class Job:
    """A case to draw.

    note     the text on the case in the picture of extremes; empty where the case is not in that picture
    browsed  whether its slices can be browsed
    """

    subject: Subject
    note: str
    browsed: bool


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn of a case.

    row     for the picture of extremes; None where the case is not in it
    strip   slices to browse; None where the case is not browsed
    values  the label values in the truth or the predictions
    """

    row: Row | None
    strip: Strip | None
    values: frozenset[int]


def picture_section(
    models: Sequence[ScoredModel], dataset: Dataset, images: Path, *, browsed: int, pool: Pool = HERE
) -> Section:
    """The section with pictures of the cases that have an image in the folder `images`; it names those that could not
    be drawn.

    browsed  how many cases can be browsed: one half the worst, the other the best
    """
    subjects, names = find_subjects(models, images), [model.name for model in models if model.pairs]
    work = partial(draw, models=names, labels=dataset.labels, is_ct=dataset.modality == "CT")
    drawn, failed = map_cases(work, _jobs(subjects, browsed), pool=pool, describe="pictures", need_mb=_need_mb)
    parts: list[Part] = [_about(models, subjects, browsed)]
    if failed:
        lines = [f"{job.subject.case}: {without_folders(str(error), job.subject.folders)}" for job, error in failed]
        parts.append(Listing(f"Could not be drawn: {len(failed)}", tuple(lines), bad=True))
    if rows := [each.row for each in drawn if each.row]:
        parts.append(Gallery((extremes_picture(rows, names, labels=dataset.labels),)))
    if strips := tuple(each.strip for each in drawn if each.strip):
        there = sorted({value for each in drawn for value in each.values})
        parts.append(Browser(strips, {dataset.labels.names[value]: hex_of(value) for value in there}))
    return Section("pictures", "Pictures", tuple(parts))


def draw(job: Job, *, models: Sequence[str], labels: LabelSet, is_ct: bool) -> Drawn:
    """Read a case once and draw everything that the page shows of it."""
    scan = read_scan(job.subject, labels, is_ct=is_ct)
    values = {value for layer in scan.layers.values() for value in labels.values if (layer == value).any()}
    return Drawn(
        extreme_row(job.subject, scan, models, note=job.note) if job.note else None,
        make_strip(job.subject, scan, labels) if job.browsed else None,
        frozenset(values),
    )


def _jobs(subjects: Sequence[Subject], browsed: int) -> list[Job]:
    """The cases to draw, the best first, as in the paper's figure."""
    shown, extreme = ends(subjects, browsed), ends(subjects, BEST + WORST)
    best = extreme[len(extreme) - min(BEST, len(extreme) // 2 or 1) :]
    notes = {subject.case: "among the best" if subject in best else "among the worst" for subject in extreme}
    return [Job(s, notes.get(s.case, ""), s in shown) for s in reversed(subjects) if s in shown or s in extreme]


def _need_mb(job: Job) -> float:
    subject = job.subject
    return drawing_mb(subject.image, subject.pair.reading, maps=1 + len(subject.predictions))


def _about(models: Sequence[ScoredModel], subjects: Sequence[Subject], browsed: int) -> Words:
    lines = []
    without = [model.name for model in models if not model.pairs]
    if without:
        lines.append(f"Not shown: {', '.join(without)}; of them only scores are available, no predictions.")
    if len(subjects) > browsed > 0:
        lines.append(f"{browsed} of {len(subjects)} cases can be browsed: the worst and the best by mean DSC.")
    if not subjects:
        lines.append("No case has an image, a ground truth and a prediction that was scored.")
    return Words(tuple(lines))
