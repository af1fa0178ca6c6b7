import pytest

from flarenet.data.labels import LabelSet
from flarenet.evaluation.lesions import Lesion
from flarenet.evaluation.pairs import CaseScores
from flarenet.evaluation.scores import LabelScore
from flarenet.evaluation.tables import summarise
from flarenet.reporting.published import published
from flarenet.reporting.score_table import case_table, score_table
from flarenet.reporting.scores import score_sections

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


def _metrics(**cases):
    """Metrics of cases given as {label: dsc}; the NSD is half the DSC."""
    return summarise(
        [
            CaseScores(
                name, {label: LabelScore(dsc=dsc, nsd=dsc / 2, reference_ml=2.0) for label, dsc in scores.items()}
            )
            for name, scores in cases.items()
        ],
        LABELS,
    )


A = _metrics(a={"liver": 0.9, "spleen": 0.8}, b={"liver": 0.7, "tumor": 0.5})
B = _metrics(a={"liver": 0.9, "spleen": 0.6}, b={"liver": 0.7, "tumor": 0.6})


def _rows(table):
    return {row[0].text: row[1:] for row in (*table.rows, *table.foot)}


def test_means_deviations_and_counts_by_hand():
    rows = _rows(score_table({"A": A}, LABELS))
    assert [cell.text for cell in rows["liver"]] == ["80.00 ± 14.14", "40.00 ± 7.07", "2"]  # sd of 0.9, 0.7
    assert [cell.text for cell in rows["spleen"]] == ["80.00", "40.00", "1"]
    # labels: (0.8 + 0.8) / 2; cases: 0.85 and 0.7
    assert [cell.text for cell in rows["organ (mean)"]] == ["80.00 ± 10.61", "40.00 ± 5.30", "2"]
    # labels: (0.8 + 0.8 + 0.5) / 3; cases: 0.85 and 0.6
    assert [cell.text for cell in rows["all labels"]] == ["70.00 ± 17.68", "35.00 ± 8.84", "2"]
    assert not any(cell.best for row in rows.values() for cell in row)


def test_the_best_is_bold_and_so_are_equals():
    rows = _rows(score_table({"A": A, "B": B}, LABELS))
    bold = {label: [cell.best for cell in row] for label, row in rows.items()}
    assert bold["liver"] == [True, True, False, True, True, False]
    assert bold["spleen"] == [True, True, False, False, False, False]
    assert bold["tumor"] == [False, False, False, True, True, False]
    by_case = _rows(case_table({"A": A, "B": B}))
    assert [cell.text for cell in by_case["a"]] == ["85.00", "42.50", "75.00", "37.50"]
    assert [cell.best for cell in by_case["b"]] == [False, False, True, True]


def test_a_model_without_a_case_has_a_dash_there():
    rows = _rows(case_table({"A": A, "B": _metrics(a={"liver": 1.0})}))
    assert [cell.text for cell in rows["b"]] == ["60.00", "30.00", "-", "-"]


def test_a_label_without_a_surface_score_is_in_no_mean_of_these():
    """In the spleen of case a no surface counts, and in case b no label has any that does."""
    none = LabelScore(dsc=0.8, nsd=None)
    found = summarise(
        [CaseScores("a", {"liver": LabelScore(dsc=0.6, nsd=0.5), "spleen": none}), CaseScores("b", {"liver": none})],
        LABELS,
    )
    rows = _rows(score_table({"A": found, "B": found}, LABELS))
    assert [cell.text for cell in rows["liver"]][:3] == ["70.00 ± 14.14", "50.00", "2"]
    assert [cell.text for cell in rows["spleen"]][:3] == ["80.00", "-", "1"]
    assert [cell.text for cell in rows["organ (mean)"]][:3] == ["75.00 ± 7.07", "50.00", "2"]
    assert [cell.text for cell in _rows(case_table({"A": found}))["b"]] == ["80.00", "-"]


def test_a_mean_over_fewer_labels_stands_beside_none_over_more():
    """C has the better livers and no case with a spleen; E was scored on fewer labels in one case than A."""
    cases = {name: {"liver": 0.9, "spleen": 0.3 + step / 10} for step, name in enumerate("abcdef")}
    fewer = _metrics(**{name: {"liver": 0.95} for name in cases})
    rows = _rows(score_table({"A": _metrics(**cases), "C": fewer}, LABELS))
    assert [cell.text for cell in rows["liver"]][3::2] == ["95.00 ± 0.00", "6"] and rows["liver"][3].best
    for title in ("organ (mean)", "all labels"):
        assert [cell.text for cell in rows[title]][3:] == ["-", "-", "0"]
        assert rows[title][0].text.startswith("72.50") and not any(cell.best for cell in rows[title])
    sections = score_sections({"A": _metrics(**cases), "C": fewer}, LABELS)  # of no spleen there is no box to draw
    means, _, single, _ = next(section for section in sections if section.name == "differences").parts
    assert [row[0].text for row in means.rows] == ["cancer"]
    assert [row[0].text for row in single.rows] == ["liver", "tumor"]

    other = _metrics(**(cases | {"a": {"liver": 0.7}}))
    tests = _rows(next(s for s in score_sections({"A": _metrics(**cases), "E": other}, LABELS)[1:]).parts[0])
    assert [cell.text for cell in tests["all labels"]][2:5] == ["6", "1", "+0.00"]  # in a: the livers alone
    by_case = _rows(case_table({"A": _metrics(**cases), "E": other}))
    assert [cell.text for cell in by_case["a"]] == ["60.00", "30.00", "70.00", "35.00"]
    assert not any(cell.best for cell in by_case["a"]) and all(cell.best for cell in by_case["b"])


