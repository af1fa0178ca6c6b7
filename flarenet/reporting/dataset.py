"""A data set and its plan before training: labels annotated in which cases, scan geometry, intensities, numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..data.cases import HERE, Pool
from ..data.dataset import Dataset
from ..data.findings import Finding, alike
from ..data.verify import Check, check_dataset
from ..planning.measuring.fingerprint import Cohort, Fingerprint
from ..planning.measuring.measure import CaseFingerprint
from ..planning.plan import Plan
from ..planning.summary import cohort_names, cohort_table, geometry_table, plan_tables, remarks
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
from .look import BYTES_PER_VOXEL, Look, added, bins_hu, look_at, worth_a_thumbnail
from .pixels import hex_of

MANY_CASES, MANY_ROWS = 60, 30


def dataset_section(fingerprint: Fingerprint) -> Section:
    """Cohorts and their labels; sizes and spacings; for CT, the HU of labels."""
    parts: list[Part] = [
        from_terminal("cohorts", cohort_table(fingerprint)),
        annotation_table(fingerprint),
        from_terminal("geometry", geometry_table(fingerprint)),
        *geometry_charts(fingerprint),
    ]
    if fingerprint.modality == "CT" and any(cohort.labels for cohort in fingerprint.cohorts):
        parts.append(intensity_chart(fingerprint))
    return Section("dataset", "Data set", tuple(parts))


def plan_section(plan: Plan, fingerprint: Fingerprint) -> Section:
    """The tables that flarenet_plan prints on what it decided."""
    tables = [
        from_terminal(f"plan_{name}", table, folded=len(table.rows) > MANY_ROWS)
        for name, table in plan_tables(plan, fingerprint).items()
    ]
    notes = [Words(tuple(f"Note: {note}" for note in remarks(fingerprint)))]
    if plan.fingerprint_hash != fingerprint.hash:
        notes.append(Words(("This plan was made from another fingerprint than the one next to it.",), bad=True))
    return Section("plan", "Plan", (*notes, *tables))


def look_sections(
    dataset: Dataset, fingerprint: Fingerprint, *, pool: Pool = HERE, earlier: Sequence[Finding] = ()
) -> tuple[Check, list[Section]]:
    """The check of a data set, and the sections on it before training: all findings of the check, dataset_section, HU
    by label (for CT), thumbnails, odd cases, and all cases.

    pool, earlier  as in check_dataset
    """
    thumbs = worth_a_thumbnail(fingerprint)
    look = partial(look_at, labels=fingerprint.labels, is_ct=fingerprint.modality == "CT", thumbnails=frozenset(thumbs))
    check, seen = check_dataset(dataset, look, pool=pool, earlier=earlier, bytes_per_voxel=BYTES_PER_VOXEL)
    by_case = {case.name: seen[case.image] for case in dataset.cases if case.image in seen}
    sections = [findings_section(check), dataset_section(fingerprint)]
    if fingerprint.modality == "CT" and (chart := histogram_chart(fingerprint, by_case)):
        sections.append(Section("histograms", "HU by label", (chart,)))
    sections.append(Section("thumbnails", "Slices", _thumbnails(fingerprint, by_case, thumbs)))
    sections.append(Section("odd", "What a person should look at", _odd(fingerprint)))
    return check, [*sections, Section("cases", "Cases", (case_rows(fingerprint),))]


def findings_section(check: Check) -> Section:
    """Every finding; one that several cases share is one row. Files are named without their folders."""
    refused = len(check.refused)
    words = Words((f"{check.cases} cases were checked; {refused} cannot be used.",), bad=bool(refused))
    rows = tuple(
        tuple(
            Cell(text, bad=members[0].severity == "refuse")
            for text in (
                *(members[0].severity, ", ".join(member.case or "(the set)" for member in members)),
                ", ".join(dict.fromkeys(member.file_name for member in members)),
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


def histogram_chart(fingerprint: Fingerprint, seen: dict[str, Look]) -> Chart | None:
    """The HU of the voxels of each label, by cohort; None where no case has a labelled voxel."""
    names, rows = cohort_names(fingerprint), {}
    for value in fingerprint.labels.values:
        counts = {
            name: added([seen[c.name] for c in fingerprint.cases if c.annotated == pattern and c.name in seen], value)
            for pattern, name in names.items()
            if value in pattern
        }
        if drawn := {name: count for name, count in counts.items() if count.any()}:
            rows[fingerprint.labels.names[value]] = drawn
    if not rows:
        return None
    words = (
        "Share of the voxels of each label by HU, all cases of a cohort together; each curve encloses the same area."
    )
    return Chart("histograms", words, histograms(rows, bins_hu(), x="HU"))


def _thumbnails(fingerprint: Fingerprint, seen: dict[str, Look], chosen: Sequence[str]) -> tuple[Part, ...]:
    names = {case.name: cohort_names(fingerprint)[case.annotated] for case in fingerprint.cases}
    pictures = tuple(
        Picture(case, f"{case}, {names[case]}", thumbnail, "image/jpeg")
        for case in chosen
        if case in seen and (thumbnail := seen[case].thumbnail)
    )
    cases = len(fingerprint.cases)
    words = f"{len(pictures)} of {cases} cases: those that are odd, and of every cohort the same number."
    if len(pictures) == cases:
        words = "The axial slice of each case that shows the most labels; the middle one where none is drawn."
    there = {value for cohort in fingerprint.cohorts for value in cohort.labels}
    colours = {fingerprint.labels.names[value]: hex_of(value) for value in sorted(there)}
    return Words((words,)), Gallery(pictures, small=True, colours=colours)


def _odd(fingerprint: Fingerprint) -> tuple[Part, ...]:
    labels, absent = fingerprint.labels, fingerprint.absent.items()
    lists = {
        "Far from the other cases": fingerprint.suspicious,
        "Not certain what was looked for": [f"{case}: {reason}" for case, reason in fingerprint.ambiguous.items()],
        "Looked for and absent": [f"{case}: {', '.join(labels.names_of(values))}" for case, values in absent],
    }
    told = tuple(Listing(f"{title} ({len(said)})", tuple(said)) for title, said in lists.items() if said)
    return told or (Words(("Nothing stands out.",)),)


def annotation_table(fingerprint: Fingerprint) -> Table:
    """In how many cases each label was annotated: a row per label, a column per cohort, "present of annotated"."""
    cohorts = list(zip(cohort_names(fingerprint).values(), fingerprint.cohorts))
    rows = []
    for value in fingerprint.labels.values:
        annotated = [cohort for _, cohort in cohorts if value in cohort.pattern]
        total = sum(cohort.cases for cohort in annotated)
        present = sum(_present(cohort, value) for cohort in annotated)
        cells = [_share(cohort, value) for _, cohort in cohorts]
        rows.append(
            (Cell(fingerprint.labels.names[value], bad=not total), *cells, Cell(f"{present} of {total}", bad=not total))
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


def geometry_charts(fingerprint: Fingerprint) -> tuple[Chart, ...]:
    spacing = _by_cohort(fingerprint, lambda case: (max(case.spacing_mm[1:]), case.spacing_mm[0]))
    size = _by_cohort(fingerprint, lambda case: (max(case.shape[1:]), case.shape[0]))
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


def _by_cohort(fingerprint: Fingerprint, point: Callable[[CaseFingerprint], tuple[float, float]]) -> dict[str, Points]:
    return {
        name: [point(case) for case in fingerprint.cases if case.annotated == pattern]
        for pattern, name in cohort_names(fingerprint).items()
    }


def intensity_chart(fingerprint: Fingerprint) -> Chart:
    """The HU of each label: 5th percentile, mean and 95th percentile, as medians over the cases of each cohort."""
    rows = {
        fingerprint.labels.names[value]: {
            name: (facts.percentile_05_hu, facts.mean_hu, facts.percentile_95_hu)
            for name, cohort in zip(cohort_names(fingerprint).values(), fingerprint.cohorts)
            if (facts := cohort.labels.get(value))
        }
        for value in fingerprint.labels.values
    }
    words = "HU of each label by cohort: from 5 to 95 % of its voxels, with their mean; medians over the cases."
    return Chart("intensities", words, ranges({label: row for label, row in rows.items() if row}, x="HU"))


def case_rows(fingerprint: Fingerprint) -> Table:
    """A row per case."""
    names = cohort_names(fingerprint)
    rows = [_case_row(case, names[case.annotated], fingerprint) for case in fingerprint.cases]
    ends = [f"{end} {fingerprint.intensity}" for end in ("lowest", "highest")]
    head = ("case", "cohort", "voxels (z, y, x)", "spacing (mm)", *ends, "looked for and absent")
    words = frozenset({0, 1, 6})
    return plain_table("training_cases", "Cases", head, rows, words=words, folded=len(rows) > MANY_CASES)


def _case_row(case: CaseFingerprint, cohort: str, fingerprint: Fingerprint) -> tuple[str, ...]:
    absent = ", ".join(fingerprint.labels.names_of(fingerprint.absent.get(case.name, ())))
    spacing = " x ".join(f"{mm:.2f}" for mm in case.spacing_mm)
    shape = " x ".join(map(str, case.shape))
    return case.name, cohort, shape, spacing, f"{case.min_hu:g}", f"{case.max_hu:g}", absent
