"""Cases that a person should look at, each with the reason: numbers far from the usual, without a judgement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...data.labels import LabelSet
from ...data.sides import left_and_right
from ...data.verify import EMPTY, LABELS_OR_A_NOTE
from .measure import CaseFingerprint, LabelFacts

FEWEST = 8
"""The fewest cases that show what is usual among them."""

FAR = 6.0
"""How many robust standard deviations from the median of its cohort a number counts as far. Of normally distributed
numbers, 2 in 10^9 are that far."""

LEAST_SD_HU, LEAST_SD_LOG = 5.0, 0.15
"""The least standard deviation that is assumed, for cases that happen to be alike: 5 HU, and 15 % of a volume."""

MAD_TO_SD = 1.4826
"""How many times its median absolute deviation the standard deviation of a normal distribution is."""

Cases = Sequence[CaseFingerprint]


def sentences(cases: Cases, labels: LabelSet, *, in_hu: bool) -> tuple[str, ...]:
    """What is odd, case by case in their order.

    in_hu  whether the images are CT. Intensities without a unit are not compared between scans
    """
    found: dict[str, list[str]] = {case.name: [] for case in cases}
    finders = [_twins, _remarks, _empty, _mirrored, _volumes, *([_intensities] if in_hu else [])]
    for find in finders:
        for name, sentence in find(cases, labels):
            found[name].append(f"{name}: {sentence}")
    return tuple(sentence for said in found.values() for sentence in said)


_Said = Iterator[tuple[str, str]]


def _twins(cases: Cases, labels: LabelSet) -> _Said:
    seen: dict[str, str] = {}
    for case in cases:
        twin = seen.setdefault(case.image_sha256, case.name)
        if twin != case.name:
            yield case.name, f"the same image as {twin}"


def _remarks(cases: Cases, labels: LabelSet) -> _Said:
    for case in cases:
        for remark in case.remarks:
            yield case.name, remark


def _empty(cases: Cases, labels: LabelSet) -> _Said:
    """Label maps without a label, in cases of which nobody stated what was looked for."""
    for case in cases:
        if case.inferred and not any(case.voxels.values()):
            yield case.name, f"{EMPTY}; expected {LABELS_OR_A_NOTE}"


def _mirrored(cases: Cases, labels: LabelSet) -> _Said:
    """Pairs of a left and a right label that lie the wrong way round."""
    pairs = left_and_right(labels.names)
    for case in cases:
        for left, right in pairs:
            centres = [case.labels[value].centre_x if value in case.labels else None for value in (left, right)]
            if None not in centres and centres[0] > centres[1]:  # type: ignore[operator]
                yield case.name, f"{labels.names[left]} lies to the right of {labels.names[right]}"


def _volumes(cases: Cases, labels: LabelSet) -> _Said:
    def log_ml(case: CaseFingerprint, facts: LabelFacts) -> float:
        return float(np.log(facts.voxels * np.prod(case.spacing_mm) / 1000))

    whole = [case for case in cases if not case.ignored]  # in the others, part of a volume may not be annotated
    for name, value, volume, usual in _far(whole, log_ml, LEAST_SD_LOG):
        yield name, f"{labels.names[value]} of {np.exp(volume):.3g} ml, {np.exp(usual):.3g} ml in the median case"


def _intensities(cases: Cases, labels: LabelSet) -> _Said:
    for name, value, mean, usual in _far(cases, lambda case, facts: float(facts.mean_hu or 0), LEAST_SD_HU):
        yield name, f"{labels.names[value]} of {mean:.0f} HU on average, {usual:.0f} HU in the median case"


def _far(
    cases: Cases, number: Callable[[CaseFingerprint, LabelFacts], float], least_sd: float
) -> Iterator[tuple[str, int, float, float]]:
    """(case, label, number, median) where a number of a label is far from that of the other cases of its cohort."""
    columns: dict[tuple[tuple[int, ...], int], list[tuple[str, float]]] = {}
    for case in cases:
        for value, facts in case.labels.items():
            if facts.voxels:
                columns.setdefault((case.annotated, value), []).append((case.name, number(case, facts)))
    for (_, value), column in columns.items():
        if len(column) < FEWEST:
            continue
        numbers = np.array([entry for _, entry in column])
        median = float(np.median(numbers))
        sd = max(least_sd, MAD_TO_SD * float(np.median(np.abs(numbers - median))))
        for name, entry in column:
            if abs(entry - median) > FAR * sd:
                yield name, value, entry, median