def test_published_rows_are_marked_never_bold_and_right():
    columns = published().columns
    table = score_table({"A": A, "B": B}, LABELS, [column for column in columns if column.table == 6])
    assert sum("published, Table 6" in heading.text for heading in table.head[0]) == 2
    liver = _rows(table)["liver"][6:]
    assert [cell.text for cell in liver] == ["96.67", "95.62", "96.88", "95.19"]
    assert not any(cell.best for cell in liver)
    assert any(note.startswith("†") for note in table.notes)


def test_published_rows_stand_beside_labels_however_these_are_written():
    labels = LabelSet(names=("background", "Liver", "Right_Kidney"), groups={"organ": (1, 2)})
    scores = {name: LabelScore(dsc=0.5, nsd=0.5) for name in ("Liver", "Right_Kidney")}
    metrics = summarise([CaseScores("a", scores)], labels)
    column = next(column for column in published().columns if column.name == "submitted, public validation")
    rows = _rows(score_table({"A": metrics}, labels, [column]))
    assert [cell.text for cell in rows["Right_Kidney"][3:]] == ["97.12 ± 1.74", "98.67 ± 2.28"]
    assert float(rows["organ (mean)"][3].text) == pytest.approx((98.45 + 97.12) / 2, abs=0.006)


def test_what_was_typed_from_the_paper_agrees_with_its_averages():
    found = published()
    assert [column.table for column in found.columns] == [4, 4, 4, 5, 5, 5, 6, 6]
    for column in found.columns:
        if column.name == "submitted, testing":
            continue  # there the paper's averages, 76.90 and 80.98, are not those of its rows, 77.02 and 81.06
        for row, average in ((column.dsc, column.average.dsc), (column.nsd, column.average.nsd)):
            assert len(row) == 14
            assert sum(numbers[0] for numbers in row.values()) / 14 == pytest.approx(average[0], abs=0.011)
    assert [case.size[2] for case in found.efficiency] == [55, 100, 150, 215, 334, 448, 499, 554]


def test_sections_follow_what_there_is():
    assert [section.name for section in score_sections({"A": A}, LABELS)] == ["scores", "lesions", "cases"]
    sections = score_sections({"A": A, "B": B}, LABELS)
    assert [section.name for section in sections] == ["scores", "differences", "lesions", "cases"]
    rows = sections[1].parts[0].rows
    assert [cell.text for cell in rows[0]] == ["all labels", "A", "B", "2", "2", "+2.50", "too few", "too few"]
    assert [table.title for table in sections[1].parts] == [
        f"{measure}: {what}" for what in ("means of each case", "single labels") for measure in ("DSC", "NSD")
    ]
    boxes = [part.name for part in sections[0].parts if part.kind == "chart"]
    assert boxes == ["boxes", "boxes_nsd"]


def test_a_group_that_holds_all_scored_labels_is_not_tested_beside_all_labels():
    better = {name: {"liver": 0.5 + step / 10} for step, name in enumerate("abcdef")}
    models = {"A": _metrics(**better), "B": _metrics(**{name: {"liver": 0.4} for name in better})}
    table = next(s for s in score_sections(models, LABELS) if s.name == "differences").parts[0]
    said = {row[0].text: [cell.text for cell in row[3:]] for row in table.rows}
    assert said == {  # twice 1 / 64 of six differences of one sign; no case asks for a tumor
        "all labels": ["6", "6", "+35.00", "0.0312", "0.0312"],
        "cancer": ["0", "0", "-", "too few", "too few"],
    }


def test_every_lesion_of_the_truth_is_a_point():
    kinds = (("found", 4.0, 0.5), ("missed", 0.2, 0.0), ("false", 9.0, None))
    lesions = tuple(Lesion(label="tumor", outcome=said, volume_ml=ml, dsc=dsc) for said, ml, dsc in kinds)
    tumor = {"tumor": LabelScore(dsc=0.25, nsd=0.2, reference_ml=4.2)}
    metrics = summarise([CaseScores("a", tumor, lesions=lesions)], LABELS)
    lesions_section = next(section for section in score_sections({"A": metrics}, LABELS) if section.name == "lesions")
    points = {
        part.name: part.figure.axes[0].collections[0].get_offsets().tolist()
        for part in lesions_section.parts
        if part.kind == "chart"
    }
    assert points == {"dsc_by_case_3_tumor": [[4.2, 25.0]], "dsc_by_lesion_3_tumor": [[4.0, 50.0], [0.2, 0.0]]}
