"""The results of an ablation: means, standard deviations and significance, as JSON, CSV and a printed table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from rich.table import Table

from ..data.labels import LabelSet
from ..evaluation.means import ALL, MEASURES, alike, case_means, tested_means
from ..evaluation.significance import PairedTest, paired_tests
from ..evaluation.tables import Metrics, format_score
from ..schema import Frozen, save
from ..terminal import new_table, show
from ..whole import write_csv

RESULTS, SCORES, DIFFERENCES = "ablation.json", "ablation.csv", "differences.csv"

Found = Mapping[str, Mapping[int, "Metrics | str"]]
"""Variant -> seed -> the scores, or the reason why there are none."""


class Spread(Frozen):
    """How a measure, 0 to 1, of a variant is distributed, for one label or several.

    mean      mean over seeds of each seed's mean; for several labels, that is the mean of the labels' means
    sd        standard deviation over the n cases, each with its mean over seeds
    seeds_sd  standard deviation of the seeds' means
    n         number of cases

    Numbers are None where there is nothing to compute them from, and where the variant lacks the score of a label that
    another variant has: a mean over fewer labels cannot be compared with theirs.
    """

    mean: float | None
    sd: float | None
    seeds_sd: float | None
    n: int


class VariantScores(Frozen):
    """The scores of one variant.

    seeds   the seeds that have scores
    dsc     by label name, then "GROUP (mean)", then "all labels"
    nsd     likewise
    failed  "seed S", or "seed S, CASE" for a single case, which counts as 0 -> reason
    """

    seeds: tuple[int, ...]
    dsc: dict[str, Spread]
    nsd: dict[str, Spread]
    failed: dict[str, str]


class Difference(PairedTest):
    """A test between two variants, on each case's mean over seeds of DSC or NSD, as `measure` says."""

    measure: str


class AblationResults(Frozen):
    """What ablation.json holds.

    fold         the fold whose cases every run holds out, or "all"
    cases        names of the cases scored
    means        what, among the scores of a variant, is a mean over several labels
    differences  Holm's correction is over all means of a measure, and separately over all its single labels. A group
                 that holds every label with a score is not tested in addition to all labels
    """

    dataset: str
    name: str
    fold: str
    seeds: tuple[int, ...]
    cases: tuple[str, ...]
    means: tuple[str, ...]
    variants: dict[str, VariantScores]
    differences: tuple[Difference, ...]


def results(
    found: Found, labels: LabelSet, *, dataset: str, name: str, fold: str, cases: Iterable[str]
) -> AblationResults:
    """The results of the ablation `name`."""
    scores = {variant: _scores(by_seed) for variant, by_seed in found.items()}
    means, single = _means(labels), _single(labels)
    rows = {**single, **means}
    tested = tested_means(means, [metrics for by_seed in scores.values() for metrics in by_seed.values()])
    compared = {what: _alike(scores, names) for what, names in rows.items()}

    def spreads(variant: str, measure: str) -> dict[str, Spread]:
        return {what: _spread(compared[what].get(variant, ()), names, measure) for what, names in rows.items()}

    return AblationResults(
        dataset=dataset,
        name=name,
        fold=fold,
        seeds=tuple(dict.fromkeys(seed for by_seed in found.values() for seed in by_seed)),
        cases=tuple(cases),
        means=tuple(means),
        variants={
            variant: VariantScores(
                seeds=tuple(scores[variant]),
                dsc=spreads(variant, "dsc"),
                nsd=spreads(variant, "nsd"),
                failed=_failures(by_seed),
            )
            for variant, by_seed in found.items()
        },
        differences=tuple(
            Difference(measure=measure, **one.model_dump())
            for family in (tested, single)
            for measure in MEASURES
            for one in paired_tests(_by_case(compared, family, measure))
        ),
    )


def write_results(found: AblationResults, folder: Path) -> None:
    """Write to `folder`: ablation.json; ablation.csv, a row per variant, measure and label or mean; differences.csv."""
    rows = (
        (variant, what, measure, spread.mean, spread.sd, spread.seeds_sd, spread.n, len(scores.seeds))
        for variant, scores in found.variants.items()
        for measure in MEASURES
        for what, spread in getattr(scores, measure).items()
    )
    write_csv(folder / SCORES, ("variant", "what", "measure", "mean", "sd", "seeds_sd", "cases", "seeds"), rows)
    columns = ("measure", *PairedTest.model_fields)
    differences = (tuple(getattr(each, column) for column in columns) for each in found.differences)
    write_csv(folder / DIFFERENCES, columns, differences)
    save(found, folder / RESULTS)


