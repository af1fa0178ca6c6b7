"""The cases that a report shows in pictures: which, and their scan with the truth and every prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np

from ..data.labels import LabelPattern, LabelSet
from ..data.names import files_by_case
from ..data.nifti import read_image
from ..evaluation.gallery import drawing_mb, read_on
from ..evaluation.pairs import Pair
from ..evaluation.pictures import body_box, window_of
from ..evaluation.tables import mean_score
from ..volume import Volume, canonical, crop
from .models import ScoredModel

TRUTH = "ground truth"


@dataclass(frozen=True)
class Subject:
    """A case to show; small enough to send to another process.

    pair         the ground truth, what was looked for in it, and how it, the image and the predictions are read
    predictions  model -> file; without those that could not be scored
    dsc          model -> mean over the labels of the case, 0 to 1; as many as predictions
    """

    case: str
    image: Path
    pair: Pair
    predictions: Mapping[str, Path]
    dsc: Mapping[str, float]

    @property
    def caption(self) -> str:
        return f"{self.case}: mean DSC {', '.join(f'{100 * dsc:.2f} ({model})' for model, dsc in self.dsc.items())}"


@dataclass(frozen=True, eq=False)
class ShownScan:
    """A scan in canonical order, cut to the body, and label maps of the same shape: the truth, then the models'.

    window  what is black and what is white      first  slice of the whole scan, from the feet, that begins it
    """

    image: Volume
    layers: Mapping[str, np.ndarray]
    window: tuple[float, float]
    first: int


def find_subjects(models: Sequence[ScoredModel], images: Path) -> list[Subject]:
    """Every case that has an image in the folder `images` and a prediction that was scored, the lowest DSC first.

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
    """At most so many: half of them from the front, half from the back, in their order."""
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
    turned, _ = canonical(image)
    body = body_box(turned.data, is_ct=is_ct)
    layers = {title: crop(canonical(volume)[0], body).data for title, volume in maps.items()}
    return ShownScan(crop(turned, body), layers, window_of(turned.data, is_ct=is_ct), body.start[0])


def need_mb(subject: Subject) -> float:
    """As drawing_mb, of the truth and every prediction."""
    return drawing_mb(subject.image, subject.pair.reading, maps=1 + len(subject.predictions))


def different(truth: np.ndarray, predicted: np.ndarray, asked: LabelPattern) -> np.ndarray:
    """Where a label map says other than the truth, of the labels looked for."""
    table = np.array([value if value in asked else 0 for value in range(256)], dtype=np.uint8)
    return table[predicted] != table[truth]
