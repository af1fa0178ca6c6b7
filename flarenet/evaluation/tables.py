"""The scores of cases and their class and group means, as JSON, as CSV and as printed tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from rich.table import Table

from ..data.cases import HERE, Pool
from ..data.labels import LabelSet
from ..errors import DatasetError
from ..schema import LARGEST_TABLE_BYTES, Frozen, load, save
from ..terminal import new_table, show
from ..whole import remove_leftovers, write_csv
from .lesions import Lesion, LesionCount, count_lesions
from .pairs import CaseScores, Pair, evaluate
from .rules import PLAIN, Rules
from .scores import LabelScore, Score

METRICS, SCORES, LESIONS, CASES = "metrics.json", "scores.csv", "lesions.csv", "cases"

_COLUMNS = ("dsc", "nsd", "hd95_mm", "volume_ml", "reference_ml", "volume_difference_ml", "volume_difference_percent")


class ClassScore(Frozen):
    """Means over the `n` cases in which the class was scored (NSD: over those that have one); None without a value.

    dsc_sd, nsd_sd        sample standard deviations (n - 1)
    hd95_mm               mean over the `hd95_n` cases that have one, see LabelScore
    volume_error_ml       mean of |prediction - truth|, over the cases with a prediction
    volume_error_percent  the same in percent of the truth's volume, over the cases in which it is not 0
    """

    dsc: float | None
    nsd: float | None
    n: int
    dsc_sd: float | None = None
    nsd_sd: float | None = None
    hd95_mm: float | None = None
    hd95_n: int = 0
    volume_error_ml: float | None = None
    volume_error_percent: float | None = None


class Metrics(Frozen):
    """What metrics.json holds.

    mode           the rules: "plain" or "official"
    classes        label -> its means
    groups         group -> the mean over those of its classes that were scored in any case
    cases          case -> label -> score, for the labels to score
    expected       number of cases: always scored + len(failed)
    scored         number of cases that did not fail
    failed         case -> reason
    notes          what the reader of the table should know
    lesions        case -> its lesions, of the labels to score
    lesion_counts  label -> size class -> number of lesions found, missed and false in all cases
    """

    largest_bytes = LARGEST_TABLE_BYTES
    mode: str
    classes: dict[str, ClassScore]
    groups: dict[str, Score]
    cases: dict[str, dict[str, LabelScore]]
    expected: int
    scored: int
    failed: dict[str, str]
    notes: tuple[str, ...] = ()
    lesions: dict[str, tuple[Lesion, ...]] = Field(default_factory=dict)
    lesion_counts: dict[str, dict[str, LesionCount]] = Field(default_factory=dict)


def score_pairs(
    pairs: Sequence[Pair],
    labels: LabelSet,
    folder: Path,
    *,
    rules: Rules = PLAIN,
    pool: Pool = HERE,
    notes: Iterable[str] = (),
    describe: str = "scoring",
) -> Metrics:
    """Score `pairs` and write the metrics into `folder`, as write_metrics does. The scores of each case are kept there,
    in CASES, so that no case is scored twice.

    describe  what the progress bar says
    No other process may be writing into `folder`: what killed processes left there is removed.
    """
    for place in (folder, folder / CASES):
        remove_leftovers(place)
    cases = evaluate(pairs, labels, rules=rules, pool=pool, keep=folder / CASES, describe=describe)
    metrics = summarise(cases, labels, rules=rules, notes=notes)
    write_metrics(folder, metrics)
    return metrics


def summarise(
    cases: Sequence[CaseScores], labels: LabelSet, *, rules: Rules = PLAIN, notes: Iterable[str] = ()
) -> Metrics:
    """Class means over cases, and group means over classes; failed cases count with their zeros."""
    classes = {
        name: _of_class([case.scores[name] for case in cases if name in case.scores], rules)
        for name in labels.names_of(labels.values)
    }
    groups = {
        group: _mean([classes[name] for name in labels.names_of(values) if classes[name].n], rules)
        for group, values in labels.groups.items()
    }
    failed = {case.name: case.failure for case in cases if case.failure is not None}
    return Metrics(
        mode=rules.mode,
        classes=classes,
        groups=groups,
        cases={case.name: case.scores for case in cases},
        expected=len(cases),
        scored=len(cases) - len(failed),
        failed=failed,
        notes=tuple(notes),
        lesions={case.name: case.lesions for case in cases if case.lesions},
        lesion_counts=count_lesions((lesion for case in cases for lesion in case.lesions), labels),
    )


def mean_score(scores: Mapping[str, Score]) -> Score:
    """The mean over named scores, such as those of the labels of a case; None for DSC or NSD where none has it."""
    return _mean(list(scores.values()), PLAIN)


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Write `metrics.json`, `scores.csv` with a row per case and label, and `lesions.csv` with a row per lesion."""
    scores = (
        (case, label, *(getattr(score, column) for column in _COLUMNS))
        for case, by_label in metrics.cases.items()
        for label, score in by_label.items()
    )
    lesions = (
        (case, lesion.label, lesion.outcome, lesion.volume_ml, lesion.size, lesion.dsc)
        for case, of_case in metrics.lesions.items()
        for lesion in of_case
    )
    write_csv(folder / SCORES, ("case", "label", *_COLUMNS), scores)
    write_csv(folder / LESIONS, ("case", "label", "outcome", "volume_ml", "size", "dsc"), lesions)
    save(metrics, folder / METRICS)


