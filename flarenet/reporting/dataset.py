"""A data set before training: who looked for what in which cases, how scans lie, how bright labels are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..data.cases import Pool
from ..data.dataset import Dataset
from ..data.findings import Finding, alike
from ..data.verify import Check, look_through
from ..planning.fingerprint import Cohort, Fingerprint
from ..planning.measure import CaseFingerprint
from ..planning.summary import cohort_names, cohort_table, geometry_table
from .charts import Points, histograms, ranges, scatter
from .content import (
    Cell,
    Chart,
    Gallery,
    Heading,
    Listing,
    Part,
    Picture,
    Section,
    Table,
    Words,
    from_terminal,
    plain_table,
)
from .look import Look, added, bins_hu, look_at, worth_a_thumbnail
from .pixels import hex_of

MANY_CASES = 60


def dataset_section(found: Fingerprint) -> Section:
    """Cohorts, label by label; sizes and spacings; the HU of labels."""
    parts: list[Part] = [
        from_terminal("cohorts", cohort_table(found)),
        annotation_table(found),
        from_terminal("geometry", geometry_table(found)),
        *geometry_charts(found),
    ]
    if found.modality == "CT" and any(cohort.labels for cohort in found.cohorts):
        parts.append(intensity_chart(found))
    return Section("dataset", "Data set", tuple(parts))


def look_sections(
    dataset: Dataset, found: Fingerprint, *, workers: int | Pool = 1, beside: Sequence[Finding] = ()
) -> tuple[Check, list[Section]]:
    """A data set before training: the above with HU by label, thumbnails, what is odd, and every finding of the check,
    which is returned too. beside: as in check_dataset
    """
    thumbs = worth_a_thumbnail(found)
    look = partial(look_at, labels=found.labels, is_ct=found.modality == "CT", thumbnails=frozenset(thumbs))
    check, seen = look_through(dataset, look, workers=workers, beside=beside)
    by_case = {case.name: seen[case.image] for case in dataset.cases if case.image in seen}
    sections = [findings_section(check), dataset_section(found)]
    if found.modality == "CT" and (chart := histogram_chart(found, by_case)):
        sections.append(Section("histograms", "HU by label", (chart,)))
    sections.append(Section("thumbnails", "Slices", _thumbnails(found, by_case, thumbs)))
    sections.append(Section("odd", "What a person should look at", _odd(found)))
    return check, [*sections, Section("cases", "Cases", (case_rows(found),))]


def findings_section(check: Check) -> Section:
    """Every finding, the same one of several cases in one row; paths of files without their folders."""
    refused = len(check.refused)
    words = Words((f"{check.cases} cases were checked; {refused} cannot be used.",), bad=bool(refused))
    rows = tuple(
        tuple(
            Cell(text, bad=members[0].severity == "refuse")
            for text in (
                *(members[0].severity, ", ".join(member.case or "(the set)" for member in members)),
                ", ".join(dict.fromkeys(Path(member.file).name for member in members)),
                *(members[0].found, members[0].expected, members[0].remedy),
            )
        )
        for members in alike(check.findings)
    )
    if not rows:
        return Section("findings", "Findings", (words, Words(("Nothing is wrong or odd about the files.",))))
    head = (tuple(Heading(text) for text in ("", "case", "file", "found", "expected", "what to do")),)
    return Section(
        "findings", "Findings", (words, Table("findings", "Findings", head, rows, words=frozenset(range(6))))
    )


def histogram_chart(found: Fingerprint, seen: dict[str, Look]) -> Chart | None:
    """How bright the voxels of each label are, cohort by cohort; None where no label is drawn."""
    names, rows = cohort_names(found), {}
    for value in found.labels.values:
        counts = {
            name: added([seen[c.name] for c in found.cases if c.annotated == pattern and c.name in seen], value)
            for pattern, name in names.items()
            if value in pattern
        }
        if drawn := {name: count for name, count in counts.items() if count.any()}:
            rows[found.labels.names[value]] = drawn
    if not rows:
        return None
    words = (
        "Share of the voxels of each label by HU, all cases of a cohort together; each curve encloses the same area."
    )
    return Chart("histograms", words, histograms(rows, bins_hu(), x="HU"))


def _thumbnails(found: Fingerprint, seen: dict[str, Look], chosen: Sequence[str]) -> tuple[Part, ...]:
    names = {case.name: cohort_names(found)[case.annotated] for case in found.cases}
    pictures = tuple(
        Picture(case, f"{case}, {names[case]}", thumbnail, "image/jpeg")
        for case in chosen
        if case in seen and (thumbnail := seen[case].thumbnail)
    )
    words = f"{len(pictures)} of {len(found.cases)} cases: those that are odd, and of every cohort the same number."
    if len(pictures) == len(found.cases):
        words = "The axial slice of each case that shows the most labels; the middle one where none is drawn."
    there = {value for cohort in found.cohorts for value in cohort.labels}
    colours = {found.labels.names[value]: hex_of(value) for value in sorted(there)}
    return Words((words,)), Gallery(pictures, small=True, colours=colours)


def _odd(found: Fingerprint) -> tuple[Part, ...]:
    labels, absent = found.labels, found.absent.items()
    lists = {
        "Far from the other cases": found.suspicious,
        "Not certain what was looked for": [f"{case}: {reason}" for case, reason in found.ambiguous.items()],
        "Looked for and absent": [f"{case}: {', '.join(labels.names_of(values))}" for case, values in absent],
    }
    told = tuple(Listing(f"{title} ({len(said)})", tuple(said)) for title, said in lists.items() if said)
    return told or (Words(("Nothing stands out.",)),)


def annotation_table(found: Fingerprint) -> Table:
    """Who is annotated for what: a row per label, a column per cohort, "present of looked for"."""
    cohorts = list(zip(cohort_names(found).values(), found.cohorts))
    rows = []
    for value in found.labels.values:
        asked = [cohort for _, cohort in cohorts if value in cohort.pattern]
        total = sum(cohort.cases for cohort in asked)
        present = sum(_present(cohort, value) for cohort in asked)
        cells = [_share(cohort, value) for _, cohort in cohorts]
        rows.append(
            (Cell(found.labels.names[value], bad=not total), *cells, Cell(f"{present} of {total}", bad=not total))
        )
    head = (tuple(Heading(text) for text in ("label", *(f"{name} ({c.cases})" for name, c in cohorts), "all")),)
    note = 'Cases in which the label is there, of those in which somebody looked for it; "-": nobody did.'
    return Table("annotated", "Labels by cohort", head, tuple(rows), notes=(note,))


def _share(cohort: Cohort, value: int) -> Cell:
    if value not in cohort.pattern:
        return Cell("-")
    present = _present(cohort, value)
    return Cell(f"{present} of {cohort.cases}", share=present / cohort.cases)


def _present(cohort: Cohort, value: int) -> int:
    return cohort.labels[value].present if value in cohort.labels else 0


def geometry_charts(found: Fingerprint) -> tuple[Chart, ...]:
    spacing = _by_cohort(found, lambda case: (max(case.spacing_mm[1:]), case.spacing_mm[0]))
    size = _by_cohort(found, lambda case: (max(case.shape[1:]), case.shape[0]))
    return (
        Chart(
            "spacing",
            "Spacing by cohort: within slices and from slice to slice. A point is a case.",
            scatter(spacing, x="within a slice (mm)", y="between slices (mm)", xlim=(0, None), ylim=(0, None)),
        ),
        Chart(
            "size",
            "Size by cohort. A point is a case.",
            scatter(size, x="longer side of a slice (voxels)", y="slices", xlim=(0, None), ylim=(0, None)),
        ),
    )


def _by_cohort(found: Fingerprint, point: Callable[[CaseFingerprint], tuple[float, float]]) -> dict[str, Points]:
    return {
        name: [point(case) for case in found.cases if case.annotated == pattern]
        for pattern, name in cohort_names(found).items()
    }


def intensity_chart(found: Fingerprint) -> Chart:
    """The HU of each label: 5 to 95 % of its voxels, medians over the cases of each cohort."""
    rows = {
        found.labels.names[value]: {
            name: (facts.percentile_05_hu, facts.mean_hu, facts.percentile_95_hu)
            for name, cohort in zip(cohort_names(found).values(), found.cohorts)
            if (facts := cohort.labels.get(value))
        }
        for value in found.labels.values
    }
    words = "HU of each label by cohort: from 5 to 95 % of its voxels, with their mean; medians over the cases."
    return Chart("intensities", words, ranges({label: row for label, row in rows.items() if row}, x="HU"))


def case_rows(found: Fingerprint) -> Table:
    """A row per case."""
    names = cohort_names(found)
    rows = [_case_row(case, names[case.annotated], found) for case in found.cases]
    head = ("case", "cohort", "voxels (z, y, x)", "spacing (mm)", "lowest HU", "highest HU", "looked for and absent")
    words = frozenset({0, 1, 6})
    return plain_table("training_cases", "Cases", head, rows, words=words, folded=len(rows) > MANY_CASES)


def _case_row(case: CaseFingerprint, cohort: str, found: Fingerprint) -> tuple[str, ...]:
    absent = ", ".join(found.labels.names_of(found.absent.get(case.name, ())))
    spacing = " x ".join(f"{mm:.2f}" for mm in case.spacing_mm)
    shape = " x ".join(map(str, case.shape))
    return case.name, cohort, shape, spacing, f"{case.min_hu:g}", f"{case.max_hu:g}", absent
