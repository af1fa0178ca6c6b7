"""A data set before training: who looked for what in which cases, how scans lie, how bright labels are."""

from __future__ import annotations

from ..planning.fingerprint import Cohort, Fingerprint
from ..planning.measure import CaseFingerprint
from ..planning.summary import cohort_names, cohort_table, geometry_table
from .charts import Points, ranges, scatter
from .content import Cell, Chart, Heading, Part, Section, Table, from_terminal, plain_table

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


def _by_cohort(found: Fingerprint, point) -> dict[str, Points]:
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
