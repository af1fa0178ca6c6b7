"""Means over several labels, and which of them can be compared between models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from .tables import Metrics

MEASURES = ("dsc", "nsd")
ALL = "all labels"

Models = Mapping[str, Metrics]
"""Model name -> its scores."""


def case_means(metrics: Metrics, names: Sequence[str], measure: str = "dsc") -> dict[str, float]:
    """Case -> the mean of a measure, 0 to 1, over those of the labels `names` that were scored in the case."""
    scored = {
        case: [score for name in names if name in scores and (score := getattr(scores[name], measure)) is not None]
        for case, scores in metrics.cases.items()
    }
    return {case: mean(values) for case, values in scored.items() if values}


def alike(models: Mapping[str, Iterable[Metrics]], names: Sequence[str]) -> list[str]:
    """The models with a score for every label of `names` that any model has one for: a mean over fewer labels cannot be
    compared with theirs.

    models  model -> its metrics, one or several
    """
    scored = {
        model: {name for metrics in found for name in names if metrics.classes[name].n}
        for model, found in models.items()
    }
    every = set[str]().union(*scored.values())
    return [model for model, own in scored.items() if own == every]


def compared_means(models: Models, names: Sequence[str], measure: str) -> dict[str, dict[str, float]]:
    """model -> case -> mean of a measure, 0 to 1, for the models that are `alike`.

    In each case the mean is over the labels of `names` that all of these models with that case were scored on; a case
    without such a label is left out.
    """
    of_these = {model: models[model].cases for model in alike({name: [m] for name, m in models.items()}, names)}
    shared: dict[str, set[str]] = {}
    for cases in of_these.values():
        for case, scores in cases.items():
            scored = {name for name, score in scores.items() if getattr(score, measure) is not None}
            shared[case] = shared.get(case, set(names)) & scored
    return {
        model: {
            case: mean(getattr(scores[name], measure) for name in shared[case])
            for case, scores in cases.items()
            if shared[case]
        }
        for model, cases in of_these.items()
    }


def tested_means(rows: Mapping[str, tuple[str, ...]], models: Iterable[Metrics]) -> dict[str, tuple[str, ...]]:
    """`rows`, title -> labels, without groups that hold every scored label: their test would repeat that of ALL."""
    scored = {name for metrics in models for name, score in metrics.classes.items() if score.n}
    return {title: names for title, names in rows.items() if title == ALL or not scored <= set(names)}
