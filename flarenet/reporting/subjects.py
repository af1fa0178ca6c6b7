"""The cases that a report shows in pictures, and their scans with truth and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np

from ..data.labels import HIDDEN, LabelPattern, LabelSet
from ..data.names import files_by_case
from ..data.nifti import read_image
from ..evaluation.gallery import read_on
from ..evaluation.pairs import Pair
from ..evaluation.pictures import body_box, window_of
from ..evaluation.tables import mean_score
from ..volume import Volume, canonical, crop
from .models import ScoredModel

TRUTH = "ground truth"


@dataclass(frozen=True)
class Subject:
    """A case to show; small enough to send to another process.

    pair         the ground truth, the labels to score in it, and how it, the image and the predictions are read
    predictions  model -> the file of its prediction, where that could be scored
    dsc          model -> mean DSC over the labels of the case, 0 to 1, for the same models
    """

    case: str
    image: Path
    pair: Pair
    predictions: Mapping[str, Path]
    dsc: Mapping[str, float]

    @property
    def caption(self) -> str:
        return f"{self.case}: mean DSC {', '.join(f'{100 * dsc:.2f} ({model})' for model, dsc in self.dsc.items())}"

    @property
    def folders(self) -> set[Path]:
        """The folders of its files."""
        return {file.parent for file in (self.image, self.pair.truth, *self.predictions.values())}


@dataclass(frozen=True, eq=False)
class ShownScan:
    """A scan in canonical order, cropped to the body.

    layers  title -> label map of the same shape: the truth, then those of the models
    window  the intensities shown as black and as white
    first   the index of its first slice in the whole scan, from 0 at the feet
    """

    image: Volume
    layers: Mapping[str, np.ndarray]
    window: tuple[float, float]
    first: int


def find_subjects(models: Sequence[ScoredModel], images: Path) -> list[Subject]:
    """The cases with an image in the folder `images` and a prediction that was scored, the lowest mean DSC first.

    Raises DatasetError where `images` holds no image.
    """
    found = files_by_case(images)
    pairs: dict[str, dict[str, Pair]] = {}
    for model in models:
        for pair in model.pairs:
            if pair.name in found and pair.name not in model.metrics.failed:
                pairs.setdefault(pair.name, {})[model.name] = pair
    scores = {model.name: model.metrics.cases for model in models}
    subjects = []
    for case, by_model in pairs.items():
        means = {model: mean_score(scores[model][case]).dsc for model in by_model}
        dsc = {model: middle for model, middle in means.items() if middle is not None}
        if dsc:
            predictions = {model: by_model[model].prediction for model in dsc}
            subjects.append(Subject(case, found[case], next(iter(by_model.values())), predictions, dsc))
    return sorted(subjects, key=lambda subject: (mean(subject.dsc.values()), subject.case))


def ends(subjects: Sequence[Subject], most: int) -> list[Subject]:
    """At most `most` of `subjects`, in their order: half from the front, half from the back."""
    if len(subjects) <= most:
        return list(subjects)
    front = (most + 1) // 2
    return [*subjects[:front], *subjects[len(subjects) - (most - front) :]]


def read_scan(subject: Subject, labels: LabelSet, *, is_ct: bool) -> ShownScan:
    """Read the files of a case. Raises GeometryError where they do not lie on one grid."""
    pair, reading = subject.pair, subject.pair.reading
    image = read_image(subject.image, reading)
    maps = {TRUTH: read_on(image, pair.truth, labels, values=pair.values, reading=reading)}
    maps |= {model: read_on(image, path, labels, reading=reading) for model, path in subject.predictions.items()}
    reoriented, _ = canonical(image)
    body = body_box(reoriented.data, is_ct=is_ct)
    layers = {title: crop(canonical(volume)[0], body).data for title, volume in maps.items()}
    return ShownScan(crop(reoriented, body), layers, window_of(reoriented.data, is_ct=is_ct), body.start[0])


def different(truth: np.ndarray, predicted: np.ndarray, to_score: LabelPattern) -> np.ndarray:
    """Where a label map differs from the truth, bool; labels not in `to_score` count as background, and nothing
    differs where the truth is HIDDEN."""
    table = np.array([value if value in to_score else 0 for value in range(256)], dtype=np.uint8)
    return (table[predicted] != table[truth]) & (truth != HIDDEN)