def read_scores(folder: Path) -> Metrics:
    """The metrics that flarenet_evaluate wrote into `folder`. Raises DatasetError where metrics.json is missing or
    invalid."""
    return load(Metrics, folder / METRICS, DatasetError)


def print_metrics(metrics: Metrics) -> None:
    """Print the class and group means and the lesions as tables to stdout, then notes and failures."""
    title = f"{metrics.scored} of {metrics.expected} cases scored, mode {metrics.mode}"
    table = new_table(title, "class", ">DSC", ">NSD", ">HD95 mm", ">volume error", ">cases")
    for name, score in metrics.classes.items():
        error = "-" if score.volume_error_percent is None else f"{score.volume_error_percent:.1f} %"
        hd95 = "-" if score.hd95_mm is None else f"{score.hd95_mm:.1f}"
        table.add_row(name, format_score(score.dsc), format_score(score.nsd), hd95, error, str(score.n))
    table.add_section()
    for name, mean in metrics.groups.items():
        table.add_row(f"{name} (mean)", format_score(mean.dsc), format_score(mean.nsd))
    lesions = [_lesion_table(metrics)] if any(metrics.lesions.values()) else []
    show(table, *lesions, notes=metrics.notes, failed=metrics.failed)


def _lesion_table(metrics: Metrics) -> Table:
    table = new_table("lesions by volume", "label", ">volume", ">found", ">missed", ">false")
    for label, sizes in metrics.lesion_counts.items():
        for size, count in sizes.items():
            table.add_row(label, size, str(count.found), str(count.missed), str(count.false))
    return table


def format_score(value: float | None) -> str:
    """A score as tables show it."""
    return "-" if value is None else f"{value:.4f}"


def _of_class(scores: Sequence[LabelScore], rules: Rules) -> ClassScore:
    mean = _mean(scores, rules)
    dsc_sd, nsd_sd = (_sd(_there(getattr(score, key) for score in scores)) for key in ("dsc", "nsd"))
    hd95_mm = _there(score.hd95_mm for score in scores)
    return ClassScore(
        dsc=mean.dsc,
        nsd=mean.nsd,
        n=len(scores),
        dsc_sd=dsc_sd,
        nsd_sd=nsd_sd,
        hd95_mm=_mean_of(hd95_mm),
        hd95_n=len(hd95_mm),
        volume_error_ml=_mean_of(np.abs(_there(score.volume_difference_ml for score in scores))),
        volume_error_percent=_mean_of(np.abs(_there(score.volume_difference_percent for score in scores))),
    )


def _mean(scores: Sequence[Score | ClassScore], rules: Rules) -> Score:
    columns = (_there(getattr(score, key) for score in scores) for key in ("dsc", "nsd"))
    dsc, nsd = (rules.rounded(sum(column) / len(column)) if column else None for column in columns)
    return Score(dsc=dsc, nsd=nsd)


def _there(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean_of(values: Sequence[float] | np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