def print_results(found: AblationResults) -> None:
    """Print the means of each variant, the tests between them, notes and failures."""
    title = f"{found.name} on {found.dataset}: {len(found.cases)} cases, seeds {', '.join(map(str, found.seeds))}"
    columns = [(what, measure) for what in found.means for measure in MEASURES]
    table = new_table(title, "variant", *(f">{what} {measure.upper()}" for what, measure in columns))
    for variant, scores in found.variants.items():
        table.add_row(variant, *(_shown(getattr(scores, measure)[what]) for what, measure in columns))
    show(table)
    print("mean ± standard deviation over cases (± over the means of seeds)")
    for variant, labels in _lacking(found).items():
        show(notes=[f"{variant} has no score of {', '.join(labels)}, which others have: no mean or test with these"])
    differences = _difference_table(found)
    if differences.row_count:
        show(differences)
    for variant, scores in found.variants.items():
        show(failed={f"{variant}, {where}": reason for where, reason in scores.failed.items()})


def _lacking(found: AblationResults) -> dict[str, list[str]]:
    """Variant with scores -> labels of which it lacks a score that another variant has; only variants that lack one."""
    scored = {
        variant: [what for what, spread in scores.dsc.items() if what not in found.means and spread.n]
        for variant, scores in found.variants.items()
        if scores.seeds
    }
    every = dict.fromkeys(what for names in scored.values() for what in names)
    lacking = {variant: [what for what in every if what not in names] for variant, names in scored.items()}
    return {variant: names for variant, names in lacking.items() if names}


def _difference_table(found: AblationResults) -> Table:
    title = "differences, Wilcoxon's signed rank test"
    table = new_table(title, "", "variant", "against", ">cases", ">median", ">p", ">p, Holm")
    for one in found.differences:
        if one.what in found.means:
            median = "-" if one.median is None else f"{one.median:+.4f}"
            p, corrected = ("too few" if p is None else f"{p:.4f}" for p in (one.p, one.corrected))
            table.add_row(f"{one.what} {one.measure.upper()}", one.one, one.other, str(one.cases), median, p, corrected)
    return table


def _shown(spread: Spread) -> str:
    if spread.mean is None:
        return "-"
    sd = "" if spread.sd is None else f" ± {spread.sd:.4f}"
    return format_score(spread.mean) + sd + ("" if spread.seeds_sd is None else f" (± {spread.seeds_sd:.4f})")


def _scores(by_seed: Mapping[int, Metrics | str]) -> dict[int, Metrics]:
    return {seed: metrics for seed, metrics in by_seed.items() if isinstance(metrics, Metrics)}


def _failures(by_seed: Mapping[int, Metrics | str]) -> dict[str, str]:
    failed = {f"seed {seed}": reason for seed, reason in by_seed.items() if isinstance(reason, str)}
    for seed, metrics in _scores(by_seed).items():
        failed |= {f"seed {seed}, {case}": reason for case, reason in metrics.failed.items()}
    return failed


def _single(labels: LabelSet) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in labels.names_of(labels.values)}


def _means(labels: LabelSet) -> dict[str, tuple[str, ...]]:
    groups = {f"{group} (mean)": labels.names_of(values) for group, values in labels.groups.items()}
    return {**groups, ALL: labels.names_of(labels.values)}


def _alike(scores: Mapping[str, Mapping[int, Metrics]], names: Sequence[str]) -> dict[str, list[Metrics]]:
    """Variant -> its scores, for the variants that means.alike finds comparable in `names`."""
    found = {variant: list(by_seed.values()) for variant, by_seed in scores.items() if by_seed}
    return {variant: found[variant] for variant in alike(found, names)}


def _spread(by_seed: Sequence[Metrics], names: Sequence[str], measure: str) -> Spread:
    seeds = []
    for metrics in by_seed:
        of_labels = (getattr(metrics.classes[name], measure) for name in names)
        classes = [value for value in of_labels if value is not None]
        seeds += [mean(classes)] if classes else []
    cases = list(_over_seeds([case_means(metrics, names, measure) for metrics in by_seed]).values())
    return Spread(
        mean=mean(seeds) if seeds else None,
        sd=stdev(cases) if len(cases) > 1 else None,
        seeds_sd=stdev(seeds) if len(seeds) > 1 else None,
        n=len(cases),
    )


def _over_seeds(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Case -> the mean of its scores over seeds."""
    cases = dict.fromkeys(case for by_case in scores for case in by_case)
    return {case: mean(by_case[case] for by_case in scores if case in by_case) for case in cases}


def _by_case(
    compared: Mapping[str, Mapping[str, Sequence[Metrics]]], rows: Mapping[str, Sequence[str]], measure: str
) -> dict[str, dict[str, dict[str, float]]]:
    return {
        what: {
            variant: _over_seeds([case_means(metrics, names, measure) for metrics in by_seed])
            for variant, by_seed in compared[what].items()
        }
        for what, names in rows.items()
    }
