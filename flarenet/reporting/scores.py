"""The scores of one or more models as sections of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..data.labels import LabelSet
from ..evaluation.means import ALL, MEASURES, Models, case_means, compared_means, tested_means
from ..evaluation.significance import FEWEST_CASES, PairedTest, paired_tests
from ..evaluation.tables import Metrics
from .charts import box_plots, scatter
from .content import Cell, Chart, Heading, Listing, Part, Section, Table, Words, plain_table
from .published import PublishedScores
from .score_table import case_table, class_table, score_table

SIGNIFICANT = 0.05

ONE_BY_ONE = ", with all that was predicted where it lies; 0: missed"


def score_sections(models: Models, labels: LabelSet, *, published: Sequence[PublishedScores] = ()) -> list[Section]:
    """Scores by label, differences between the models, lesions, and scores by case."""
    table = score_table(models, labels, published)
    sections = [Section("scores", "Scores", (_about(models), *_failures(models), table, *_boxes(models, labels)))]
    if len(models) > 1:
        sections.append(Section("differences", "Differences between models", tuple(_differences(models, labels))))
    if lesions := tuple(_lesions(models, labels)):
        sections.append(Section("lesions", "Lesions", lesions))
    by_label = (class_table(f"cases_{n}", model, m) for n, (model, m) in enumerate(models.items(), start=1))
    return [*sections, Section("cases", "Cases", (case_table(models), *by_label))]


def _about(models: Models) -> Words:
    mode = next(iter(models.values())).mode
    counts = "; ".join(f"{name}: {m.scored} of {m.expected} cases scored" for name, m in models.items())
    meaning = "DSC: Dice coefficient. NSD: surface Dice at each label's tolerance. 100 is best."
    if mode == "plain":
        meaning += " A label is scored in a case only where it was annotated; n says in how many."
    notes = dict.fromkeys(f"Note: {note}" for metrics in models.values() for note in metrics.notes)
    return Words((f"{counts}. Mode: {mode}.", meaning, *notes))


def _failures(models: Models) -> Iterable[Listing]:
    for name, metrics in models.items():
        lines = tuple(f"{case}: {reason}" for case, reason in metrics.failed.items())
        if lines:
            yield Listing(f"{name}: {len(lines)} failed, which count as 0", lines, bad=True)


def _boxes(models: Models, labels: LabelSet) -> Iterable[Chart]:
    for measure in MEASURES:
        scores = {
            name: {model: _percent(case_means(metrics, [name], measure)) for model, metrics in models.items()}
            for name in labels.names_of(labels.values)
        }
        drawn = {name: boxes for name, boxes in scores.items() if any(boxes.values())}
        said = measure.upper()
        words = f"{said} by label: median, quartiles, whiskers to at most 1.5 times their distance; a point is a case."
        yield Chart(_named("boxes", measure), words, box_plots(drawn, axis=f"{said} (%)"))


def _percent(scores: Mapping[str, float]) -> list[float]:
    return [100 * score for score in scores.values()]


def _differences(models: Models, labels: LabelSet) -> Iterable[Table]:
    names = labels.names_of(labels.values)
    means = {ALL: names, **{group: labels.names_of(values) for group, values in labels.groups.items()}}
    single = {name: (name,) for name in names}
    families = (
        ("differences", "means of each case", tested_means(means, models.values())),
        ("differences_by_label", "single labels", single),
    )
    for name, title, rows in families:
        for measure in MEASURES:
            found = _compared(models, rows, measure)
            yield _test_table(_named(name, measure), f"{measure.upper()}: {title}", found)


def _named(name: str, measure: str) -> str:
    """The file name for `measure`: `name` alone for DSC, which comes first."""
    return name if measure == MEASURES[0] else f"{name}_{measure}"


def _compared(models: Models, rows: Mapping[str, Sequence[str]], measure: str) -> list[PairedTest]:
    """The tests on the mean over the labels of each row, corrected as one family."""
    return paired_tests({what: compared_means(models, names, measure) for what, names in rows.items()})


def _test_table(name: str, title: str, found: Sequence[PairedTest]) -> Table:
    rows = tuple(
        (
            *(Cell(text) for text in (each.what, each.one, each.other, str(each.cases), str(each.differ))),
            Cell("-" if each.median is None else f"{100 * each.median:+.2f}"),
            Cell(_said(each.p)),
            Cell(_said(each.corrected), best=each.corrected is not None and each.corrected < SIGNIFICANT),
        )
        for each in found
    )
    tested = sum(each.p is not None for each in found)
    note = (
        "Wilcoxon's signed rank test, two-sided, on cases that both models were scored on, by the labels that all were "
        "scored on there; a model without a score of a label that another one has is in no row with it. Holm's "
        f"correction over all tests of this table ({tested}); bold below {SIGNIFICANT}. Where fewer than "
        f"{FEWEST_CASES} cases differ, no p below {SIGNIFICANT} is possible: too few, so none is given."
    )
    names = ("what", "model", "against", "cases", "differ", "median difference", "p", "p, Holm")
    head = (tuple(Heading(text) for text in names),)
    return Table(name, title, head, rows, words=frozenset({0, 1, 2}), notes=(note,))


def _said(p: float | None) -> str:
    if p is None:
        return "too few"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _lesions(models: Models, labels: LabelSet) -> Iterable[Part]:
    """Lesions found, missed and false, and DSC against the volume of lesions; empty where no case has lesions."""
    lesions = labels.names_of(labels.lesions)
    counted = [
        (label, size, model, str(count.found), str(count.missed), str(count.false))
        for label in lesions
        for size in next(iter(models.values())).lesion_counts.get(label, {})
        for model, metrics in models.items()
        if any(metrics.lesions.values())
        for count in [metrics.lesion_counts[label][size]]
    ]
    if counted:
        head = ("label", "volume", "model", "found", "missed", "false")
        note = "Found: a voxel of it is predicted. False: a predicted lesion that touches none of the truth."
        yield plain_table("lesions", "Lesions by volume", head, counted, words=frozenset({0, 1, 2}), notes=(note,))
    for label in lesions:
        kinds = {
            "case": ({name: _by_volume(m.cases.values(), label) for name, m in models.items()}, f"{label} in a case"),
            "lesion": ({name: _by_lesion(m, label) for name, m in models.items()}, f"a single {label}"),
        }
        for kind, (points, what) in kinds.items():
            if any(points.values()):
                words = f"DSC of {what} against its volume in the ground truth{ONE_BY_ONE if kind == 'lesion' else ''}."
                drawing = scatter(points, x=f"{what} (ml)", y="DSC (%)", log_x=True, ylim=(-3, 103))
                yield Chart(f"dsc_by_{kind}_{labels.names.index(label)}_{label}", words, drawing)


def _by_volume(cases: Iterable, label: str) -> list[tuple[float, float]]:
    scored = (scores[label] for scores in cases if label in scores)
    return [(score.reference_ml, 100 * score.dsc) for score in scored if score.reference_ml]


def _by_lesion(metrics: Metrics, label: str) -> list[tuple[float, float]]:
    """(volume in ml, DSC) of each lesion of the truth, found or missed."""
    lesions = (lesion for found in metrics.lesions.values() for lesion in found if lesion.label == label)
    return [(lesion.volume_ml, 100 * lesion.dsc) for lesion in lesions if lesion.dsc is not None]
