"""From scores of cases to means of classes and groups, and these written as JSON, CSV and a printed table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..data.labels import LabelSet
from ..schema import Frozen, save
from ..whole import write_text
from .scores import PLAIN, CaseScores, Rules, Score


class ClassScore(Frozen):
    """Means over the `n` cases in which the class was scored; None where n = 0."""

    dsc: float | None
    nsd: float | None
    n: int


class Metrics(Frozen):
    """What metrics.json holds.

    classes   by label name          groups  by group: the mean of its classes that were scored in any case
    cases     case -> label -> score; only labels asked for
    failed    case -> reason; expected = scored + len(failed), always
    notes     what the reader of the table should know
    """

    mode: str
    classes: dict[str, ClassScore]
    groups: dict[str, Score]
    cases: dict[str, dict[str, Score]]
    expected: int
    scored: int
    failed: dict[str, str]
    notes: tuple[str, ...] = ()


def summarise(
    cases: Sequence[CaseScores], labels: LabelSet, *, rules: Rules = PLAIN, notes: Iterable[str] = ()
) -> Metrics:
    """Class means over cases and group means over classes; failed cases are part of the means with their zeros."""
    classes = {}
    for name in labels.names_of(labels.values):
        scores = [case.scores[name] for case in cases if name in case.scores]
        mean = _mean(scores, rules)
        classes[name] = ClassScore(dsc=mean.dsc, nsd=mean.nsd, n=len(scores))
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
    )


def mean_score(scores: dict[str, Score]) -> Score:
    """The mean of scores by name, as of the labels of a case or of groups; None where there is none."""
    return _mean(list(scores.values()), PLAIN)


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """`metrics.json` and, one row per case and label, `scores.csv` in `folder`."""
    save(metrics, folder / "metrics.json")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("case", "label", "dsc", "nsd"))
    for case, scores in metrics.cases.items():
        rows.writerows((case, label, score.dsc, score.nsd) for label, score in scores.items())
    write_text(folder / "scores.csv", text.getvalue())


def print_metrics(metrics: Metrics, console: Console | None = None) -> None:
    """The class and group means as a table, then notes and failures, on `console` (default: standard output)."""
    console = console or Console()
    table = Table(title=f"{metrics.scored} of {metrics.expected} cases scored, mode {metrics.mode}")
    table.add_column("class")
    for name in ("DSC", "NSD", "cases"):
        table.add_column(name, justify="right")
    for name, score in metrics.classes.items():
        table.add_row(name, shown(score.dsc), shown(score.nsd), str(score.n))
    table.add_section()
    for name, mean in metrics.groups.items():
        table.add_row(f"{name} (mean)", shown(mean.dsc), shown(mean.nsd), "")
    console.print(table)
    for note in metrics.notes:
        console.print(f"note: {note}", markup=False)
    for case, reason in metrics.failed.items():
        console.print(f"failed: {case}: {reason}", markup=False)


def shown(value: float | None) -> str:
    """A score as tables show it."""
    return "-" if value is None else f"{value:.4f}"


def _mean(scores: Sequence[Score | ClassScore], rules: Rules) -> Score:
    if not scores:
        return Score(dsc=None, nsd=None)
    dsc, nsd = (sum(getattr(score, key) for score in scores) / len(scores) for key in ("dsc", "nsd"))
    return Score(dsc=rules.rounded(dsc), nsd=rules.rounded(nsd))
