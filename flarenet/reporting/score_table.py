"""Tables 4 to 6 of the paper for any scores: labels, groups and all labels, with several models side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

from ..data.label_table import plain
from ..data.labels import LabelSet
from ..evaluation.means import ALL, MEASURES, Models, alike, case_means
from ..evaluation.scores import Score
from ..evaluation.tables import ClassScore, Metrics, mean_score
from .content import Cell, Heading, Table
from .published import MARK, Printed, PublishedScores
from .tables import PLUS_MINUS

MANY_CASES = 60

Summary = tuple[float | None, float | None]
"""Mean and standard deviation, 0 to 1; None where there is none."""


def score_table(models: Models, labels: LabelSet, published: Sequence[PublishedScores] = ()) -> Table:
    """Mean and standard deviation of DSC and NSD in percent by label, with the number of cases; the best in bold.

    A mean over several labels is given for the models that are `alike` there; the others have "-".
    """
    names = labels.names_of(labels.values)
    rows = [_label_row(name, models, published) for name in names]
    foot = [_mean_row(f"{group} (mean)", labels.names_of(v), models, published) for group, v in labels.groups.items()]
    foot.append(_mean_row(ALL, names, models, published))
    head = (
        (Heading(""), *(Heading(name, 3) for name in models), *(Heading(_title(column), 2) for column in published)),
        (Heading("label"), *_headings(models, "DSC (%)", "NSD (%)", "n"), *_headings(published, "DSC (%)", "NSD (%)")),
    )
    notes = _notes(several=len(models) > 1, published=bool(published))
    return Table("scores", "DSC and NSD by label", head, tuple(rows), tuple(foot), notes=notes)


def case_table(models: Models) -> Table:
    """The means over the labels of each case; the best in bold where the models were scored on the same labels."""
    cases = dict.fromkeys(case for metrics in models.values() for case in metrics.cases)
    rows = []
    for case in cases:
        found = [mean_score(m.cases[case]) if case in m.cases else Score(dsc=None, nsd=None) for m in models.values()]
        same = len({frozenset(m.cases[case]) for m in models.values() if case in m.cases}) == 1
        best = [_best(getattr(score, measure) for score in found) if same else None for measure in MEASURES]
        failed = [case in metrics.failed for metrics in models.values()]
        cells = [
            _cell(getattr(score, measure), None, best=best[at], bad=bad)
            for score, bad in zip(found, failed)
            for at, measure in enumerate(MEASURES)
        ]
        rows.append((Cell(case, bad=any(failed)), *cells))
    head = (
        (Heading(""), *(Heading(name, 2) for name in models)),
        (Heading("case"), *_headings(models, "DSC (%)", "NSD (%)")),
    )
    title = "Mean over the labels of each case"
    return Table("cases", title, head, tuple(rows), folded=len(rows) > MANY_CASES)


def class_table(name: str, model: str, metrics: Metrics) -> Table:
    """DSC of every case and label of one model."""
    head = (tuple(Heading(text) for text in ("case", *metrics.classes)),)
    rows = []
    for case, scores in metrics.cases.items():
        cells = [_cell(scores[label].dsc, None) if label in scores else Cell("") for label in metrics.classes]
        rows.append((Cell(case, bad=case in metrics.failed), *cells))
    return Table(name, f"{model}: DSC (%) of each case by label", head, tuple(rows), folded=True)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _label_row(name: str, models: Models, published: Sequence[PublishedScores]) -> tuple[Cell, ...]:
    classes = [metrics.classes[name] for metrics in models.values()]
    found = [[(score.dsc, score.dsc_sd), (score.nsd, score.nsd_sd)] for score in classes]
    printed = [[_printed(column.dsc.get(plain(name))), _printed(column.nsd.get(plain(name)))] for column in published]
    return _row(name, found, [score.n for score in classes], printed)


def _mean_row(
    title: str, names: Sequence[str], models: Models, published: Sequence[PublishedScores]
) -> tuple[Cell, ...]:
    found, counts, compared = [], [], alike({name: [metrics] for name, metrics in models.items()}, names)
    for model, metrics in models.items():
        own = names if model in compared else ()
        classes = [metrics.classes[name] for name in own if metrics.classes[name].n]
        by_case = [list(case_means(metrics, own, measure).values()) for measure in MEASURES]
        means = [_mean_of(classes, measure) for measure in MEASURES]
        found.append([(middle, stdev(cases) if len(cases) > 1 else None) for middle, cases in zip(means, by_case)])
        counts.append(len(by_case[0]))
    if title == ALL:
        printed = [[_printed(column.average.dsc), _printed(column.average.nsd)] for column in published]
    else:
        printed = [[_mean_printed(column.dsc, names), _mean_printed(column.nsd, names)] for column in published]
    return _row(title, found, counts, printed)


def _mean_of(scores: Iterable[ClassScore], measure: str) -> float | None:
    there = [value for score in scores if (value := getattr(score, measure)) is not None]
    return mean(there) if there else None


def _row(
    title: str, found: Sequence[Sequence[Summary]], counts: Sequence[int], printed: Sequence[Sequence[Summary]]
) -> tuple[Cell, ...]:
    best = [_best(pair[at][0] for pair in found) for at in range(len(MEASURES))]
    cells = [Cell(title)]
    for pair, count in zip(found, counts):
        cells += [_cell(*summary, best=best[at], bar=True) for at, summary in enumerate(pair)]
        cells.append(Cell(str(count)))
    return (*cells, *(_cell(*summary) for pair in printed for summary in pair))


def _cell(
    middle: float | None, sd: float | None, *, best: float | None = None, bar: bool = False, bad: bool = False
) -> Cell:
    if middle is None:
        return Cell("-")
    text = percent(middle) + ("" if sd is None else f"{PLUS_MINUS}{percent(sd)}")
    return Cell(text, best=percent(middle) == percent(best), bad=bad, share=middle if bar else None)


def _best(values: Iterable[float | None]) -> float | None:
    """The highest of `values`; None where fewer than two are not None."""
    there = [value for value in values if value is not None]
    return max(there) if len(there) > 1 else None


def _printed(numbers: Printed | None) -> Summary:
    middle, sd = (*(number / 100 for number in numbers or ()), None, None)[:2]
    return middle, sd


def _mean_printed(numbers: Mapping[str, Printed], names: Sequence[str]) -> Summary:
    """The mean of the printed means of several labels; None where one of them was not printed."""
    there = [numbers[plain(name)][0] for name in names if plain(name) in numbers]
    return (mean(there) / 100, None) if len(there) == len(names) else (None, None)


def _headings(columns: Iterable[object], *names: str) -> list[Heading]:
    return [Heading(name) for _ in columns for name in names]


def _title(column: PublishedScores) -> str:
    return f"{MARK} published, Table {column.table}: {column.name}"


def _notes(*, several: bool, published: bool) -> tuple[str, ...]:
    notes = [
        "Mean ± standard deviation over n cases (with n - 1). Below the line: the mean of the labels' means, and the "
        "standard deviation over cases of the mean over these labels."
    ]
    if several:
        notes.append(
            "Bold: the highest mean of these models, as printed here. A model without a score of a label that another "
            "one has gets no mean with it."
        )
    if published:
        notes.append(f"{MARK} As published, on other cases: for orientation only. Group means computed here.")
    return tuple(notes)
